"""How a connection to PostgreSQL is set up: how long anything may take, how values travel, and how
statements are planned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import psycopg
from msgspec import Struct
from psycopg.rows import DictRow
from psycopg.types.array import ListBinaryDumper
from psycopg.types.numeric import Int8BinaryDumper, Int8Dumper
from psycopg.types.string import BytesBinaryDumper, StrBinaryDumper

from dee_es.adapters.postgres_connections import refusal
from dee_es.adapters.postgres_waits import PatientConnection
from dee_es.adapters.storage.postgres.arrays import (
    Blobs,
    BlobsDumper,
    Booleans,
    BooleansDumper,
    Integers,
    IntegersDumper,
    Texts,
    TextsDumper,
)

_PREPARED: Final = 400
"""Statements that a connection keeps prepared."""
KEEPALIVE: Final = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
"""How libpq finds out that the server's machine is gone, in seconds and milliseconds."""

# One type for all integers and one for all texts: otherwise a statement is prepared anew for every
# combination of their sizes. The last one registered for a type is the one that is used, so what
# is sent in arrays is binary too. For bytes it would be one that asks each value in Python what it
# is, which takes longer than all else about a row that is copied.
_DUMPERS: Final = (
    (int, Int8Dumper),
    (int, Int8BinaryDumper),
    (str, StrBinaryDumper),
    (bytes, BytesBinaryDumper),
    (list, ListBinaryDumper),
    (Texts, TextsDumper),
    (Integers, IntegersDumper),
    (Booleans, BooleansDumper),
    (Blobs, BlobsDumper),
)

# Look-ups must go by key even where a plan was made while the tables were empty, so whole-table
# plans are the last resort on these connections. A batch is joined to its table row by row. What
# is committed has to outlive the server, or a message whose intent is gone leaves twice; which
# standbys are waited for beyond that is the administrator's.
_SETTINGS: Final = """
SET search_path = {schema};
SET lock_timeout = '{lock_ms}ms';
SET statement_timeout = '{statement_ms}ms';
SET idle_in_transaction_session_timeout = '{idle_ms}ms';
SELECT set_config('transaction_timeout', '{transaction_ms}ms', false)
    WHERE current_setting('server_version_num')::int >= 170000;
SET default_transaction_isolation = 'read committed';
SELECT set_config('synchronous_commit', 'on', false)
    WHERE current_setting('synchronous_commit') = 'off';
SET array_nulls = on;
SET client_min_messages = warning;
SET enable_seqscan = off;
SET enable_hashjoin = off;
SET enable_mergejoin = off;
SET max_parallel_workers_per_gather = 0;
SET jit = off;
"""


class Bounds(Struct, frozen=True):
    """How long anything may take, in seconds, and how many connections there may be."""

    connect_timeout_s: float = 5.0
    lock_timeout_s: float = 10.0
    statement_timeout_s: float = 30.0
    pool_size: int = 2
    max_overflow: int = 14


class Telling:
    """Keeps why a pool's last try to connect failed: the pool itself tells its log alone."""

    refused: str | None = None

    def connection_class(self) -> type[PatientConnection[DictRow]]:
        """What such a pool has as its connections."""
        telling = self

        class Told(PatientConnection[DictRow]):
            @classmethod
            def connect(cls, *args: Any, **options: Any) -> Any:
                """See `psycopg.Connection.connect`."""
                try:
                    made = super().connect(*args, **options)
                except psycopg.OperationalError as error:
                    telling.refused = refusal(error)
                    raise
                telling.refused = None
                return made

        return Told


def set_up(bounds: Bounds, search_path: str) -> Callable[[psycopg.Connection[Any]], None]:
    """What makes a new connection ready: its statements look in this schema alone."""
    settings = _SETTINGS.format(
        schema=psycopg.sql.Identifier(search_path).as_string(),
        lock_ms=round(bounds.lock_timeout_s * 1000),
        statement_ms=round(bounds.statement_timeout_s * 1000),
        # A client that was stopped inside a transaction must not keep the append lock from
        # everybody else for longer than they are ready to wait for it.
        idle_ms=round(bounds.lock_timeout_s * 500),
        # A pipeline that was stopped half-way counts as busy, not as idle.
        transaction_ms=round((bounds.lock_timeout_s + bounds.statement_timeout_s) * 500),
    ).encode()

    def configure(connection: psycopg.Connection[Any]) -> None:
        assert isinstance(connection, PatientConnection), "the pool makes no others"
        # Longer than a statement may take, so that the server is the first to say so.
        connection.patience_s = bounds.statement_timeout_s + bounds.connect_timeout_s
        connection.autocommit = True
        connection.prepared_max = _PREPARED
        for python_type, dumper in _DUMPERS:
            connection.adapters.register_dumper(python_type, dumper)
        connection.execute(settings)

    return configure
