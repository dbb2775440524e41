"""Wrapped keys in PostgreSQL, at a URL of their own.

An emptied row leaves its old version behind until VACUUM, and in write-ahead logs and backups; what
stays there is wrapped by the master key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from threading import Lock
from typing import Any, Final, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict

from dee_es.errors import InvalidInput, StoreUnavailable

_LOCK: Final = 0x6465656B65
"""Advisory lock under which one process at a time makes tables and the store's secret."""

# A key must be durable before anything is encrypted with it, whatever the database's default is.
_SETTINGS: Final = """
SET synchronous_commit = on;
SET statement_timeout = '10s';
SET lock_timeout = '10s';
SET idle_in_transaction_session_timeout = '10s'
"""
_CONNECT: Final[dict[str, Any]] = {
    "connect_timeout": 5,
    "tcp_user_timeout": 10_000,
    "keepalives_idle": 10,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "application_name": "dee-es keys",
}

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS keys (
    key_id bytea PRIMARY KEY,
    wrapped bytea
);
CREATE TABLE IF NOT EXISTS key_meta (
    name text PRIMARY KEY,
    secret bytea,
    counter bigint NOT NULL DEFAULT 0
);
INSERT INTO key_meta (name) VALUES ('store') ON CONFLICT DO NOTHING
"""

_SECRET: Final = "SELECT secret FROM key_meta WHERE name = 'store' FOR UPDATE"  # noqa: S105
_SET_SECRET: Final = "UPDATE key_meta SET secret = %b WHERE name = 'store'"  # noqa: S105
_COPY: Final = "COPY keys (key_id, wrapped) FROM STDIN (FORMAT BINARY)"
_FETCH: Final = "SELECT key_id, wrapped FROM keys WHERE key_id = ANY(%b)"
_DESTROY: Final = "UPDATE keys SET wrapped = NULL WHERE key_id = %b"
_COUNT: Final = "UPDATE key_meta SET counter = counter + 1 WHERE name = 'store'"
_DESTROYED: Final = "SELECT counter FROM key_meta WHERE name = 'store'"

ResultT = TypeVar("ResultT")
Connection = psycopg.Connection[tuple[Any, ...]]


class PostgresKeyTable:
    """A `KeyTable` behind a URL; one connection, used by one thread at a time, opened again when
    the server has dropped it."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.where = _describe(url)
        self._lock = Lock()
        self._connection: Connection | None = None
        self._open = True
        self._run(_prepare)

    def secret(self, make: Callable[[], bytes]) -> bytes:
        """See `KeyTable.secret`; of several processes that open a new store, one makes it."""

        def read_or_make(connection: Connection) -> bytes:
            row = connection.execute(_SECRET).fetchone()
            if row is not None and row[0] is not None:
                return bytes(row[0])
            made = make()
            connection.execute(_SET_SECRET, (made,))
            return made

        return self._run(read_or_make)

    def insert(self, rows: Sequence[tuple[bytes, bytes]]) -> bool:
        """See `KeyTable.insert`."""

        def copy(connection: Connection) -> None:
            with connection.cursor().copy(_COPY) as stream:
                stream.set_types(("bytea", "bytea"))
                for row in rows:
                    stream.write_row(row)

        try:
            self._run(copy)
        except psycopg.errors.UniqueViolation:
            # Also what a second try meets when only the reply to the first one was lost; those keys
            # are then left unused.
            return False
        return True

    def fetch(self, key_ids: Sequence[bytes]) -> Mapping[bytes, bytes | None]:
        """See `KeyTable.fetch`."""
        wanted = list(key_ids)

        def select(connection: Connection) -> dict[bytes, bytes | None]:
            cursor = connection.cursor(binary=True)
            return dict(cursor.execute(_FETCH, (wanted,)).fetchall())

        return self._run(select)

    def destroy(self, key_id: bytes) -> bool:
        """See `KeyTable.destroy`."""

        def empty(connection: Connection) -> bool:
            known = connection.execute(_DESTROY, (key_id,)).rowcount == 1
            if known:
                connection.execute(_COUNT)
            return known

        return self._run(empty)

    def destroyed(self) -> int:
        """See `KeyTable.destroyed`."""

        def read(connection: Connection) -> int:
            row = connection.execute(_DESTROYED).fetchone()
            return int(row[0]) if row is not None else 0

        return self._run(read)

    def close(self) -> None:
        """See `KeyTable.close`."""
        with self._lock:
            self._open = False
            self._drop()

    def _run(self, work: Callable[[Connection], ResultT]) -> ResultT:
        """Do the work in one transaction; once more if the connection turns out to be lost.

        All work here may be done twice: what it adds has ids of its own, and a key that is
        destroyed twice is destroyed.
        """
        with self._lock, self._bounded():
            if not self._open:
                raise StoreUnavailable(f"{self.where} was closed; open it again")
            reused = self._connection is not None
            try:
                return self._attempt(work)
            except psycopg.OperationalError:
                lost = self._connection is None or self._connection.closed
                if not (reused and lost):
                    raise
                self._drop()
                return self._attempt(work)

    def _attempt(self, work: Callable[[Connection], ResultT]) -> ResultT:
        if self._connection is None:
            self._connection = psycopg.connect(self._url, autocommit=True, **_CONNECT)
            self._connection.execute(_SETTINGS)
        with self._connection.transaction():
            return work(self._connection)

    def _drop(self) -> None:
        if self._connection is not None:
            with suppress(psycopg.Error):
                self._connection.close()
            self._connection = None

    @contextmanager
    def _bounded(self) -> Iterator[None]:
        """Turn what PostgreSQL refuses into `StoreUnavailable`."""
        try:
            yield
        except psycopg.errors.UniqueViolation:
            raise
        except psycopg.Error as error:
            if self._connection is not None and self._connection.closed:
                self._drop()
            raise StoreUnavailable(f"{self.where}: {_reason(error)}") from error


def _prepare(connection: Connection) -> None:
    # Two processes that make the same table at once would clash in the catalogue.
    connection.execute(f"SELECT pg_advisory_xact_lock({_LOCK})")
    connection.execute(_SCHEMA)


def _describe(url: str) -> str:
    """Name the store without its password."""
    try:
        parts = conninfo_to_dict(url)
    except psycopg.Error:
        # `from None`: libpq quotes what it could not read, a password for example.
        raise InvalidInput("key store URL", "is not a PostgreSQL URL") from None
    host, name = parts.get("host") or "localhost", parts.get("dbname") or ""
    return f"key store {name} on PostgreSQL at {host}"


def _reason(error: psycopg.Error) -> str:
    # The first line only: PostgreSQL puts values of the row into the details.
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
