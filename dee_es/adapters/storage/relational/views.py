"""The views' methods in shared SQL; a backend adds the database and its column types."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final

from msgspec.structs import replace

from dee_es.adapters.storage.relational import audit
from dee_es.adapters.storage.relational import statements as sql
from dee_es.adapters.storage.relational.projection_tables import (
    Dialect,
    RowReader,
    Tables,
    counts_relation,
    relations_of,
    rows_relation,
)
from dee_es.adapters.storage.relational.run_list import RunPages
from dee_es.adapters.storage.relational.session import Database, Session, quoted
from dee_es.core.projection import CountKey, RowT, Table
from dee_es.core.views import AuditFilter, AuditRow, RunFilter, RunRow
from dee_es.errors import TableGone
from dee_es.ports import (
    AuditPageRows,
    BuildRow,
    ParkedRow,
    RebuildRow,
    RunCounts,
    RunPageRows,
    Standing,
    TableReader,
    TableTransaction,
)

_DROP: Final = "DROP TABLE IF EXISTS {table}"
_NOTHING: Final = "SELECT 1 FROM {table} LIMIT 0"
_SIZE: Final = "SELECT count(*) FROM {table}"
_RUN: Final = "SELECT {columns} FROM {table} WHERE run_id = ?"
_OF_CONTACTS: Final = "SELECT {columns} FROM {table} WHERE contact_id IN ??"
_BY_COLUMN: Final = "SELECT {columns} FROM {table} WHERE {column} = ? ORDER BY {column}, {key}"
_COUNTS: Final = "SELECT {columns} FROM {table} WHERE {column} = ? AND n <> 0"
# Asks for the next value again and again: as many look-ups as there are values.
_DISTINCT: Final = """
WITH RECURSIVE found(value) AS (
    SELECT min({column}) FROM {table} WHERE {column} IS NOT NULL
    UNION ALL
    SELECT (SELECT min({column}) FROM {table} WHERE {column} IS NOT NULL AND {column} > found.value)
    FROM found WHERE found.value IS NOT NULL
)
SELECT value FROM found WHERE value IS NOT NULL
"""


class RelationalViews:
    """Implements `Views` over a `Database`."""

    database: Database
    dialect: Dialect
    indexes_later: bool = False
    queues: bool = False

    @contextmanager
    def transaction(self) -> Iterator[TableTransaction]:
        """See `Views.transaction`."""
        with self.database.appending(makes_tables=True) as session:
            yield Tables(session, self.dialect)

    @contextmanager
    def building(self) -> Iterator[TableTransaction]:
        """See `Views.building`."""
        with self.database.lasting() as session:
            yield Tables(session, self.dialect)

    @contextmanager
    def snapshot(self) -> Iterator[TableReader]:
        """See `Views.snapshot`."""
        with self.database.snapshot(lasting=True) as session:
            yield Tables(session, self.dialect)

    def rebuilding(self, name: str) -> AbstractContextManager[None]:
        """See `Views.rebuilding`."""
        return self.database.claim(name)

    def drop(self, tables: Iterable[Table[Any]]) -> None:
        """See `Views.drop`."""
        for relation in relations_of(tables):
            with self.database.lasting() as session:
                session.ask(_DROP.format(table=quoted(relation.name)))

    def settle(self, tables: Sequence[Table[Any]]) -> None:
        """See `Views.settle`."""
        self.database.settle([relation.name for relation in relations_of(tables)])

    def standing(self) -> Standing:
        """See `Views.standing`."""
        rows = self.database.query(sql.HEAD_AND_BUILDS)
        return Standing(rows[0][0], tuple(BuildRow(*row[1:]) for row in rows if row[1] is not None))

    def parked(self, name: str | None = None) -> list[ParkedRow]:
        """See `Views.parked`."""
        rows = (ParkedRow(*row) for row in self.database.query(sql.READ_PARKED))
        return [row for row in rows if name in (None, row.name)]

    def rebuilds(self) -> list[RebuildRow]:
        """See `Views.rebuilds`."""
        return [RebuildRow(*row) for row in self.database.query(sql.READ_REBUILDS)]

    def there(self, tables: Sequence[Table[Any]]) -> bool:
        """See `Views.there`."""
        try:
            for relation in relations_of(tables):
                self.database.query(_NOTHING.format(table=quoted(relation.name)))
        except TableGone:
            return False
        return True

    def size(self, tables: Sequence[Table[Any]]) -> tuple[int, int | None]:
        """See `Views.size`."""
        names = [relation.name for relation in relations_of(tables)]
        rows = self.database.query(_SIZE.format(table=quoted(names[0])))[0][0]
        return int(rows), self.database.bytes_of(names)

    def bytes_at_hand(self, tables: Sequence[Table[Any]]) -> int | None:
        """See `Views.bytes_at_hand`."""
        names = [relation.name for relation in relations_of(tables)]
        return self.database.bytes_of(names, cheaply=True)

    def run(self, table: Table[RunRow], run_id: str) -> RunRow | None:
        """See `Views.run`."""
        relation = rows_relation(table)
        statement = _RUN.format(columns=relation.listed, table=quoted(relation.name))
        rows: list[RunRow] = RowReader(table).rows(self.database.query(statement, (run_id,)))
        return rows[0] if rows else None

    def list_runs(
        self,
        table: Table[RunRow],
        chosen: RunFilter,
        *,
        limit: int,
        offset: int = 0,
        before_ordinal: int | None = None,
    ) -> RunPageRows:
        """See `Views.list_runs`."""
        with self.database.snapshot() as session:
            asked = session.ask(sql.HEAD_AND_BUILD, (table.name, table.version, table.build))
            pages = RunPages(session, table, chosen)
            total = pages.total()
            rows = pages.page(limit, offset, before_ordinal)
            ((head, *build),) = asked.fetchall()
            known = BuildRow(*build) if build[0] is not None else None
            return RunPageRows(rows, total(), head, known)

    def runs_of(self, table: Table[RunRow], contact_ids: Sequence[str]) -> RunPageRows:
        """See `Views.runs_of`."""
        relation = rows_relation(table)
        statement = _OF_CONTACTS.format(columns=relation.listed, table=quoted(relation.name))
        with self.database.snapshot() as session:
            asked = session.ask(sql.HEAD_AND_BUILD, (table.name, table.version, table.build))
            found = session.ask(statement, (list(contact_ids),))
            rows: list[RunRow] = RowReader(table).rows(found.fetchall())
            ((head, *build),) = asked.fetchall()
            known = BuildRow(*build) if build[0] is not None else None
        # Not by the database: in that order its planner could go through all runs there are.
        rows.sort(key=lambda row: row.ordinal, reverse=True)
        return RunPageRows(rows, len(rows), head, known)

    def count_runs(
        self, table: Table[RunRow], chosen: RunFilter, statuses: Sequence[str]
    ) -> RunCounts:
        """See `Views.count_runs`."""
        with self.database.snapshot() as session:
            asked = session.ask(sql.HEAD_AND_BUILD, (table.name, table.version, table.build))
            totals, within = {}, None
            for status in statuses:
                pages = RunPages(session, table, replace(chosen, statuses=(status,)), within)
                within = pages.within
                totals[status] = pages.total()
            ((head, *build),) = asked.fetchall()
            known = BuildRow(*build) if build[0] is not None else None
            return RunCounts({status: total() for status, total in totals.items()}, head, known)

    def rows_by(self, table: Table[RowT], column: str, value: str | int) -> list[RowT]:
        """See `Views.rows_by`."""
        relation = rows_relation(table)
        statement = _BY_COLUMN.format(
            columns=relation.listed,
            table=quoted(relation.name),
            column=quoted(column),
            key=quoted(table.key),
        )
        found: list[RowT] = RowReader(table).rows(self.database.query(statement, (value,)))
        return found

    def counts(self, table: Table[Any], first: str | int) -> dict[CountKey, int]:
        """See `Views.counts`."""
        relation = counts_relation(table)
        statement = _COUNTS.format(
            columns=relation.listed,
            table=quoted(relation.name),
            column=quoted(table.counted[0][0]),
        )
        return {tuple(key): n for *key, n in self.database.query(statement, (first,))}

    def list_audit(
        self,
        table: Table[AuditRow],
        chosen: AuditFilter,
        *,
        limit: int,
        after: tuple[int, int] | None = None,
    ) -> AuditPageRows:
        """See `Views.list_audit`."""
        with self.database.snapshot(lenient=True) as session:
            page = session.ask(*audit.page(table, self.dialect, chosen, limit, after))
            total = self._all_audit(session, table) if chosen == AuditFilter() else None
            if total is None:
                counted = session.ask(*audit.count(table, self.dialect, chosen)).fetchall()
                total = int(counted[0][0])
            return AuditPageRows(RowReader(table).rows(page.fetchall()), total)

    def _all_audit(self, session: Session, table: Table[AuditRow]) -> int | None:
        """How many entries there are in all, where that is known without counting: one for every
        event that was folded and has not been archived."""
        asked = session.ask(sql.HEAD_AND_BUILD, (table.name, table.version, table.build))
        archived = session.ask(sql.COUNT_ARCHIVED).fetchall()[0][0]
        ((_, *build),) = asked.fetchall()
        if build[0] is None or (known := BuildRow(*build)).parked:
            return None
        return int(known.position - archived)

    def distinct(self, table: Table[Any], column: str) -> list[str]:
        """See `Views.distinct`."""
        statement = _DISTINCT.format(table=quoted(rows_relation(table).name), column=quoted(column))
        return [row[0] for row in self.database.query(statement)]
