"""Parked streams taken up again after a fix, and the rows of single streams made anew."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from dee_es.core.events import RecordedEvent
from dee_es.core.projection import Build
from dee_es.engine.projecting.context import Context
from dee_es.engine.projecting.folding import fold, parked_row, take_out
from dee_es.engine.projecting.models import Refolded
from dee_es.engine.projecting.pages import numbered, open_page
from dee_es.engine.projecting.projector import AnyProjection
from dee_es.errors import InvalidInput
from dee_es.ports import (
    BuildRow,
    ParkedRow,
    StoredRow,
    TableTransaction,
)


class Repairs(Context, frozen=True):
    """Folds what one stream holds, apart from the log's order: its rows are nobody else's."""

    def retry(self, wanted: AnyProjection, stream_id: str | None) -> Refolded:
        """Fold parked streams from the event that could not be folded on, in log order.

        Those that still cannot be folded stay parked, with the event that holds them up now. What
        other builds than the one that this code reads have parked is left to those who read them.
        """
        parked = [
            row for row in self.views.parked(wanted.name) if stream_id in (None, row.stream_id)
        ]
        if parked:
            _, read = self.projector.readable(wanted, self.views.standing().builds)
            parked = [row for row in parked if (row.name, row.version, row.number) == read.key]
        if stream_id is not None and not parked:
            raise InvalidInput(
                "stream_id", f"{str(stream_id)[:64]} is not parked by {wanted.name!r}"
            )
        again = 0
        for row in sorted(parked, key=lambda row: row.position):
            again += self._retry_one(row)
        return Refolded(streams=len(parked) - again, parked=again)

    def _retry_one(self, parked: ParkedRow) -> int:
        key = (parked.name, parked.version, parked.number)
        with self.views.transaction() as tx:
            row = tx.held(key)
            build = None if row is None else self.projector.build_of(row)
            if row is None or build is None or not tx.parked(key, [parked.stream_id]):
                return 0
            rows = tx.read_stream(parked.stream_id, parked.entry - 1)
            return self._fold_stream(tx, build, row, parked.stream_id, rows)

    def refold(self, wanted: AnyProjection, stream_ids: Sequence[str]) -> Refolded:
        """Make the rows of these streams anew, from their first event on."""
        unfolded = 0
        for stream_id in stream_ids:
            build = self.projector.catch_up(wanted)
            with self.views.transaction() as tx:
                row = tx.held(build.key)
                if row is not None:
                    unfolded += self._refold_one(tx, build, row, stream_id)
        return Refolded(streams=len(stream_ids) - unfolded, parked=unfolded)

    def _refold_one(self, tx: TableTransaction, build: Build, row: BuildRow, stream_id: str) -> int:
        rows = tx.read_stream(stream_id)
        upto = [each.position for each in rows if each.position <= row.position]
        take_out(tx, build, [stream_id], upto)
        return self._fold_stream(tx, build, row, stream_id, rows)

    def _fold_stream(
        self,
        tx: TableTransaction,
        build: Build,
        row: BuildRow,
        stream_id: str,
        rows: Sequence[StoredRow],
    ) -> int:
        """Fold rows of one stream up to the build's position; 1 if that leaves it parked."""
        upto = [each for each in rows if each.position <= row.position]
        was = bool(tx.parked(row.key, [stream_id])) if row.parked else False
        if not upto:
            return 0
        page = open_page(self.journal, upto, 0)
        poisoned = fold(tx, build, self._numbered(page.events), page.unreadable)
        if was:
            tx.unpark(row.key, [stream_id])
        if poisoned:
            tx.park([parked_row(build, poison, self.wall.now_ms()) for poison in poisoned])
        change = len(poisoned) - was
        if change:
            tx.save_build(replace(row, parked=row.parked + change))
        return len(poisoned)

    def _numbered(self, events: Sequence[RecordedEvent]) -> list[RecordedEvent]:
        """Give a run's first event the number the run has, which its stream alone cannot tell."""
        if not events or not events[0].ordinal:
            return list(events)
        first = events[0]
        ordinal = self.store.heads([first.stream_id])[first.stream_id].ordinal
        return [numbered(first, ordinal), *events[1:]]
