"""Projection tables: from their declarations to relations and DDL, and the projector's access."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final, TypeVar

import msgspec

from dee_es.adapters.storage.relational import relations
from dee_es.adapters.storage.relational import statements as sql
from dee_es.adapters.storage.relational.session import Relation, Session, as_asked, quoted
from dee_es.core.projection import ColumnKind, CountKey, Key, Row, Table
from dee_es.ports import BuildKey, BuildRow, ParkedRow, RebuildRow, StoredRow

RowT = TypeVar("RowT", bound=Row)


@lru_cache(maxsize=256)
def rows_relation(table: Table[Any]) -> Relation:
    """The relation that holds the table's rows."""
    columns = tuple((column.name, column.kind) for column in table.columns)
    return Relation(table.physical_name, columns, (table.key,))


@lru_cache(maxsize=256)
def counts_relation(table: Table[Any]) -> Relation:
    """The relation that holds the counts beside a counted table."""
    return Relation(
        f"{table.physical_name}_counts",
        (*table.counted, ("n", "integer")),
        key=tuple(name for name, _ in table.counted),
    )


@dataclass(frozen=True)
class Dialect:
    """How a backend declares tables.

    `options` are those of tables whose rows change, `lasting_options` those of tables whose rows
    stay as they were written. `shares_entries` says that rows of equal keys share the room of an
    index entry, so that it pays to make keys equal. `rights` asks for what grants a table to those
    who may use another one: of a new table, the former one, and one for where that is not there.
    """

    types: Mapping[ColumnKind, str]
    options: str = ""
    lasting_options: str = ""
    shares_entries: bool = False
    rights: str = ""


def create_statements(table: Table[Any], dialect: Dialect) -> list[str]:
    """DDL for a table and its counts, each a no-op where it exists already."""
    relation, types = rows_relation(table), dialect.types
    columns = [
        f"{quoted(column.name)} {types[column.kind]}" + ("" if column.nullable else " NOT NULL")
        for column in table.columns
    ]
    columns.append(f"PRIMARY KEY ({quoted(table.key)})")
    # What one event alone is behind is written once.
    options = dialect.lasting_options if table.key_kind == "integer" else dialect.options
    statements = [
        f"CREATE TABLE IF NOT EXISTS {quoted(relation.name)} ({', '.join(columns)}) {options}"
    ]
    if table.counted:
        counts = counts_relation(table)
        listed = ", ".join(f"{quoted(n)} {types[kind]} NOT NULL" for n, kind in counts.columns)
        statements.append(
            f"CREATE TABLE IF NOT EXISTS {quoted(counts.name)} "
            f"({listed}, PRIMARY KEY ({', '.join(map(quoted, counts.key))})) {dialect.options}"
        )
    return statements


def index_statement(table: Table[Any], index: tuple[str, ...], dialect: Dialect) -> str:
    """DDL for one of a table's indexes, a no-op where it exists already.

    Rows without a value in the first column are not in the index: nobody looks for them by it.
    """
    relation = rows_relation(table)
    listed = [quoted(column) for column in index]
    if table.stretch and index[-1] == table.key:
        # SQLite ends every index in the key by itself.
        listed[-1:] = [f"({place(table, dialect)})"] if dialect.shares_entries else []
    nullable = any(column.name == index[0] and column.nullable for column in table.columns)
    conditions = [f"{quoted(index[0])} IS NOT NULL"] if nullable else []
    conditions += [marked] if (marked := mark(table, index)) else []
    return (
        f"CREATE INDEX IF NOT EXISTS {quoted(f'{relation.name}_by_' + '_'.join(index))} "
        f"ON {quoted(relation.name)} ({', '.join(listed)})"
        + (f" WHERE {' AND '.join(conditions)}" if conditions else "")
    )


def mark(table: Table[Any], index: tuple[str, ...]) -> str:
    """What a query says so that it may use this index; nothing of most.

    Of two indexes with the same first column a planner may take the smaller one where it does not
    know how many rows are wanted. So the later one is made for rows that meet a condition: each
    does, but only queries that are meant for the index say so.
    """
    earlier = table.indexes[: table.indexes.index(index)]
    rivals = any(other[0] == index[0] for other in earlier)
    return f"{quoted(table.key)} > 0" if table.stretch and rivals else ""


def place(table: Table[Any], dialect: Dialect) -> str:
    """What an index that ends in the table's key has as its end: the key itself, or its stretch."""
    key = quoted(table.key)
    return f"{key} / {table.stretch}" if table.stretch and dialect.shares_entries else key


