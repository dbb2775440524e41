"""One transaction on PostgreSQL: down a pipeline, but for the many rows that it copies at its end.

Rows travel as columns, an array each, so that one statement writes or changes any number of them.
What a small transaction writes is a single statement: each costs both sides more than the row that
it writes. For the same reason it has no BEGIN and no COMMIT: what goes down a pipeline is a
transaction until the client asks for an end of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import lru_cache
from itertools import chain
from typing import Any, Final, Literal

import psycopg
from psycopg.rows import tuple_row

from dee_es.adapters.postgres_waits import PatientConnection
from dee_es.adapters.storage.postgres.arrays import as_arrays, as_columns
from dee_es.adapters.storage.relational.session import Relation, Values, quoted
from dee_es.core.projection import ColumnKind

BEGIN: Final = b"BEGIN"
_COMMIT: Final = b"COMMIT"
MANY_ROWS: Final = 16
"""From this many rows on, they are sent at once: the server is to begin while more is prepared."""
COPY_ROWS: Final = 200
"""From this many new rows on, COPY is quicker, although it has to wait for all before it."""
_AT_ONCE: Final = 5_000
"""Rows that one statement writes, at the most."""

_Form = Literal["row", "arrays"]
_Statement = Callable[[Relation, _Form], str]
_TYPES: Final[dict[ColumnKind, str]] = {
    "text": "text",
    "integer": "int8",
    "boolean": "bool",
    "bytes": "bytea",
}


class PostgresSession:
    """Implements `Session` on a connection that is in no transaction."""

    def __init__(self, connection: PatientConnection[Any], *, pipelined: bool) -> None:
        self._connection = connection
        self._pipelined = pipelined
        self._pipeline = ExitStack()
        self._explicit = False
        # What is yet to be written, by table: of one statement's parts none sees another's rows.
        self._later: dict[str, tuple[str, Sequence[object]]] = {}

    @contextmanager
    def open(self, first: bytes, *, begins: bool = True) -> Iterator[None]:
        """A transaction around what is done inside, with this as its first statement, which begins
        it unless it is to be one by its pipeline alone. After an error the connection has one that
        is to be rolled back."""
        self._explicit = begins
        with self._pipeline:
            if self._pipelined:
                self._pipeline.enter_context(self._connection.pipeline())
            self.run(first)
            try:
                yield
                if not self._explicit:
                    self._write_now()
            except BaseException:
                self._break_off()
                raise
            if self._explicit:
                # What is still to be written goes along with it.
                if not self._pipelined:
                    self._pipeline.enter_context(self._connection.pipeline())
                self.run(_COMMIT)

    def _break_off(self) -> None:
        """After an error: nothing of this transaction may be committed."""
        self._later = {}
        try:
            # A pipeline that the server has given up refuses this, and commits nothing either.
            with suppress(psycopg.Error):
                self._make_explicit()
        except BaseException:
            self._connection.close()
            raise

    def _make_explicit(self) -> None:
        """Have the transaction go on where the pipeline ends, which would commit it."""
        if not self._explicit:
            self._cursor().execute(BEGIN)
            # Only now: who is interrupted before has none yet, and a second BEGIN does no harm.
            self._explicit = True

    def run(self, statement: bytes) -> None:
        """Send a statement that has no values and no result of interest; outside of a pipeline it
        may be several."""
        self._write_now()
        psycopg.RawCursor(self._connection).execute(statement)

    def ask(self, sql: str, params: Sequence[object] = ()) -> psycopg.Cursor[Any]:
        """See `Session.ask`; in a pipeline the statement is only under way when this returns."""
        self._write_now()
        return self._execute(_numbered(sql), params)

    def change(self, table: str, sql: str, params: Sequence[object]) -> None:
        """See `Session.change`."""
        self._write_now(table)
        self._later[table] = (sql, params)

    def _write_now(self, table: str | None = None) -> None:
        """Send what was put off; with a table, only if something of that is among it."""
        if self._later and (table is None or table in self._later):
            statements, values = zip(*self._later.values(), strict=True)
            self._later = {}
            self._execute(_together(statements), list(chain.from_iterable(values)))

    def insert(self, relation: Relation, rows: Sequence[Values]) -> None:
        """See `Session.insert`."""
        if len(rows) < COPY_ROWS:
            self._write(relation, rows, _insert)
        else:
            self._copy(relation, rows)

    def update(self, relation: Relation, rows: Sequence[Values]) -> None:
        """See `Session.update`."""
        self._write(relation, rows, _update)

    def upsert(self, relation: Relation, rows: Sequence[Values]) -> None:
        """See `Session.upsert`."""
        self._write(relation, rows, _upsert)

    def add(self, relation: Relation, rows: Sequence[Values]) -> None:
        """See `Session.add`."""
        self._write(relation, rows, _add)

    def _write(self, relation: Relation, rows: Sequence[Values], statement: _Statement) -> None:
        if len(rows) == 1:
            self.change(relation.name, statement(relation, "row"), rows[0])
            return
        kinds = [kind for _, kind in relation.columns]
        for start in range(0, len(rows), _AT_ONCE):
            columns = as_columns(kinds, rows[start : start + _AT_ONCE])
            self.change(relation.name, statement(relation, "arrays"), columns)
        if len(rows) >= MANY_ROWS:
            self._write_now()

    def _copy(self, relation: Relation, rows: Sequence[Values]) -> None:
        self._write_now(relation.name)
        self._leave_pipeline()
        with self._cursor().copy(_copy_statement(relation)) as copy:
            copy.set_types([_TYPES[kind] for _, kind in relation.columns])
            write_row = copy.write_row
            for row in rows:
                write_row(row)

    def _leave_pipeline(self) -> None:
        """COPY cannot travel in a pipeline: wait for what is under way and go on without one."""
        self._make_explicit()
        self._pipeline.close()
        self._pipelined = False

    def _execute(self, sql: bytes, params: Sequence[object] = ()) -> psycopg.Cursor[Any]:
        return self._cursor().execute(sql, as_arrays(params), prepare=True)

    def _cursor(self) -> psycopg.Cursor[Any]:
        # Places for values are numbered here, so that nobody else has to look for them.
        cursor = psycopg.RawCursor(self._connection, row_factory=tuple_row)
        cursor.format = psycopg.pq.Format.BINARY
        return cursor


# The statements below are built from declared identifiers alone; no value is ever part of a text.


@lru_cache(maxsize=1024)
def _numbered(sql: str) -> bytes:
    """A statement with its places for values as the server knows them."""
    text = sql.replace("IN ??", "= ANY(?)")
    first, *rest = text.split("?")
    return "".join((first, *(f"${n}{part}" for n, part in enumerate(rest, start=1)))).encode()


@lru_cache(maxsize=1024)
def _together(statements: tuple[str, ...]) -> bytes:
    """Statements that change different tables as one."""
    *others, last = statements
    parts = (f"w{n} AS ({statement})" for n, statement in enumerate(others))
    return _numbered(f"WITH {', '.join(parts)} {last}" if others else last)


def _source(relation: Relation, form: _Form) -> str:
    """Where the rows of a statement come from; one row is bound quickest without arrays."""
    types = [_TYPES[kind] for _, kind in relation.columns]
    match form:
        case "row":
            return f"(VALUES ({', '.join(f'?::{kind}' for kind in types)}))"
        case "arrays":
            return f"unnest({', '.join(f'?::{kind}[]' for kind in types)})"


@lru_cache(maxsize=256)
def _insert(relation: Relation, form: _Form) -> str:
    target = f"INSERT INTO {quoted(relation.name)} AS t ({relation.listed})"
    return f"{target} SELECT * FROM {_source(relation, form)} AS s"  # noqa: S608


@lru_cache(maxsize=256)
def _update(relation: Relation, form: _Form) -> str:
    changes = ", ".join(f"{quoted(name)} = s.{quoted(name)}" for name in relation.rest)
    key = " AND ".join(f"t.{quoted(name)} = s.{quoted(name)}" for name in relation.key)
    source = f"{_source(relation, form)} AS s ({relation.listed})"
    target = f"UPDATE {quoted(relation.name)} AS t SET {changes}"  # noqa: S608
    return f"{target} FROM {source} WHERE {key}"


@lru_cache(maxsize=256)
def _upsert(relation: Relation, form: _Form) -> str:
    changes = ", ".join(f"{quoted(name)} = excluded.{quoted(name)}" for name in relation.rest)
    return _insert(relation, form) + _on_conflict(relation, changes)


@lru_cache(maxsize=256)
def _add(relation: Relation, form: _Form) -> str:
    (value,) = map(quoted, relation.rest)
    changes = f"{value} = t.{value} + excluded.{value}"
    return _insert(relation, form) + _on_conflict(relation, changes)


def _on_conflict(relation: Relation, changes: str) -> str:
    key = ", ".join(map(quoted, relation.key))
    return f" ON CONFLICT ({key}) DO UPDATE SET {changes}"


@lru_cache(maxsize=256)
def _copy_statement(relation: Relation) -> bytes:
    target = f"{quoted(relation.name)} ({relation.listed})"
    return f"COPY {target} FROM STDIN (FORMAT BINARY)".encode()
