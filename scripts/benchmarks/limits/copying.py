"""The limit of writing to PostgreSQL: binary COPY of exactly the rows that the engine wrote.

After the engine has worked, every row that it left in any table of its database is read with the
transaction that wrote it, and written once more, transaction by transaction, in the same order,
into empty copies of the same tables with the same indexes, constraints and storage parameters, on
the same server with fsync on. Only the COPY and the commits are timed; the bytes were encoded
before. Of a row that several transactions changed (a count, the head of the log) the last form is
copied, once. The contacts' keys are in a store of their own (SQLite here) and are not copied, which
makes the limit higher rather than lower.
"""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import psycopg

_AT_ONCE = 64
"""Transactions whose bytes are held in memory at a time."""
_TABLES = """
SELECT c.relname, c.reloptions FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'public' AND c.relkind = 'r' ORDER BY c.relname
"""


@dataclass(frozen=True, slots=True)
class Copied:
    """What was copied, and how long that took."""

    rows: int
    size: int
    commits: int
    seconds: float


def transaction_now(database: str) -> int:
    """The number of a transaction that begins now; what is written later has a higher one."""
    with closing(psycopg.connect(database)) as own:
        return int(_one(own, "SELECT pg_current_xact_id()::text"))


def copy_again(database: str, since: int) -> Copied:
    """Write every row of a transaction after `since` again; the copies are dropped afterwards."""
    with closing(psycopg.connect(database, autocommit=True)) as own:
        tables = _stage(own, since)
        commits = _commits(own, tables)
        own.execute("CHECKPOINT")
        rows = size = 0
        seconds = 0.0
        for first in range(0, len(commits), _AT_ONCE):
            prepared = [_bytes(own, tables, commit) for commit in commits[first : first + _AT_ONCE]]
            size += sum(len(data) for parts in prepared for _, data in parts)
            start = time.perf_counter()
            for parts in prepared:
                _write(own, parts)
            seconds += time.perf_counter() - start
        for table in tables:
            written = int(_one(own, f"SELECT count(*) FROM limit_{table}"))
            staged = int(_one(own, f"SELECT count(*) FROM staged_{table}"))
            assert written == staged, f"{table}: copied {written} of {staged} rows"
            rows += written
            own.execute(f"DROP TABLE limit_{table}, staged_{table}".encode())
    return Copied(rows, size, len(commits), seconds)


def _stage(own: psycopg.Connection[Any], since: int) -> list[str]:
    """Rows by transaction and place, and an empty copy of each table that got any."""
    tables = []
    for table, options in own.execute(_TABLES).fetchall():
        own.execute(
            f"CREATE UNLOGGED TABLE staged_{table} AS SELECT xmin::text::bigint AS commit_of, "
            f"ctid AS place, * FROM {table} WHERE xmin::text::bigint > {since}".encode()
        )
        if not int(_one(own, f"SELECT count(*) FROM staged_{table}")):
            own.execute(f"DROP TABLE staged_{table}".encode())
            continue
        own.execute(f"CREATE INDEX ON staged_{table} (commit_of, place)".encode())
        own.execute(f"ANALYZE staged_{table}".encode())
        own.execute(f"CREATE TABLE limit_{table} (LIKE {table} INCLUDING ALL)".encode())
        if options:
            # LIKE leaves these out; a fill factor decides how many pages are written.
            own.execute(f"ALTER TABLE limit_{table} SET ({', '.join(options)})".encode())
        tables.append(table)
    return tables


def _commits(own: psycopg.Connection[Any], tables: list[str]) -> list[int]:
    union = " UNION ".join(f"SELECT commit_of FROM staged_{table}" for table in tables)
    return [row[0] for row in own.execute(f"{union} ORDER BY 1".encode()).fetchall()]


def _bytes(own: psycopg.Connection[Any], tables: list[str], commit: int) -> list[tuple[str, bytes]]:
    parts = []
    for table in tables:
        columns = _columns(own, table)
        query = f"SELECT {columns} FROM staged_{table} WHERE commit_of = {commit} ORDER BY place"
        with own.cursor().copy(f"COPY ({query}) TO STDOUT (FORMAT BINARY)".encode()) as copy:
            data = b"".join(bytes(block) for block in copy)
        if len(data) > _EMPTY:
            parts.append((f"limit_{table} ({columns})", data))
    return parts


_EMPTY = 21
"""Bytes of a binary COPY without rows: its head and its end."""


def _columns(own: psycopg.Connection[Any], table: str) -> str:
    found = own.execute(
        "SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute "
        "WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped",
        (f"limit_{table}",),
        prepare=True,
    ).fetchone()
    assert found is not None, "an aggregate has a row"
    return str(found[0])


def _write(own: psycopg.Connection[Any], parts: list[tuple[str, bytes]]) -> None:
    with own.transaction():
        for target, data in parts:
            with own.cursor().copy(f"COPY {target} FROM STDIN (FORMAT BINARY)".encode()) as copy:
                copy.write(data)


def _one(own: psycopg.Connection[Any], query: str) -> Any:
    found = own.execute(query.encode()).fetchone()
    assert found is not None, "a count has a row"
    return found[0]