def relations_of(tables: Iterable[Table[Any]]) -> list[Relation]:
    """The relations that hold the tables' rows and counts."""
    found = []
    for table in tables:
        found.append(rows_relation(table))
        if table.counted:
            found.append(counts_relation(table))
    return found


class RowReader:
    """Rebuilds rows of one table from what a database returns."""

    def __init__(self, table: Table[Any]) -> None:
        self._row_type = table.row_type
        # SQLite keeps booleans as 0 and 1.
        self._booleans = [i for i, c in enumerate(table.columns) if c.kind == "boolean"]
        names = tuple(column.name for column in table.columns)
        fields = table.row_type.__struct_fields__
        # Columns that this version does not have yet are, as a rule, the last ones.
        self._names = None if names == fields[: len(names)] else names

    def rows(self, values: Sequence[Any]) -> list[Any]:
        """The rows, in the order given."""
        if self._booleans:
            values = [self._typed(list(row)) for row in values]
        if self._names is None:
            return [self._row_type(*row) for row in values]
        return [self._row_type(**dict(zip(self._names, row, strict=True))) for row in values]

    def _typed(self, row: list[Any]) -> list[Any]:
        for index in self._booleans:
            if row[index] is not None:
                row[index] = bool(row[index])
        return row


# The text of these statements differs by table and by what is asked, never by data.
_BY_KEY: Final = "SELECT {columns} FROM {table} WHERE {key} IN ??"
_FIRST: Final = "SELECT {columns} FROM {table} ORDER BY {key} LIMIT ?"
_NEXT: Final = "SELECT {columns} FROM {table} WHERE {key} > ? ORDER BY {key} LIMIT ?"
_ALL_COUNTS: Final = "SELECT {columns} FROM {table} WHERE n <> 0"
_DELETE: Final = "DELETE FROM {table} WHERE {key} IN ??"
_ALL: Final = 2**62


