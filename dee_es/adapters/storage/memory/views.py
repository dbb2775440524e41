"""Projection tables in memory: rows by key, scanned where the databases have an index."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final

from msgspec.structs import replace

from dee_es.adapters.storage.memory.database import Journal, MemoryDatabase, ViewTable
from dee_es.adapters.storage.rules import claimed
from dee_es.core.projection import CountKey, Key, Row, RowT, Table
from dee_es.core.views import AuditFilter, AuditRow, RunFilter, RunRow
from dee_es.errors import IntegrityViolation, TableGone
from dee_es.ports import (
    AuditPageRows,
    BuildKey,
    BuildRow,
    ParkedRow,
    RebuildRow,
    RunCounts,
    RunPageRows,
    Standing,
    StoredRow,
    TableReader,
    TableTransaction,
)

_ALL: Final = 2**62


class MemoryTransaction:
    """A `TableTransaction`: changes take effect at once, and the journal knows the way back.

    It shows the log up to position `upto`: inside an append, that is as it was before.
    """

    def __init__(self, database: MemoryDatabase, journal: Journal, upto: int | None = None) -> None:
        self._database = database
        self._journal = journal
        self._upto = database.recorder.position if upto is None else upto

    # --- builds -----------------------------------------------------------------------------------

    def builds(self, name: str | None = None) -> list[BuildRow]:
        """See `TableReader.builds`."""
        rows = sorted(self._database.builds.values(), key=lambda row: row.key)
        return [row for row in rows if name in (None, row.name)]

    def held(self, build: BuildKey) -> BuildRow | None:
        """See `TableTransaction.held`."""
        return self._database.builds.get(build)

    def move(self, build: BuildKey, position: int, ordinal: int) -> None:
        """See `TableTransaction.move`."""
        moved = replace(self._database.builds[build], position=position, ordinal=ordinal)
        self._journal.put(self._database.builds, build, moved)

    def save_build(self, row: BuildRow) -> None:
        """See `TableTransaction.save_build`."""
        serving = (b for b in self.builds(row.name) if b.state == "serving" and b.key != row.key)
        if row.state == "serving" and any(serving):
            raise IntegrityViolation(f"{row.name}: another build serves already")
        self._journal.put(self._database.builds, row.key, row)

    def remove_build(self, build: BuildKey) -> None:
        """See `TableTransaction.remove_build`."""
        self._journal.drop(self._database.builds, build)
        for key in [key for key in self._database.parked if key[0] == build]:
            self._journal.drop(self._database.parked, key)

    def parked(self, build: BuildKey, stream_ids: Sequence[str]) -> set[str]:
        """See `TableReader.parked`."""
        return {stream for stream in stream_ids if (build, stream) in self._database.parked}

    def park(self, rows: Sequence[ParkedRow]) -> None:
        """See `TableTransaction.park`."""
        for row in rows:
            key = ((row.name, row.version, row.number), row.stream_id)
            self._journal.put(self._database.parked, key, row)

    def unpark(self, build: BuildKey, stream_ids: Sequence[str]) -> None:
        """See `TableTransaction.unpark`."""
        for stream in stream_ids:
            self._journal.drop(self._database.parked, (build, stream))

    def save_rebuild(self, row: RebuildRow) -> None:
        """See `TableTransaction.save_rebuild`."""
        self._journal.put(self._database.rebuilds, (row.name, row.version, row.number), row)

    # --- tables -----------------------------------------------------------------------------------

    def create(self, tables: Iterable[Table[Any]], *, indexes: bool = True) -> None:
        """See `TableTransaction.create`; there are no indexes here."""
        for table in tables:
            if table.physical_name not in self._database.views:
                self._journal.put(self._database.views, table.physical_name, ViewTable())

    def index(self, table: Table[Any], index: tuple[str, ...]) -> None:
        """See `TableTransaction.index`; there are none here."""

    # --- rows -------------------------------------------------------------------------------------

    def rows(self, table: Table[RowT], keys: Sequence[Key]) -> dict[Key, RowT]:
        """See `TableTransaction.rows`."""
        rows = _table(self._database, table).rows
        return {key: rows[key] for key in keys if key in rows}

    def write(self, table: Table[RowT], inserts: Sequence[RowT], updates: Sequence[RowT]) -> None:
        """See `TableTransaction.write`; inserting a key twice or replacing a row that is not
        there is an `IntegrityViolation`, since either means that the fold lost its place."""
        rows = _table(self._database, table).rows
        if table.lacks:
            inserts, updates = _narrow(table, inserts), _narrow(table, updates)
        for row in inserts:
            if getattr(row, table.key) in rows:
                raise _clash(table, row, "is there already")
            self._journal.put(rows, getattr(row, table.key), row)
        for row in updates:
            if getattr(row, table.key) not in rows:
                raise _clash(table, row, "is not there")
            self._journal.put(rows, getattr(row, table.key), row)

    def scan(self, table: Table[RowT], after: Key | None, limit: int) -> list[RowT]:
        """See `TableReader.scan`."""
        rows = _table(self._database, table).rows
        keys = sorted(key for key in rows if after is None or key > after)  # type: ignore[operator]
        return [rows[key] for key in keys[:limit]]

    def all_counts(self, table: Table[Any]) -> dict[CountKey, int]:
        """See `TableReader.all_counts`."""
        return {key: n for key, n in _table(self._database, table).counts.items() if n}

    def delete(self, table: Table[Any], keys: Sequence[Key]) -> None:
        """See `TableTransaction.delete`."""
        for key in keys:
            self._journal.drop(_table(self._database, table).rows, key)

    def add_counts(self, table: Table[RowT], deltas: Mapping[CountKey, int]) -> None:
        """See `TableTransaction.add_counts`."""
        counts = _table(self._database, table).counts
        for key, delta in deltas.items():
            self._journal.put(counts, key, counts.get(key, 0) + delta)

    def read_log(self, after: int, limit: int) -> list[StoredRow]:
        """See `TableTransaction.read_log`."""
        rows = self._database.recorder.log(after, min(limit, self._upto - after))
        return [row for row in rows if row.position <= self._upto]

    def read_stream(self, stream_id: str, after: int = 0) -> list[StoredRow]:
        """See `TableReader.read_stream`."""
        rows = self._database.recorder.stream(stream_id, after, None)
        return [row for row in rows if row.position <= self._upto]

    def head(self) -> int:
        """See `TableReader.head`."""
        return self._upto

    def ordinals(self, run_ids: Sequence[str]) -> dict[str, int] | None:
        """See `TableReader.ordinals`."""
        if not self._database.recorder.stones:
            return None
        heads = self._database.heads
        return {run_id: heads[run_id].ordinal for run_id in run_ids if run_id in heads}


class MemoryViews:
    """`Views` over the same memory, under the same lock, as the store they were opened with."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    indexes_later = False
    queues = True

    @contextmanager
    def transaction(self) -> Iterator[TableTransaction]:
        """See `Views.transaction`; everything is undone if the body raises."""
        with self._database.writing() as journal:
            yield MemoryTransaction(self._database, journal)

    def building(self) -> AbstractContextManager[TableTransaction]:
        """See `Views.building`; nobody else is at work meanwhile."""
        return self.transaction()

    @contextmanager
    def snapshot(self) -> Iterator[TableReader]:
        """See `Views.snapshot`; nobody else is at work meanwhile."""
        with self._database.reading():
            yield MemoryTransaction(self._database, Journal())

    @contextmanager
    def rebuilding(self, name: str) -> Iterator[None]:
        """See `Views.rebuilding`."""
        with self._database.reading():
            if name in self._database.claimed:
                raise claimed(name)
            self._database.claimed.add(name)
        try:
            yield
        finally:
            self._database.claimed.discard(name)

    def drop(self, tables: Iterable[Table[Any]]) -> None:
        """See `Views.drop`."""
        with self._database.writing() as journal:
            for table in tables:
                journal.drop(self._database.views, table.physical_name)

    def settle(self, tables: Sequence[Table[Any]]) -> None:
        """See `Views.settle`; there is nothing to do."""

    def standing(self) -> Standing:
        """See `Views.standing`."""
        with self._database.reading():
            rows = sorted(self._database.builds.values(), key=lambda row: row.key)
            return Standing(self._database.recorder.position, tuple(rows))

    def parked(self, name: str | None = None) -> list[ParkedRow]:
        """See `Views.parked`."""
        with self._database.reading():
            rows = [row for row in self._database.parked.values() if name in (None, row.name)]
        return sorted(rows, key=lambda row: (row.name, row.version, row.number, row.position))

    def rebuilds(self) -> list[RebuildRow]:
        """See `Views.rebuilds`."""
        with self._database.reading():
            return [row for _, row in sorted(self._database.rebuilds.items())]

    def there(self, tables: Sequence[Table[Any]]) -> bool:
        """See `Views.there`."""
        with self._database.reading():
            return all(table.physical_name in self._database.views for table in tables)

    def size(self, tables: Sequence[Table[Any]]) -> tuple[int, int | None]:
        """See `Views.size`; nobody counts the bytes of memory."""
        with self._database.reading():
            return len(_table(self._database, tables[0]).rows), None

    def bytes_at_hand(self, tables: Sequence[Table[Any]]) -> int | None:
        """See `Views.bytes_at_hand`."""
        del tables
        return None

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
    ) -> RunPageRows:
        """See `Views.list_runs`."""
        with self._database.reading():
            held: list[RunRow] = list(_table(self._database, table).rows.values())
            head = self._database.recorder.position
            build = self._database.builds.get((table.name, table.version, table.build))
        matching = [row for row in held if _run_matches(row, chosen)]
        matching.sort(key=lambda row: row.ordinal, reverse=True)
        total = len(matching)
        if before_ordinal is not None:
            matching = [row for row in matching if row.ordinal < before_ordinal]
        return RunPageRows(matching[offset : offset + limit], total, head, build)

    def runs_of(self, table: Table[RunRow], contact_ids: Sequence[str]) -> RunPageRows:
        """See `Views.runs_of`."""
        found, wanted = self.list_runs(table, RunFilter(), limit=_ALL), frozenset(contact_ids)
        rows = [row for row in found.rows if row.contact_id in wanted]
        return found._replace(rows=rows, total=len(rows))

    def count_runs(
        self, table: Table[RunRow], chosen: RunFilter, statuses: Sequence[str]
    ) -> RunCounts:
        """See `Views.count_runs`."""
        found = self.list_runs(table, replace(chosen, statuses=()), limit=_ALL)
        standing = Counter(row.status for row in found.rows)
        return RunCounts({each: standing[each] for each in statuses}, found.head, found.build)

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
        self,
        table: Table[AuditRow],
        chosen: AuditFilter,
        *,
        limit: int,
        after: tuple[int, int] | None = None,
    ) -> AuditPageRows:
        """See `Views.list_audit`."""
        with self._database.reading():
            held: list[AuditRow] = list(_table(self._database, table).rows.values())
        matching = [row for row in held if _entry_matches(row, chosen)]
        matching.sort(key=lambda row: (row.tick, row.position))
        total = len(matching)
        if after is not None:
            matching = [row for row in matching if (row.tick, row.position) > after]
        return AuditPageRows(matching[:limit], total)

    def distinct(self, table: Table[Any], column: str) -> list[str]:
        """See `Views.distinct`."""
        with self._database.reading():
            held = list(_table(self._database, table).rows.values())
        return sorted({getattr(row, column) for row in held} - {None})


def _table(database: MemoryDatabase, table: Table[Any]) -> ViewTable:
    try:
        return database.views[table.physical_name]
    except KeyError:
        raise TableGone(f"table {table.physical_name} is not there") from None


def _narrow(table: Table[RowT], given: Sequence[RowT]) -> list[RowT]:
    """The rows as they come back from a table without some of their columns."""
    names = [column.name for column in table.columns]
    return [table.row_type(**dict(zip(names, table.values(row), strict=True))) for row in given]


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
        and (chosen.reasons is None or row.reason in chosen.reasons)
        and (chosen.from_tick is None or row.tick >= chosen.from_tick)
        and (chosen.before_tick is None or row.tick < chosen.before_tick)
    )
