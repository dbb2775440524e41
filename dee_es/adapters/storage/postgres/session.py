"""One transaction on PostgreSQL: pipelined when small, binary COPY when large."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from typing import Any, Final, Literal

import psycopg
from psycopg.rows import tuple_row

from dee_es.adapters.storage.relational.session import Relation, Values, quoted
from dee_es.core.projection import ColumnKind

COPY_ROWS: Final = 16
"""From this many rows on, COPY is quicker than arrays, and a pipeline can no longer be trusted:
the more is sent without reading, the nearer both sides come to waiting for each other."""

_Form = Literal["row", "arrays", "stage"]
_TYPES: Final[dict[ColumnKind, str]] = {
    "text": "text",
    "integer": "int8",
    "boolean": "bool",
    "bytes": "bytea",
}


class PostgresSession:
    """Implements `Session` on a connection whose transaction the caller opens."""

    def __init__(self, connection: psycopg.Connection[Any], *, pipelined: bool) -> None:
        self._connection = connection
        self._pipelined = pipelined
        self._pipeline = ExitStack()

    @contextmanager
    def open(self) -> Iterator[None]:
        """Statements inside go down a pipeline, if the session was made for one."""
        with self._pipeline:
            if self._pipelined:
                self._pipeline.enter_context(self._connection.pipeline())
            yield

    def run(self, statement: bytes) -> None:
        """Send a statement that has no values and no result of interest."""
        self._cursor().execute(statement)

    def ask(self, sql: str, params: Sequence[object] = ()) -> psycopg.Cursor[Any]:
        """See `Session.ask`; in a pipeline the statement is only under way when this returns."""
        return self._execute(_translated(sql), params)

    def insert(self, relation: Relation, rows: Sequence[Values]) -> None:
        """See `Session.insert`."""
        if len(rows) == 1:
            self._execute(_insert(relation, "row"), rows[0])
        elif len(rows) < COPY_ROWS:
            self._execute(_insert(relation, "arrays"), _arrays(rows))
        else:
            self._copy(relation, relation.name, rows)

    def update(self, relation: Relation, rows: Sequence[Values]) -> None:
        """See `Session.update`."""
        self._merge(relation, rows, _update)

    def upsert(self, relation: Relation, rows: Sequence[Values]) -> None:
        """See `Session.upsert`."""
        self._merge(relation, rows, _upsert)

    def add(self, relation: Relation, rows: Sequence[Values]) -> None:
        """See `Session.add`."""
        self._merge(relation, rows, _add)

    def _merge(
        self,
        relation: Relation,
        rows: Sequence[Values],
        statement: Callable[[Relation, _Form], bytes],
    ) -> None:
        if len(rows) == 1:
            self._execute(statement(relation, "row"), rows[0])
            return
        if len(rows) < COPY_ROWS:
            self._execute(statement(relation, "arrays"), _arrays(rows))
            return
        self._leave_pipeline()
        self._execute(_stage(relation))
        self._copy(relation, _stage_name(relation), rows)
        self._execute(statement(relation, "stage"))
        # Another batch of the same transaction starts from an empty stage.
        self._execute(_empty_stage(relation))

    def _copy(self, relation: Relation, target: str, rows: Sequence[Values]) -> None:
        self._leave_pipeline()
        with self._cursor().copy(_copy_statement(relation, target)) as copy:
            copy.set_types([_TYPES[kind] for _, kind in relation.columns])
            write_row = copy.write_row
            for row in rows:
                write_row(row)

    def _leave_pipeline(self) -> None:
        """COPY cannot travel in a pipeline: wait for what is under way and go on without one."""
        self._pipeline.close()

    def _execute(self, sql: bytes, params: Sequence[object] = ()) -> psycopg.Cursor[Any]:
        return self._cursor().execute(sql, params, prepare=True)

    def _cursor(self) -> psycopg.Cursor[Any]:
        return self._connection.cursor(binary=True, row_factory=tuple_row)


# The statements below are built from declared identifiers alone; no value is ever part of a text.


def _arrays(rows: Sequence[Values]) -> list[list[Any]]:
    """Rows as columns: one statement then serves any number of rows."""
    return [list(column) for column in zip(*rows, strict=True)]


@lru_cache(maxsize=512)
def _translated(sql: str) -> bytes:
    text = sql.replace("%", "%%").replace("IN ??", "= ANY(%s)").replace("?", "%s")
    return text.encode()


def _source(relation: Relation, form: _Form) -> str:
    """Where the rows of a statement come from; one row is bound quickest without arrays."""
    types = [_TYPES[kind] for _, kind in relation.columns]
    match form:
        case "row":
            return f"(VALUES ({', '.join(f'%s::{kind}' for kind in types)}))"
        case "arrays":
            return f"unnest({', '.join(f'%s::{kind}[]' for kind in types)})"
        case "stage":
            return quoted(_stage_name(relation))


@lru_cache(maxsize=256)
def _insert(relation: Relation, form: _Form) -> bytes:
    target = f"INSERT INTO {quoted(relation.name)} AS t ({relation.listed})"
    return f"{target} SELECT * FROM {_source(relation, form)} AS s".encode()  # noqa: S608


@lru_cache(maxsize=256)
def _update(relation: Relation, form: _Form) -> bytes:
    changes = ", ".join(f"{quoted(name)} = s.{quoted(name)}" for name in relation.rest)
    key = " AND ".join(f"t.{quoted(name)} = s.{quoted(name)}" for name in relation.key)
    source = f"{_source(relation, form)} AS s ({relation.listed})"
    target = f"UPDATE {quoted(relation.name)} AS t SET {changes}"  # noqa: S608
    return f"{target} FROM {source} WHERE {key}".encode()


@lru_cache(maxsize=256)
def _upsert(relation: Relation, form: _Form) -> bytes:
    changes = ", ".join(f"{quoted(name)} = excluded.{quoted(name)}" for name in relation.rest)
    return _insert(relation, form) + _on_conflict(relation, changes)


@lru_cache(maxsize=256)
def _add(relation: Relation, form: _Form) -> bytes:
    (value,) = map(quoted, relation.rest)
    changes = f"{value} = t.{value} + excluded.{value}"
    return _insert(relation, form) + _on_conflict(relation, changes)


def _on_conflict(relation: Relation, changes: str) -> bytes:
    key = ", ".join(map(quoted, relation.key))
    return f" ON CONFLICT ({key}) DO UPDATE SET {changes}".encode()


def _stage_name(relation: Relation) -> str:
    return f"stage_{relation.name}"


@lru_cache(maxsize=256)
def _stage(relation: Relation) -> bytes:
    # Made once on each connection, and emptied by every commit.
    columns = f"SELECT {relation.listed} FROM {quoted(relation.name)}"  # noqa: S608
    stage = f"CREATE TEMPORARY TABLE IF NOT EXISTS {quoted(_stage_name(relation))}"
    return f"{stage} ON COMMIT DELETE ROWS AS {columns} WITH NO DATA".encode()


@lru_cache(maxsize=256)
def _empty_stage(relation: Relation) -> bytes:
    return f"TRUNCATE {quoted(_stage_name(relation))}".encode()


@lru_cache(maxsize=256)
def _copy_statement(relation: Relation, target: str) -> bytes:
    return f"COPY {quoted(target)} ({relation.listed}) FROM STDIN (FORMAT BINARY)".encode()
