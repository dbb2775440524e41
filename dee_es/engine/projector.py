"""Folds the log into projection tables: in the append's own transaction, and by catching up.

Both go through `_fold`. A table that is behind is caught up before it is read, so that a query
reflects every event committed before it began; folding with the append only saves that work.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from dee_es.core.events import RecordedEvent
from dee_es.core.projection import CountKey, Key, Projection, Row, Table
from dee_es.core.registry import CREATING
from dee_es.engine.journal import Journal
from dee_es.errors import DeeError, ProjectionStuck
from dee_es.ports import EventStore, TableTransaction, Views

_PAGE: Final = 2000
AnyProjection = Projection[Any]


class Projector:
    """Keeps projection tables in step with the log."""

    def __init__(
        self,
        store: EventStore,
        views: Views,
        journal: Journal,
        inline: Sequence[AnyProjection],
        lazy: Sequence[AnyProjection],
    ) -> None:
        self._store = store
        self._views = views
        self._journal = journal
        self._inline = tuple(inline)
        self.projections = (*inline, *lazy)
        views.prepare(table for each in self.projections for table in tables_of(each))

    def inline(self, tx: TableTransaction, head: int, events: Sequence[RecordedEvent]) -> None:
        """Fold what is being appended into the tables that must never lag, if they are level."""
        for projection in self._inline:
            version = projection.table.version
            position, ordinal = tx.checkpoint(projection.name, version)
            if position != head:
                continue
            last = max((event.ordinal for event in events), default=0)
            _fold(tx, projection, events)
            tx.save_checkpoint(projection.name, version, events[-1].position, max(last, ordinal))

    def catch_up(self, projection: AnyProjection) -> int:
        """Fold everything the projection has not seen yet; returns its position.

        Raises `ProjectionStuck` naming the event that it cannot fold.
        """
        while True:
            with self._views.transaction() as tx:
                position, ordinal = tx.checkpoint(projection.name, projection.table.version)
                rows = tx.read_log(position, _PAGE)
                if not rows:
                    return position
                events = []
                for event in self._journal.open_public(rows):
                    if event.version == 1 and event.name in CREATING:
                        ordinal += 1
                        event = _numbered(event, ordinal)
                    events.append(event)
                _fold(tx, projection, events)
                tx.save_checkpoint(
                    projection.name, projection.table.version, rows[-1].position, ordinal
                )

    def position(self, projection: AnyProjection) -> int:
        """Position up to which the projection has folded."""
        return self._views.position(projection.name, projection.table.version)


def _numbered(event: RecordedEvent, ordinal: int) -> RecordedEvent:
    return RecordedEvent(
        event.stream_id,
        event.version,
        event.name,
        event.position,
        event.meta,
        event.event,
        ordinal,
        event.erased,
    )


def tables_of(projection: AnyProjection) -> tuple[Table[Any], ...]:
    """All tables of a projection, counts aside."""
    lines = projection.lines
    return (projection.table,) if lines is None else (projection.table, lines)


def _fold(tx: TableTransaction, projection: AnyProjection, events: Sequence[RecordedEvent]) -> None:
    table, lines = projection.table, projection.lines
    told = [(projection.key(event), event) for event in events]
    keyed = [(key, event) for key, event in told if key is not None]
    if not keyed and lines is None:
        return
    before: dict[Key, Row] = {}
    if not projection.appends_only:
        # A run's first event makes its row; only the others have one to read.
        known = {key for key, event in keyed if event.version > 1}
        before = dict(tx.rows(table, sorted(known, key=str)))
    after: dict[Key, Row] = dict(before)
    added: list[Row] = []
    for key, event in keyed if lines is None else told:
        try:
            if key is not None:
                after[key] = projection.fold(after.get(key), event)
            if lines is not None:
                line = projection.line(None if key is None else after[key], event)
                added += [] if line is None else [line]
        except DeeError:
            raise
        except Exception as error:
            raise ProjectionStuck(
                f"projection {projection.name!r} cannot fold {event.name} at position "
                f"{event.position} ({event.stream_id} entry {event.version}): "
                f"{type(error).__name__}"
            ) from error
    inserts = [row for key, row in after.items() if key not in before]
    updates = [row for key, row in after.items() if key in before and row is not before[key]]
    tx.write(table, inserts, updates)
    if lines is not None:
        tx.write(lines, added, [])
    if table.counted:
        tx.add_counts(table, _deltas(projection, before, after))


def _deltas(
    projection: AnyProjection, before: dict[Key, Row], after: dict[Key, Row]
) -> dict[CountKey, int]:
    deltas: Counter[CountKey] = Counter()
    for key, row in after.items():
        old = before.get(key)
        if old is row:
            continue
        deltas.update(projection.tally(row))
        if old is not None:
            deltas.subtract(projection.tally(old))
    return {key: n for key, n in deltas.items() if n}
