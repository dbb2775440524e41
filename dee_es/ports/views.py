"""Projection tables: what queries read, the projector writes and a rebuild puts in place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, NamedTuple, Protocol

import msgspec

from dee_es.core.projection import CountKey, Key, RowT, Table
from dee_es.core.views import AuditFilter, AuditRow, RunFilter, RunRow
from dee_es.ports.log import StoredRow

BuildKey = tuple[str, int, int]
"""Name and version of a projection, and the number of one copy of its tables."""
BuildState = Literal["serving", "building", "checking", "kept", "dropping"]


class BuildRow(msgspec.Struct, frozen=True):
    """A copy of a projection's tables, as the database knows it.

    `serving` is the one that queries read, one for each name; `building` is to become it;
    `checking` is compared with it and dropped; `kept` has been it; of one that is `dropping` some
    tables may be gone already. `position` is that up to which
    it has folded, `ordinal` the last run's number it has seen, `parked` how many streams it has
    set aside.
    """

    name: str
    version: int
    number: int
    state: BuildState
    position: int
    ordinal: int
    parked: int

    @property
    def key(self) -> BuildKey:
        """What identifies it."""
        return self.name, self.version, self.number


class ParkedRow(msgspec.Struct, frozen=True):
    """A stream that a build has set aside: from its entry `version` on, an event called `event` at
    `position` of the log, nothing of it is folded. `error` says why, without any data."""

    name: str
    version: int
    number: int
    stream_id: str
    position: int
    entry: int
    event: str
    error: str
    parked_ms: int


class RebuildRow(msgspec.Struct, frozen=True):
    """How a rebuild went. `started_ms` and `finished_ms` are wall time (ms since 1970 UTC),
    `worked_ms` is the time spent in it, interruptions and throttling left out. `code` tells the
    code that folded from any other."""

    name: str
    version: int
    number: int
    started_ms: int
    finished_ms: int | None
    worked_ms: int
    events: int
    rows: int
    digest: str
    code: str


class TableReader(Protocol):
    """Projection tables and the log, as of one moment."""

    def builds(self, name: str | None = None) -> list[BuildRow]:
        """All builds, or those of one projection, by version and number."""
        ...

    def parked(self, build: BuildKey, stream_ids: Sequence[str]) -> set[str]:
        """Those of the streams that the build has set aside."""
        ...

    def rows(self, table: Table[RowT], keys: Sequence[Key]) -> dict[Key, RowT]:
        """The rows with these keys that exist."""
        ...

    def scan(self, table: Table[RowT], after: Key | None, limit: int) -> list[RowT]:
        """Up to `limit` rows behind a key (None: from the first on), by key."""
        ...

    def all_counts(self, table: Table[Any]) -> dict[CountKey, int]:
        """All counts beside a counted table; none that is 0."""
        ...

    def read_log(self, after: int, limit: int) -> list[StoredRow]:
        """Rows of the log behind position `after`, in order."""
        ...

    def read_stream(self, stream_id: str, after: int = 0) -> list[StoredRow]:
        """A stream's rows behind entry `after`, in order."""
        ...

    def head(self) -> int:
        """The last position of the log."""
        ...

    def ordinals(self, run_ids: Sequence[str]) -> dict[str, int] | None:
        """The numbers of runs; None if no run was ever archived, so that they can be counted."""
        ...


class TableTransaction(TableReader, Protocol):
    """Projection tables inside one transaction."""

    def held(self, build: BuildKey) -> BuildRow | None:
        """The build's row, which nobody else can change before this transaction ends."""
        ...

    def move(self, build: BuildKey, position: int, ordinal: int) -> None:
        """Move a build's position; it commits with the rows."""
        ...

    def save_build(self, row: BuildRow) -> None:
        """Add a build, or replace what is known of it."""
        ...

    def remove_build(self, build: BuildKey) -> None:
        """Forget a build and what it has set aside; its tables are dropped separately."""
        ...

    def park(self, rows: Sequence[ParkedRow]) -> None:
        """Set streams aside, or replace what is known of those that are."""
        ...

    def unpark(self, build: BuildKey, stream_ids: Sequence[str]) -> None:
        """Take streams back that were set aside."""
        ...

    def write(self, table: Table[RowT], inserts: Sequence[RowT], updates: Sequence[RowT]) -> None:
        """Insert new rows and replace existing ones, by key."""
        ...

    def delete(self, table: Table[Any], keys: Sequence[Key]) -> None:
        """Delete the rows with these keys that exist."""
        ...

    def add_counts(self, table: Table[RowT], deltas: Mapping[CountKey, int]) -> None:
        """Add to the counts beside a counted table."""
        ...

    def create(self, tables: Iterable[Table[Any]], *, indexes: bool = True) -> None:
        """Create the tables, counts and, unless they are put off, indexes that do not exist yet."""
        ...

    def index(self, table: Table[Any], index: tuple[str, ...]) -> None:
        """Create an index that was put off; several may be under way in as many transactions."""
        ...

    def save_rebuild(self, row: RebuildRow) -> None:
        """Keep how a rebuild goes, or went."""
        ...