class Tables:
    """Implements `TableTransaction` on an open session."""

    def __init__(
        self, session: Session, dialect: Dialect, builds: list[BuildRow] | None = None
    ) -> None:
        self._session = session
        self._dialect = dialect
        self._builds = builds

    # --- builds -----------------------------------------------------------------------------------

    def builds(self, name: str | None = None) -> list[BuildRow]:
        """See `TableReader.builds`."""
        if self._builds is None:
            asked = (
                self._session.ask(sql.READ_BUILDS)
                if name is None
                else self._session.ask(sql.READ_BUILDS_OF, (name,))
            )
            return [BuildRow(*row) for row in asked.fetchall()]
        return [row for row in self._builds if name in (None, row.name)]

    def held(self, build: BuildKey) -> BuildRow | None:
        """See `TableTransaction.held`."""
        rows = self._session.ask(sql.HOLD_BUILD, build).fetchall()
        return BuildRow(*rows[0]) if rows else None

    def move(self, build: BuildKey, position: int, ordinal: int) -> None:
        """See `TableTransaction.move`."""
        self._session.change(relations.BUILDS.name, sql.MOVE_BUILD, (position, ordinal, *build))
        self._builds = None

    def save_build(self, row: BuildRow) -> None:
        """See `TableTransaction.save_build`."""
        self._session.upsert(relations.BUILDS, [msgspec.structs.astuple(row)])
        self._builds = None

    def remove_build(self, build: BuildKey) -> None:
        """See `TableTransaction.remove_build`."""
        self._session.ask(sql.UNPARK_ALL, build)
        self._session.ask(sql.REMOVE_BUILD, build)
        self._builds = None

    def parked(self, build: BuildKey, stream_ids: Sequence[str]) -> set[str]:
        """See `TableReader.parked`."""
        asked = self._session.ask(sql.PARKED_OF_BUILD, (*build, list(stream_ids)))
        return {row[0] for row in asked.fetchall()}

    def park(self, rows: Sequence[ParkedRow]) -> None:
        """See `TableTransaction.park`."""
        self._session.upsert(relations.PARKED, [msgspec.structs.astuple(row) for row in rows])

    def unpark(self, build: BuildKey, stream_ids: Sequence[str]) -> None:
        """See `TableTransaction.unpark`."""
        self._session.ask(sql.UNPARK, (*build, list(stream_ids)))

    def save_rebuild(self, row: RebuildRow) -> None:
        """See `TableTransaction.save_rebuild`."""
        self._session.upsert(relations.REBUILDS, [msgspec.structs.astuple(row)])

    # --- tables -----------------------------------------------------------------------------------

    def create(self, tables: Iterable[Table[Any]], *, indexes: bool = True) -> None:
        """See `TableTransaction.create`."""
        made = tuple(tables)
        for table in made:
            for statement in create_statements(table, self._dialect):
                self._session.ask(statement)
            for index in table.indexes if indexes else ():
                self.index(table, index)
        if self._dialect.rights:
            self._grant(made)

    def _grant(self, made: Sequence[Table[Any]]) -> None:
        """Let those use new tables who may use what serves: they are at work, and go on."""
        # One of a projection's tables has its name.
        named = {table.name: table for table in made}
        for row in self.builds():
            if row.state != "serving" or row.name not in named:
                continue
            former = [replace(table, version=row.version, build=row.number) for table in made]
            main = replace(named[row.name], version=row.version, build=row.number)
            instead = quoted(rows_relation(main).name)
            for table, known in zip(relations_of(made), relations_of(former), strict=True):
                names = (quoted(table.name), quoted(known.name), instead)
                for (statement,) in self._session.ask(self._dialect.rights, names).fetchall():
                    self._session.ask(statement)

    def index(self, table: Table[Any], index: tuple[str, ...]) -> None:
        """See `TableTransaction.index`."""
        self._session.ask(index_statement(table, index, self._dialect))

    # --- rows -------------------------------------------------------------------------------------

    def rows(self, table: Table[RowT], keys: Sequence[Key]) -> dict[Key, RowT]:
        """See `TableReader.rows`."""
        if not keys:
            return {}
        relation = rows_relation(table)
        found = self._ask(_BY_KEY, relation, (list(keys),))
        at = relation.names.index(table.key)
        rows: list[RowT] = RowReader(table).rows(found)
        by_key = {values[at]: row for values, row in zip(found, rows, strict=True)}
        return as_asked(keys, by_key)

    def scan(self, table: Table[RowT], after: Key | None, limit: int) -> list[RowT]:
        """See `TableReader.scan`."""
        relation = rows_relation(table)
        found = (
            self._ask(_FIRST, relation, (limit,))
            if after is None
            else self._ask(_NEXT, relation, (after, limit))
        )
        rows: list[RowT] = RowReader(table).rows(found)
        return rows

    def all_counts(self, table: Table[Any]) -> dict[CountKey, int]:
        """See `TableReader.all_counts`."""
        return {tuple(key): n for *key, n in self._ask(_ALL_COUNTS, counts_relation(table), ())}

    def write(self, table: Table[RowT], inserts: Sequence[RowT], updates: Sequence[RowT]) -> None:
        """See `TableTransaction.write`."""
        relation = rows_relation(table)
        if inserts:
            self._session.insert(relation, [table.values(row) for row in inserts])
        if updates:
            self._session.update(relation, [table.values(row) for row in updates])

    def delete(self, table: Table[Any], keys: Sequence[Key]) -> None:
        """See `TableTransaction.delete`."""
        if keys:
            relation = rows_relation(table)
            statement = _DELETE.format(table=quoted(relation.name), key=quoted(table.key))
            self._session.ask(statement, (list(keys),))

    def add_counts(self, table: Table[RowT], deltas: Mapping[CountKey, int]) -> None:
        """See `TableTransaction.add_counts`."""
        # In key order, so that rows that will be read together are stored together.
        rows = [(*key, n) for key, n in sorted(deltas.items()) if n]
        if rows:
            self._session.add(counts_relation(table), rows)

    def _ask(self, statement: str, relation: Relation, params: Sequence[object]) -> list[Any]:
        text = statement.format(
            columns=relation.listed, table=quoted(relation.name), key=quoted(relation.key[0])
        )
        return self._session.ask(text, params).fetchall()

    # --- the log ----------------------------------------------------------------------------------

    def read_log(self, after: int, limit: int) -> list[StoredRow]:
        """See `TableReader.read_log`."""
        rows = self._session.ask(sql.READ_LOG, (after, limit)).fetchall()
        return [StoredRow(*row) for row in rows]

    def read_stream(self, stream_id: str, after: int = 0) -> list[StoredRow]:
        """See `TableReader.read_stream`."""
        rows = self._session.ask(sql.READ_STREAM, (stream_id, after, _ALL)).fetchall()
        return [StoredRow(*row) for row in rows]

    def head(self) -> int:
        """See `TableReader.head`."""
        return int(self._session.ask(sql.LOG_HEAD).fetchall()[0][0])

    def ordinals(self, run_ids: Sequence[str]) -> dict[str, int] | None:
        """See `TableReader.ordinals`."""
        if not self._session.ask(sql.ANY_ARCHIVE).fetchall():
            return None
        return dict(self._session.ask(sql.READ_ORDINALS, (list(run_ids),)).fetchall())
