"""One page of events folded into a build's tables; live, catch-up and rebuild all do it here."""

from __future__ import annotations

import traceback
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any, Final, NamedTuple, Protocol

from msgspec.structs import replace

from dee_es.core.events import RecordedEvent
from dee_es.core.projection import Build, CountKey, Key, Projection, Row, RowT, Table
from dee_es.core.registry import CREATING
from dee_es.engine.log.journal import Journal
from dee_es.errors import IntegrityViolation, ProjectionStuck
from dee_es.ports import BuildRow, ParkedRow, StoredRow, TableReader, TableTransaction


class Rows(Protocol):
    """The part of a `TableTransaction` that folding reads and writes rows by."""

    def rows(self, table: Table[RowT], keys: Sequence[Key]) -> dict[Key, RowT]: ...

    def write(
        self, table: Table[RowT], inserts: Sequence[RowT], updates: Sequence[RowT]
    ) -> None: ...

    def add_counts(self, table: Table[RowT], deltas: Mapping[CountKey, int]) -> None: ...


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


def page_of(opened: Opened, ordinal: int, reader: TableReader | None = None) -> Page:
    """The page that entries make; each first event of a run takes the ordinal after the one before.

    Where runs were archived, counting would miss them: `reader` then says which numbers runs have.
    """
    rows, events = opened.rows, opened.events
    first = [row for row in rows if row.version == 1 and row.name in CREATING]
    known = reader.ordinals([row.stream_id for row in first]) if reader and first else None
    numbers = {}
    for row in first:
        ordinal = ordinal + 1 if known is None else known.get(row.stream_id, ordinal + 1)
        numbers[row.position] = ordinal
    if numbers:
        events = [
            event if event.position not in numbers else numbered(event, numbers[event.position])
            for event in events
        ]
    return Page(events, rows[-1].position, ordinal, opened.unreadable)


def open_page(
    journal: Journal, rows: Sequence[StoredRow], ordinal: int, reader: TableReader | None = None
) -> Page:
    """`open_rows`, and `page_of` what they are."""
    return page_of(open_rows(journal, rows), ordinal, reader)


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


def advance(
    tx: TableTransaction, build: Build, row: BuildRow, page: Page, parked_ms: int | None
) -> BuildRow:
    """Fold a page into a build and move its position; returns the build's row after it.

    A stream with an event that cannot be folded is parked from that event on (`parked_ms` is the
    wall time noted for it), the others go on; with None, `ProjectionStuck` is raised instead.
    """
    events = page.events
    if row.parked:
        held = tx.parked(row.key, sorted({event.stream_id for event in events}))
        events = [event for event in events if event.stream_id not in held]
        page = page._replace(
            events=events, unreadable=tuple(u for u in page.unreadable if u.stream_id not in held)
        )
    poisoned = fold(tx, build, events, page.unreadable)
    if not poisoned:
        tx.move(row.key, page.position, page.ordinal)
        return replace(row, position=page.position, ordinal=page.ordinal)
    if parked_ms is None:
        raise ProjectionStuck(f"projection {build.name!r} cannot fold {poisoned[0]}")
    tx.park([parked_row(build, poison, parked_ms) for poison in poisoned])
    after = replace(
        row,
        position=page.position,
        ordinal=page.ordinal,
        parked=row.parked + len(poisoned),
    )
    tx.save_build(after)
    return after


def parked_row(build: Build, poison: Poison, parked_ms: int) -> ParkedRow:
    """How the database remembers a stream that is parked."""
    name, version, number = build.key
    stream_id, position, entry, event, error = poison
    return ParkedRow(name, version, number, stream_id, position, entry, event, error, parked_ms)


def fold(
    tx: Rows, build: Build, events: Sequence[RecordedEvent], unreadable: Sequence[Poison] = ()
) -> list[Poison]:
    """Fold events into a build's tables; returns, in log order, what could not be folded.

    Of a stream with such an event, all before that event is folded, and nothing from it on.
    """
    poisoned = {poison.stream_id: poison for poison in reversed(unreadable)}
    projection, table = build.projection, build.table
    while True:
        changes = _changes(tx, build, events, poisoned)
        try:
            deltas = _deltas(projection, changes) if table.counted else {}
            break
        except _Uncountable as error:
            # Its events were folded, but the row cannot be counted: park it from the page's start.
            first = next(event for key, event in changes.keyed if key == error.key)
            poisoned[first.stream_id] = _poison(first, error.cause)
    before, after, added = changes.before, changes.after, changes.added
    inserts = [row for key, row in after.items() if key not in before]
    updates = [row for key, row in after.items() if key in before and row is not before[key]]
    tx.write(table, inserts, updates)
    if build.lines is not None:
        tx.write(build.lines, added, [])
    if deltas:
        tx.add_counts(table, deltas)
    return sorted(poisoned.values(), key=lambda poison: poison.position)