class Standing(NamedTuple):
    """The last position of the log and all builds, of one moment."""

    head: int
    builds: tuple[BuildRow, ...]


class RunPageRows(NamedTuple):
    """A page of the run list: `total` is exact; the log's head and the build's own row (None if it
    was dropped) are of the same snapshot."""

    rows: list[RunRow]
    total: int
    head: int
    build: BuildRow | None


class RunCounts(NamedTuple):
    """How many runs stand so, by status; head and build as in `RunPageRows`."""

    counts: dict[str, int]
    head: int
    build: BuildRow | None


class AuditPageRows(NamedTuple):
    """A page of the audit trail and how many entries match in all, both of one snapshot."""

    rows: list[AuditRow]
    total: int


class Views(Protocol):
    """Projection tables: what queries read and the projector writes.

    Methods that read a table raise `TableGone` if it has been dropped meanwhile.
    """

    @property
    def indexes_later(self) -> bool:
        """Whether a new table is better filled before its indexes are made."""
        ...

    @property
    def queues(self) -> bool:
        """Whether who waits for the append lock gets it before who asks for it later."""
        ...

    def transaction(self) -> AbstractContextManager[TableTransaction]:
        """A transaction on the tables, one at a time for the whole database (append lock)."""
        ...

    def building(self) -> AbstractContextManager[TableTransaction]:
        """A transaction for long work on tables that nobody reads yet: it may last, and keeps
        nobody from appending where the database can have it so."""
        ...

    def snapshot(self) -> AbstractContextManager[TableReader]:
        """A look at one moment that may last, and keeps nobody from anything."""
        ...

    def rebuilding(self, name: str) -> AbstractContextManager[None]:
        """The right to rebuild a projection, which ends with the process at the latest.

        Raises `ConcurrencyConflict` at once if somebody else has it, and `StoreUnavailable` at the
        end if it was lost meanwhile: nothing was written since.
        """
        ...

    def settle(self, tables: Sequence[Table[Any]]) -> None:
        """Let the database do at once what it does for tables that were just filled, in time."""
        ...

    def drop(self, tables: Iterable[Table[Any]]) -> None:
        """Drop the tables with their indexes and counts, each in a transaction of its own: whoever
        reads several of them can then be waited for one by one."""
        ...

    def standing(self) -> Standing:
        """How far the log and the builds are."""
        ...

    def parked(self, name: str | None = None) -> list[ParkedRow]:
        """All streams set aside, by name, version, number and position."""
        ...

    def rebuilds(self) -> list[RebuildRow]:
        """What is known of rebuilds, by name, version and number."""
        ...

    def there(self, tables: Sequence[Table[Any]]) -> bool:
        """Whether the database has all of the tables, and their counts."""
        ...

    def size(self, tables: Sequence[Table[Any]]) -> tuple[int, int | None]:
        """Rows of the first table, counted, and bytes of all with indexes and counts (None: nobody
        counts them). It takes as long as the tables are large."""
        ...

    def bytes_at_hand(self, tables: Sequence[Table[Any]]) -> int | None:
        """The same bytes, None also where it would take reading through the tables."""
        ...

    def run(self, table: Table[RunRow], run_id: str) -> RunRow | None:
        """One run of the list."""
        ...

    def list_runs(
        self,
        table: Table[RunRow],
        chosen: RunFilter,
        *,
        limit: int,
        offset: int = 0,
        before_ordinal: int | None = None,
    ) -> RunPageRows:
        """Rows by ordinal descending and their exact total. `before_ordinal` continues a page; the
        total does not depend on it. The build is that of the table's name, version and number."""
        ...

    def runs_of(self, table: Table[RunRow], contact_ids: Sequence[str]) -> RunPageRows:
        """All runs of these contacts, newest first; the rest as in `list_runs`."""
        ...

    def count_runs(
        self, table: Table[RunRow], chosen: RunFilter, statuses: Sequence[str]
    ) -> RunCounts:
        """How many of the chosen runs have each of these statuses, exactly, all in one snapshot;
        statuses of the filter itself do not count."""
        ...

    def rows_by(self, table: Table[RowT], column: str, value: str | int) -> list[RowT]:
        """The rows with this value in a column that leads one of the table's indexes, by key."""
        ...

    def counts(self, table: Table[Any], first: str | int) -> dict[CountKey, int]:
        """The counts beside a counted table whose first column has this value; none that is 0."""
        ...

    def list_audit(
        self,
        table: Table[AuditRow],
        chosen: AuditFilter,
        *,
        limit: int,
        after: tuple[int, int] | None = None,
    ) -> AuditPageRows:
        """Audit rows by tick, then position, behind `after` (tick and position of a row), and the
        exact number of all that match, which does not depend on `after`."""
        ...

    def distinct(self, table: Table[Any], column: str) -> list[str]:
        """The different texts in a column that leads one of the table's indexes, in order of their
        code points; found by leaping along the index, not by reading all rows."""
        ...
