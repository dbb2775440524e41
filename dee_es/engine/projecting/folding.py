"""A page of events folded into a build's tables; live, catch-up and rebuild all do it here."""

from __future__ import annotations

import traceback
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any, Final, NamedTuple, Protocol

from msgspec.structs import replace

from dee_es.core.events import RecordedEvent
from dee_es.core.projection import Build, CountKey, Key, Projection, Row, RowT, Table
from dee_es.engine.projecting.pages import Page, Poison
from dee_es.errors import IntegrityViolation, ProjectionStuck
from dee_es.ports import BuildRow, ParkedRow, TableTransaction, beside


class HeldRows(Protocol):
    """The part of a `TableReader` that folding reads rows by."""

    def rows(self, table: Table[RowT], keys: Sequence[Key]) -> dict[Key, RowT]: ...


class Rows(HeldRows, Protocol):
    """The part of a `TableTransaction` that folding reads and writes rows by."""

    def write(
        self, table: Table[RowT], inserts: Sequence[RowT], updates: Sequence[RowT]
    ) -> None: ...

    def add_counts(self, table: Table[RowT], deltas: Mapping[CountKey, int]) -> None: ...


class Keyed(NamedTuple):
    """For each of some events the key of the row that it changes, if any; the keys of those rows
    that may be there before; and, by stream, the first event of which that cannot be told."""

    keys: Sequence[Key | None]
    known: Sequence[Key]
    poisoned: Mapping[str, Poison]


class Writes(NamedTuple):
    """What folding a page comes to: the rows as they are after it, which of them are new or
    changed, lines to add, counts to add to, and what could not be folded."""

    rows: Mapping[Key, Row]
    inserts: Sequence[Row]
    updates: Sequence[Row]
    lines: Sequence[Row]
    deltas: Mapping[CountKey, int]
    poisoned: Sequence[Poison]

    def write(self, tx: Rows, build: Build) -> None:
        """Write it into the build's tables."""
        tx.write(build.table, self.inserts, self.updates)
        if build.lines is not None:
            tx.write(build.lines, self.lines, [])
        if self.deltas:
            tx.add_counts(build.table, self.deltas)


def advance(
    tx: TableTransaction,
    build: Build,
    row: BuildRow,
    page: Page,
    parked_ms: int | None,
    ahead: Writes | None = None,
) -> BuildRow:
    """Fold a page into a build and move its position; returns the build's row after it.

    A stream with an event that cannot be folded is parked from that event on (`parked_ms` is the
    wall time noted for it), the others go on; with None, `ProjectionStuck` is raised instead.
    `ahead` is what the page writes, if it was folded onto just this row before.
    """
    if ahead is None:
        if row.parked:
            page = _without(page, tx.parked(row.key, sorted({e.stream_id for e in page.events})))
        ahead = writes_of(tx, build, page.events, page.unreadable)
    ahead.write(tx, build)
    poisoned, after = ahead.poisoned, after_page(row, page)
    if not poisoned:
        tx.move(row.key, page.position, page.ordinal)
        return after
    if parked_ms is None:
        raise ProjectionStuck(f"projection {build.name!r} cannot fold {poisoned[0]}")
    tx.park([parked_row(build, poison, parked_ms) for poison in poisoned])
    after = replace(after, parked=row.parked + len(poisoned))
    tx.save_build(after)
    return after


def after_page(row: BuildRow, page: Page) -> BuildRow:
    """A build's row once a page is folded, if all of it can be."""
    return replace(row, position=page.position, ordinal=page.ordinal)


def _without(page: Page, streams: set[str]) -> Page:
    return page._replace(
        events=[event for event in page.events if event.stream_id not in streams],
        unreadable=[each for each in page.unreadable if each.stream_id not in streams],
    )


def parked_row(build: Build, poison: Poison, parked_ms: int) -> ParkedRow:
    """How the database remembers a stream that is parked."""
    name, version, number = build.key
    stream_id, position, entry, event, error = poison
    return ParkedRow(name, version, number, stream_id, position, entry, event, error, parked_ms)


def fold(
    tx: Rows, build: Build, events: Sequence[RecordedEvent], unreadable: Sequence[Poison] = ()
) -> Sequence[Poison]:
    """Fold events into a build's tables; returns, in log order, what could not be folded.

    Of a stream with such an event, all before that event is folded, and nothing from it on.
    """
    writes = writes_of(tx, build, events, unreadable)
    writes.write(tx, build)
    return writes.poisoned


