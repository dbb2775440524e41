"""Entries of the log as pages of events, ready to be folded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from dee_es.core.events import RecordedEvent
from dee_es.core.registry import CREATING
from dee_es.engine.log.journal import Journal
from dee_es.errors import IntegrityViolation
from dee_es.ports import StoredRow, TableReader, beside


class Poison(NamedTuple):
    """An event that cannot be folded: where it is, and why not, without any data."""

    stream_id: str
    position: int
    entry: int
    event: str
    error: str

    def __str__(self) -> str:
        return (
            f"{self.event} at position {self.position} ({self.stream_id} entry {self.entry}): "
            f"{self.error}"
        )


class Page(NamedTuple):
    """Events of the log in order, up to and including `position`; `ordinal` is the last run's
    number then, and `unreadable` are entries that are no events any more."""

    events: Sequence[RecordedEvent]
    position: int
    ordinal: int
    unreadable: Sequence[Poison] = ()


class Opened(NamedTuple):
    """What entries of the log are, in order: their positions, the events of those that are some
    still, and of each that begins a run the position and the run's id.

    It keeps no entry itself: many are under way at a time.
    """

    positions: Sequence[int]
    events: Sequence[RecordedEvent]
    run_starts: Sequence[tuple[int, str]] = ()
    unreadable: Sequence[Poison] = ()

    @property
    def run_ids(self) -> list[str]:
        """The runs that begin here."""
        return [run_id for _, run_id in self.run_starts]

    def without_last(self) -> Opened:
        """All but the last entry."""
        last = self.positions[-1]
        return Opened(
            self.positions[:-1],
            [event for event in self.events if event.position < last],
            [each for each in self.run_starts if each[0] < last],
            [poison for poison in self.unreadable if poison.position < last],
        )


def open_rows(journal: Journal, rows: Sequence[StoredRow]) -> Opened:
    """Read entries as events, with a look at what was begun beside it now and then.

    Raises `UnknownEventVersion` for one that newer code has written: nothing can be right
    without it.
    """
    events: list[RecordedEvent] = []
    unreadable: list[Poison] = []
    for part in beside.parts(rows):
        try:
            events += journal.open_public(part)
        except IntegrityViolation:
            for row in part:
                try:
                    events += journal.open_public([row])
                except IntegrityViolation:
                    unreadable.append(
                        Poison(row.stream_id, row.position, row.version, row.name, "unreadable")
                    )
    return Opened(
        [row.position for row in rows],
        events,
        [
            (row.position, row.stream_id)
            for row in rows
            if row.name in CREATING and row.version == 1
        ],
        unreadable,
    )


def page_of(opened: Opened, ordinal: int, numbers: Mapping[str, int] | None = None) -> Page:
    """The page that entries make; each first event of a run takes the ordinal after the one before.

    Where runs were archived, counting would miss them: `numbers` are those that runs have.
    """
    events = opened.events
    ordinals = {}
    for position, run_id in opened.run_starts:
        ordinal = ordinal + 1 if numbers is None else numbers.get(run_id, ordinal + 1)
        ordinals[position] = ordinal
    if ordinals:
        events = [
            event if event.position not in ordinals else numbered(event, ordinals[event.position])
            for event in events
        ]
    return Page(events, opened.positions[-1], ordinal, opened.unreadable)


def numbers_of(opened: Opened, reader: TableReader) -> Mapping[str, int] | None:
    """The numbers of the runs that begin in entries; None if counting tells them."""
    return reader.ordinals(opened.run_ids) if opened.run_starts else None


def open_page(
    journal: Journal, rows: Sequence[StoredRow], ordinal: int, reader: TableReader | None = None
) -> Page:
    """`open_rows`, and `page_of` what they are, with the numbers that `reader` says runs have."""
    opened = open_rows(journal, rows)
    return page_of(opened, ordinal, numbers_of(opened, reader) if reader else None)


def numbered(event: RecordedEvent, ordinal: int) -> RecordedEvent:
    """The first event of the run of this number."""
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
