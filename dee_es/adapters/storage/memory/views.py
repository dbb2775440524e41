"""Projection tables in memory: rows by key, scanned where the databases have an index."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from dee_es.adapters.storage.memory.database import Journal, MemoryDatabase, ViewTable
from dee_es.core.projection import CountKey, Key, Row, RowT, Table
from dee_es.core.views import AuditFilter, AuditRow, RunFilter, RunRow
from dee_es.errors import IntegrityViolation
from dee_es.ports import StoredRow, TableTransaction


class MemoryTransaction:
    """A `TableTransaction`: changes take effect at once, and the journal knows the way back.

    It shows the log up to position `upto`: inside an append, that is as it was before.
    """

    def __init__(self, database: MemoryDatabase, journal: Journal, upto: int | None = None) -> None:
        self._database = database
        self._journal = journal
        self._upto = database.recorder.position if upto is None else upto

    def checkpoint(self, projection: str, version: int) -> tuple[int, int]:
        """See `TableTransaction.checkpoint`."""
        return self._database.checkpoints.get((projection, version), (0, 0))

    def save_checkpoint(self, projection: str, version: int, position: int, ordinal: int) -> None:
        """See `TableTransaction.save_checkpoint`."""
        places = self._database.checkpoints
        self._journal.put(places, (projection, version), (position, ordinal))

    def rows(self, table: Table[RowT], keys: Sequence[Key]) -> dict[Key, RowT]:
        """See `TableTransaction.rows`."""
        rows = _table(self._database, table).rows
        return {key: rows[key] for key in keys if key in rows}

    def write(self, table: Table[RowT], inserts: Sequence[RowT], updates: Sequence[RowT]) -> None:
        """See `TableTransaction.write`; inserting a key twice or replacing a row that is not
        there is an `IntegrityViolation`, since either means that the fold lost its place."""
        rows = _table(self._database, table).rows
        for row in inserts:
            if getattr(row, table.key) in rows:
                raise _clash(table, row, "is there already")
            self._journal.put(rows, getattr(row, table.key), row)
        for row in updates:
            if getattr(row, table.key) not in rows:
                raise _clash(table, row, "is not there")
            self._journal.put(rows, getattr(row, table.key), row)

    def add_counts(self, table: Table[RowT], deltas: Mapping[CountKey, int]) -> None:
        """See `TableTransaction.add_counts`."""
        counts = _table(self._database, table).counts
        for key, delta in deltas.items():
            self._journal.put(counts, key, counts.get(key, 0) + delta)

    def read_log(self, after: int, limit: int) -> list[StoredRow]:
        """See `TableTransaction.read_log`."""
        return self._database.recorder.log(after, min(limit, self._upto - after))


class MemoryViews:
    """`Views` over the same memory, under the same lock, as the store they were opened with."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    def prepare(self, tables: Iterable[Table[Any]]) -> None:
        """See `Views.prepare`."""
        with self._database.writing():
            for table in tables:
                self._database.views.setdefault(table.physical_name, ViewTable())

    @contextmanager
    def transaction(self) -> Iterator[TableTransaction]:
        """See `Views.transaction`; everything is undone if the body raises."""
        with self._database.writing() as journal:
            yield MemoryTransaction(self._database, journal)

    def position(self, projection: str, version: int) -> int:
        """See `Views.position`."""
        with self._database.reading():
            return self._database.checkpoints.get((projection, version), (0, 0))[0]

    def run(self, table: Table[RunRow], run_id: str) -> RunRow | None:
        """See `Views.run`."""
        with self._database.reading():
            row: RunRow | None = _table(self._database, table).rows.get(run_id)
            return row

    def list_runs(
        self,
        table: Table[RunRow],
        chosen: RunFilter,
        *,
        limit: int,
        offset: int = 0,
        before_ordinal: int | None = None,
    ) -> tuple[list[RunRow], int, int, int]:
        """See `Views.list_runs`; the folded position is that of the projection of the table's
        name and version."""
        with self._database.reading():
            held: list[RunRow] = list(_table(self._database, table).rows.values())
            head = self._database.recorder.position
            folded = self.position(table.name, table.version)
        matching = [row for row in held if _run_matches(row, chosen)]
        matching.sort(key=lambda row: row.ordinal, reverse=True)
        total = len(matching)
        if before_ordinal is not None:
            matching = [row for row in matching if row.ordinal < before_ordinal]
        return matching[offset : offset + limit], total, head, folded

    def rows_by(self, table: Table[RowT], column: str, value: str | int) -> list[RowT]:
        """See `Views.rows_by`."""
        with self._database.reading():
            held: list[RowT] = list(_table(self._database, table).rows.values())
        matching = [row for row in held if getattr(row, column) == value]
        return sorted(matching, key=lambda row: getattr(row, table.key))

    def counts(self, table: Table[Any], first: str | int) -> dict[CountKey, int]:
        """See `Views.counts`."""
        with self._database.reading():
            held = dict(_table(self._database, table).counts)
        return {key: n for key, n in held.items() if key[0] == first and n}

    def list_audit(
        self, table: Table[AuditRow], chosen: AuditFilter, *, limit: int, after_position: int = 0
    ) -> list[AuditRow]:
        """See `Views.list_audit`."""
        with self._database.reading():
            held: list[AuditRow] = list(_table(self._database, table).rows.values())
        matching = [
            row for row in held if row.position > after_position and _entry_matches(row, chosen)
        ]
        matching.sort(key=lambda row: row.position)
        return matching[:limit]


def _table(database: MemoryDatabase, table: Table[Any]) -> ViewTable:
    try:
        return database.views[table.physical_name]
    except KeyError:
        raise LookupError(f"table {table.physical_name} was never prepared") from None


def _clash(table: Table[Any], row: Row, problem: str) -> IntegrityViolation:
    return IntegrityViolation(f"{table.physical_name}: row {getattr(row, table.key)} {problem}")


def _run_matches(row: RunRow, chosen: RunFilter) -> bool:
    return (
        (not chosen.statuses or row.status in chosen.statuses)
        and (chosen.plan_id is None or row.plan_id == chosen.plan_id)
        and (chosen.contact_id is None or row.contact_id == chosen.contact_id)
        and (chosen.created_from is None or row.created_tick >= chosen.created_from)
        and (chosen.created_before is None or row.created_tick < chosen.created_before)
    )


def _entry_matches(row: AuditRow, chosen: AuditFilter) -> bool:
    return (
        (chosen.run_id is None or row.run_id == chosen.run_id)
        and (chosen.contact_id is None or row.contact_id == chosen.contact_id)
        and (chosen.plan_id is None or row.plan_id == chosen.plan_id)
        and (not chosen.actions or row.action in chosen.actions)
        and (chosen.actor is None or row.actor == chosen.actor)
        and (chosen.from_tick is None or row.tick >= chosen.from_tick)
        and (chosen.before_tick is None or row.tick < chosen.before_tick)
    )
