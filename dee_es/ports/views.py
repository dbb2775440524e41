"""Projection tables: what queries read and the projector writes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from dee_es.core.projection import CountKey, Key, RowT, Table
from dee_es.core.views import AuditFilter, AuditRow, RunFilter, RunRow
from dee_es.ports.log import StoredRow


class TableTransaction(Protocol):
    """Projection tables inside one transaction."""

    def checkpoint(self, projection: str, version: int) -> tuple[int, int]:
        """Position up to which the projection has folded, and last run ordinal it has seen."""
        ...

    def save_checkpoint(self, projection: str, version: int, position: int, ordinal: int) -> None:
        """Move the checkpoint; it commits with the rows."""
        ...

    def rows(self, table: Table[RowT], keys: Sequence[Key]) -> dict[Key, RowT]:
        """The rows with these keys that exist."""
        ...

    def write(self, table: Table[RowT], inserts: Sequence[RowT], updates: Sequence[RowT]) -> None:
        """Insert new rows and replace existing ones, by key."""
        ...

    def add_counts(self, table: Table[RowT], deltas: Mapping[CountKey, int]) -> None:
        """Add to the counts beside a counted table."""
        ...

    def read_log(self, after: int, limit: int) -> list[StoredRow]:
        """Rows of the log behind position `after`, in order."""
        ...


class Views(Protocol):
    """Projection tables: what queries read and the projector writes."""

    def prepare(self, tables: Iterable[Table[Any]]) -> None:
        """Create the tables that do not exist yet."""
        ...

    def transaction(self) -> AbstractContextManager[TableTransaction]:
        """A transaction on the tables, one at a time for the whole database (append lock)."""
        ...

    def position(self, projection: str, version: int) -> int:
        """Position up to which the projection has folded."""
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
    ) -> tuple[list[RunRow], int, int, int]:
        """Rows by ordinal descending, exact total, log head and folded position, all of one
        snapshot. `before_ordinal` continues a page; the total does not depend on it."""
        ...

    def rows_by(self, table: Table[RowT], column: str, value: str | int) -> list[RowT]:
        """The rows with this value in a column that leads one of the table's indexes, by key."""
        ...

    def counts(self, table: Table[Any], first: str | int) -> dict[CountKey, int]:
        """The counts beside a counted table whose first column has this value; none that is 0."""
        ...

    def list_audit(
        self, table: Table[AuditRow], chosen: AuditFilter, *, limit: int, after_position: int = 0
    ) -> list[AuditRow]:
        """Audit rows behind a position, in log order."""
        ...
