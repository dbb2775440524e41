"""Projection tables: from their declarations to relations and DDL, and the projector's access."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, TypeVar

import msgspec

from dee_es.adapters.storage.relational import statements as sql
from dee_es.adapters.storage.relational.session import Relation, Session, as_asked, quoted
from dee_es.core.projection import ColumnKind, CountKey, Key, Row, Table
from dee_es.ports import StoredRow

RowT = TypeVar("RowT", bound=Row)


@lru_cache(maxsize=256)
def rows_relation(table: Table[Any]) -> Relation:
    """The relation that holds the table's rows."""
    columns = tuple((column.name, column.kind) for column in table.columns)
    return Relation(table.physical_name, columns, key=(table.key,))


@lru_cache(maxsize=256)
def counts_relation(table: Table[Any]) -> Relation:
    """The relation that holds the counts beside a counted table."""
    return Relation(
        f"{table.physical_name}_counts",
        (*table.counted, ("n", "integer")),
        key=tuple(name for name, _ in table.counted),
    )


def create_statements(
    table: Table[Any], types: Mapping[ColumnKind, str], options: str = ""
) -> list[str]:
    """DDL for a table, its indexes and its counts, each a no-op where it exists already."""
    relation = rows_relation(table)
    columns = [
        f"{quoted(column.name)} {types[column.kind]}" + ("" if column.nullable else " NOT NULL")
        for column in table.columns
    ]
    columns.append(f"PRIMARY KEY ({quoted(table.key)})")
    statements = [
        f"CREATE TABLE IF NOT EXISTS {quoted(relation.name)} ({', '.join(columns)}) {options}"
    ]
    for index in table.indexes:
        name = quoted(f"{relation.name}_by_{'_'.join(index)}")
        listed = ", ".join(quoted(column) for column in index)
        statements.append(
            f"CREATE INDEX IF NOT EXISTS {name} ON {quoted(relation.name)} ({listed})"
        )
    if table.counted:
        counts = counts_relation(table)
        listed = ", ".join(f"{quoted(n)} {types[kind]} NOT NULL" for n, kind in counts.columns)
        statements.append(
            f"CREATE TABLE IF NOT EXISTS {quoted(counts.name)} "
            f"({listed}, PRIMARY KEY ({', '.join(map(quoted, counts.key))})) {options}"
        )
    return statements


class RowReader:
    """Rebuilds rows of one table from what a database returns."""

    def __init__(self, table: Table[Any]) -> None:
        self._row_type = table.row_type
        # SQLite keeps booleans as 0 and 1.
        self._booleans = [i for i, c in enumerate(table.columns) if c.kind == "boolean"]

    def rows(self, values: Sequence[Any]) -> list[Any]:
        """The rows, in the order given."""
        if not self._booleans:
            return [self._row_type(*row) for row in values]
        return [self._row_type(*self._typed(list(row))) for row in values]

    def _typed(self, row: list[Any]) -> list[Any]:
        for index in self._booleans:
            if row[index] is not None:
                row[index] = bool(row[index])
        return row


# A select's text differs by table and by what is asked, never by data.
_BY_KEY: Final = "SELECT {columns} FROM {table} WHERE {key} IN ??"


class Tables:
    """Implements `TableTransaction` on an open session."""

    def __init__(self, session: Session, checkpoints: Sequence[Any] | None = None) -> None:
        self._session = session
        self._checkpoints: dict[tuple[str, int], tuple[int, int]] | None = None
        if checkpoints is not None:
            self._checkpoints = {(row[0], row[1]): (row[2], row[3]) for row in checkpoints}

    def checkpoint(self, projection: str, version: int) -> tuple[int, int]:
        """See `TableTransaction.checkpoint`."""
        if self._checkpoints is not None:
            return self._checkpoints.get((projection, version), (0, 0))
        rows = self._session.ask(sql.READ_CHECKPOINT, (projection, version)).fetchall()
        return (rows[0][0], rows[0][1]) if rows else (0, 0)

    def save_checkpoint(self, projection: str, version: int, position: int, ordinal: int) -> None:
        """See `TableTransaction.save_checkpoint`."""
        self._session.upsert(sql.PROJECTIONS, [(projection, version, position, ordinal)])
        if self._checkpoints is not None:
            self._checkpoints[projection, version] = (position, ordinal)

    def rows(self, table: Table[RowT], keys: Sequence[Key]) -> dict[Key, RowT]:
        """See `TableTransaction.rows`."""
        if not keys:
            return {}
        relation = rows_relation(table)
        statement = _BY_KEY.format(
            columns=relation.listed, table=quoted(relation.name), key=quoted(table.key)
        )
        found = self._session.ask(statement, (list(keys),)).fetchall()
        at = relation.names.index(table.key)
        rows: list[RowT] = RowReader(table).rows(found)
        by_key = {values[at]: row for values, row in zip(found, rows, strict=True)}
        return as_asked(keys, by_key)

    def write(self, table: Table[RowT], inserts: Sequence[RowT], updates: Sequence[RowT]) -> None:
        """See `TableTransaction.write`."""
        relation = rows_relation(table)
        if inserts:
            self._session.insert(relation, [msgspec.structs.astuple(row) for row in inserts])
        if updates:
            self._session.update(relation, [msgspec.structs.astuple(row) for row in updates])

    def add_counts(self, table: Table[RowT], deltas: Mapping[CountKey, int]) -> None:
        """See `TableTransaction.add_counts`."""
        # In key order, so that rows that will be read together are stored together.
        rows = [(*key, n) for key, n in sorted(deltas.items()) if n]
        if rows:
            self._session.add(counts_relation(table), rows)

    def read_log(self, after: int, limit: int) -> list[StoredRow]:
        """See `TableTransaction.read_log`."""
        rows = self._session.ask(sql.READ_LOG, (after, limit)).fetchall()
        return [StoredRow(*row) for row in rows]