def take_out(
    tx: TableTransaction, build: Build, stream_ids: Sequence[str], positions: Sequence[int]
) -> None:
    """Take all that a build holds of some streams out of it: their rows, and the lines of their
    events, which are those at `positions`.

    Raises `IntegrityViolation` for a row that was edited into what cannot be counted: then nobody
    knows which counts it is part of.
    """
    table, tally = build.table, build.projection.tally
    by_position = table.key_kind == "integer"
    keys: list[Key] = list(positions) if by_position else list(stream_ids)
    old = tx.rows(table, keys)
    tx.delete(table, keys)
    if build.lines is not None:
        tx.delete(build.lines, list(positions))
    if table.counted:
        counts: Counter[CountKey] = Counter()
        for key, held in old.items():
            try:
                counts.subtract(tuple(tally(held)))
            except Exception as error:
                raise IntegrityViolation(
                    f"the row of {key} in projection {build.name!r} was edited, and cannot be "
                    f"counted any more; run `dee projections rebuild {build.name} --accept`"
                ) from error
        tx.add_counts(table, {key: n for key, n in counts.items() if n})


class _Changes(NamedTuple):
    before: dict[Key, Row]
    after: dict[Key, Row]
    added: list[Row]
    keyed: list[tuple[Key | None, RecordedEvent]]


class _Uncountable(Exception):
    def __init__(self, key: Key, cause: Exception) -> None:
        self.key, self.cause = key, cause


def _changes(
    tx: Rows, build: Build, events: Sequence[RecordedEvent], poisoned: dict[str, Poison]
) -> _Changes:
    projection = build.projection
    keyed: list[tuple[Key | None, RecordedEvent]] = []
    known: set[Key] = set()
    key_of, lines = projection.key, build.lines
    for event in events:
        if poisoned and _is_behind(poisoned, event):
            continue
        try:
            key = key_of(event)
        except Exception as error:
            poisoned[event.stream_id] = _poison(event, error)
            continue
        if key is not None or lines is not None:
            keyed.append((key, event))
            # A stream's first event makes its row; only the others have one to read.
            if key is not None and event.version > 1:
                known.add(key)
    before: dict[Key, Row] = {}
    if known and not projection.appends_only:
        before = dict(tx.rows(build.table, sorted(known, key=str)))
    after = dict(before)
    added: list[Row] = []
    fold_one = projection.fold
    for key, event in keyed:
        if poisoned and _is_behind(poisoned, event):
            continue
        try:
            row = None if key is None else fold_one(after.get(key), event)
            line = None if lines is None else projection.line(row, event)
        except Exception as error:
            poisoned[event.stream_id] = _poison(event, error)
            continue
        if key is not None and row is not None:
            after[key] = row
        if line is not None:
            added.append(line)
    return _Changes(before, after, added, keyed)


def _is_behind(poisoned: Mapping[str, Poison], event: RecordedEvent) -> bool:
    """Whether an event of the same stream at or before this one cannot be folded."""
    poison = poisoned.get(event.stream_id)
    return poison is not None and poison.position <= event.position


def _deltas(projection: Projection[Any], changes: _Changes) -> dict[CountKey, int]:
    deltas: defaultdict[CountKey, int] = defaultdict(int)
    for key, row in changes.after.items():
        old = changes.before.get(key)
        if old is row:
            continue
        try:
            new_counts = tuple(projection.tally(row))
            old_counts = tuple(projection.tally(old)) if old is not None else ()
        except Exception as error:
            raise _Uncountable(key, error) from error
        if new_counts is not old_counts and new_counts != old_counts:
            for count in new_counts:
                deltas[count] += 1
            for count in old_counts:
                deltas[count] -= 1
    return {key: n for key, n in deltas.items() if n}


def _poison(event: RecordedEvent, error: Exception) -> Poison:
    return Poison(event.stream_id, event.position, event.version, event.name, _where(error))


_SHOWN: Final = 2
"""Parts of a file's path that tell which projection it is."""


def _where(error: Exception) -> str:
    """Kind of an error and the line that raised it; its own text may hold data."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return type(error).__name__
    last = frames[-1]
    path = "/".join(PurePath(last.filename).parts[-_SHOWN:])
    return f"{type(error).__name__} at {path}:{last.lineno} in {last.name}"
