"""Entries of the log as pages of events, ready to be folded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from dee_es.core.events import RecordedEvent
from dee_es.core.registry import CREATING
from dee_es.engine.log.journal import Journal
from dee_es.errors import IntegrityViolation
from dee_es.ports import StoredRow, TableReader


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
    unreadable: tuple[Poison, ...] = ()


class Opened(NamedTuple):
    """Entries of the log in order, and the events of those that are some still."""

    rows: Sequence[StoredRow]
    events: Sequence[RecordedEvent]
    unreadable: tuple[Poison, ...] = ()

    @property
    def position(self) -> int:
        """That of the last entry."""
        return self.rows[-1].position

    def without_last(self) -> Opened:
        """All but the last entry."""
        last = self.rows[-1].position
        return Opened(
            self.rows[:-1],
            [event for event in self.events if event.position < last],
            tuple(poison for poison in self.unreadable if poison.position < last),
        )


def open_rows(journal: Journal, rows: Sequence[StoredRow]) -> Opened:
    """Read entries as events. Raises `UnknownEventVersion` for one that newer code has written:
    nothing can be right without it."""
    try:
        return Opened(rows, journal.open_public(rows))
    except IntegrityViolation:
        events: list[RecordedEvent] = []
        unreadable: list[Poison] = []
        for row in rows:
            try:
                events += journal.open_public([row])
            except IntegrityViolation:
                unreadable.append(
                    Poison(row.stream_id, row.position, row.version, row.name, "unreadable")
                )
        return Opened(rows, events, tuple(unreadable))


def first_of_runs(rows: Sequence[StoredRow]) -> list[StoredRow]:
    """Those entries that begin a run."""
    return [row for row in rows if row.version == 1 and row.name in CREATING]


def page_of(opened: Opened, ordinal: int, numbers: Mapping[str, int] | None = None) -> Page:
    """The page that entries make; each first event of a run takes the ordinal after the one before.

    Where runs were archived, counting would miss them: `numbers` are those that runs have.
    """
    rows, events = opened.rows, opened.events
    ordinals = {}
    for row in first_of_runs(rows):
        ordinal = ordinal + 1 if numbers is None else numbers.get(row.stream_id, ordinal + 1)
        ordinals[row.position] = ordinal
    if ordinals:
        events = [
            event if event.position not in ordinals else numbered(event, ordinals[event.position])
            for event in events
        ]
    return Page(events, rows[-1].position, ordinal, opened.unreadable)


def open_page(
    journal: Journal, rows: Sequence[StoredRow], ordinal: int, reader: TableReader | None = None
) -> Page:
    """`open_rows`, and `page_of` what they are, with the numbers that `reader` says runs have."""
    first = [row.stream_id for row in first_of_runs(rows)]
    numbers = reader.ordinals(first) if reader and first else None
    return page_of(open_rows(journal, rows), ordinal, numbers)


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