def keyed(build: Build, events: Sequence[RecordedEvent]) -> Keyed:
    """Which rows events change, before any of them is read."""
    projection = build.projection
    key_of, reads = projection.key, not projection.appends_only
    keys: list[Key | None] = []
    known: set[Key] = set()
    poisoned: dict[str, Poison] = {}
    for event in events:
        try:
            key = key_of(event)
        except Exception as error:
            poisoned.setdefault(event.stream_id, _poison(event, error))
            key = None
        keys.append(key)
        # A stream's first event makes its row; only the others have one to read.
        if reads and key is not None and event.version > 1:
            known.add(key)
    return Keyed(keys, sorted(known, key=str), poisoned)


def writes_of(
    held: HeldRows,
    build: Build,
    events: Sequence[RecordedEvent],
    unreadable: Sequence[Poison] = (),
    by_key: Keyed | None = None,
) -> Writes:
    """What `fold` writes, on top of the rows that are `held`; it is not written yet.

    `by_key` is what `keyed` says of the events, where that was asked before.
    """
    keys, known, untold = by_key or keyed(build, events)
    poisoned = dict(untold)
    for poison in unreadable:
        earlier = poisoned.get(poison.stream_id)
        if earlier is None or poison.position < earlier.position:
            poisoned[poison.stream_id] = poison
    projection, table = build.projection, build.table
    before = held.rows(table, known) if known else {}
    pairs = list(zip(keys, events, strict=True))
    while True:
        after, added = _folded(build, pairs, before, poisoned)
        try:
            deltas = _deltas(projection, before, after) if table.counted else {}
            break
        except _Uncountable as error:
            # Its events were folded, but the row cannot be counted: park it from the page's start.
            first = next(event for key, event in pairs if key == error.key)
            poisoned[first.stream_id] = _poison(first, error.cause)
    return Writes(
        rows=after,
        inserts=[row for key, row in after.items() if key not in before],
        updates=[row for key, row in after.items() if key in before and row is not before[key]],
        lines=added,
        deltas=deltas,
        poisoned=sorted(poisoned.values(), key=lambda poison: poison.position),
    )


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


class _Uncountable(Exception):
    def __init__(self, key: Key, cause: Exception) -> None:
        self.key, self.cause = key, cause


def _folded(
    build: Build,
    pairs: Sequence[tuple[Key | None, RecordedEvent]],
    before: Mapping[Key, Row],
    poisoned: dict[str, Poison],
) -> tuple[dict[Key, Row], list[Row]]:
    """The rows after the events, and the lines that these add."""
    projection, lines = build.projection, build.lines
    fold_one, line_of = projection.fold, projection.line
    after = dict(before)
    added: list[Row] = []
    for key, event in beside.each(pairs):
        if key is None and lines is None:
            continue
        if poisoned and _is_behind(poisoned, event):
            continue
        try:
            row = None if key is None else fold_one(after.get(key), event)
            line = None if lines is None else line_of(row, event)
        except Exception as error:
            poisoned[event.stream_id] = _poison(event, error)
            continue
        if key is not None and row is not None:
            after[key] = row
        if line is not None:
            added.append(line)
    return after, added


def _is_behind(poisoned: Mapping[str, Poison], event: RecordedEvent) -> bool:
    """Whether an event of the same stream at or before this one cannot be folded."""
    poison = poisoned.get(event.stream_id)
    return poison is not None and poison.position <= event.position


def _deltas(
    projection: Projection[Any], before: Mapping[Key, Row], after: Mapping[Key, Row]
) -> dict[CountKey, int]:
    # Many rows are part of the very same counts.
    together: defaultdict[tuple[CountKey, ...], int] = defaultdict(int)
    tally = projection.tally
    for key, row in beside.each(list(after.items())):
        old = before.get(key)
        if old is row:
            continue
        try:
            new_counts = tuple(tally(row))
            old_counts = tuple(tally(old)) if old is not None else ()
            if new_counts is not old_counts:
                together[new_counts] += 1
                together[old_counts] -= 1
        except Exception as error:
            raise _Uncountable(key, error) from error
    return {key: n for key, n in counts_of(together).items() if n}


def counts_of(together: Mapping[tuple[CountKey, ...], int]) -> dict[CountKey, int]:
    """Each count by itself, of how many rows there are that are part of the same ones."""
    counts: defaultdict[CountKey, int] = defaultdict(int)
    for shared, n in together.items():
        for count in shared:
            counts[count] += n
    return counts


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
