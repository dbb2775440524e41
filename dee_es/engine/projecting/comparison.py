"""Whether two builds of a projection hold the same, where they are meant to.

Both are read from one snapshot. A build that is behind in it is brought level in memory, so that
nobody has to stop appending for the comparison.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from operator import attrgetter
from typing import Any, Final, NamedTuple

import msgspec

from dee_es.core.projection import Build, Change, CountKey, Key, Row, Table
from dee_es.engine.log.journal import Journal
from dee_es.engine.models import Answer
from dee_es.engine.projecting.folding import counts_of, fold
from dee_es.engine.projecting.overlay import PAGE, Overlay, place_of
from dee_es.engine.projecting.pages import open_page
from dee_es.errors import TableGone
from dee_es.ports import BuildKey, BuildRow, TableReader, beside

SAMPLES: Final = 10
"""Differences that are shown; all are counted."""
_DIGEST_BYTES: Final = 32


class Difference(Answer):
    """A row that is not the same in both: `only_old` and `only_new` hold what one of them has and
    the other has not, by column; a whole row if the other has none of this key."""

    table: str
    key: str
    only_old: dict[str, Any]
    only_new: dict[str, Any]

    @property
    def told(self) -> str:
        """The difference in one line."""
        if not self.only_new:
            return f"{self.table} {self.key}: only in the old one"
        if not self.only_old:
            return f"{self.table} {self.key}: only in the new one"
        columns = (
            f"{name} {self.only_old[name]!r} became {self.only_new[name]!r}"
            for name in self.only_new
        )
        return f"{self.table} {self.key}: {', '.join(columns)}"


class Comparison(Answer):
    """How two builds compare at one position of the log.

    The digests cover the columns that must match, in the order of keys; equal rows have equal
    digests. `left_out` counts streams that one of the builds has parked.
    """

    position: int
    rows: int
    digest_old: str
    digest_new: str
    left_out: int
    differences: int
    samples: tuple[Difference, ...]

    @property
    def same(self) -> bool:
        """Whether everything that must match does."""
        return not self.differences and self.digest_old == self.digest_new


class Side(NamedTuple):
    """A build that is compared, and its row as of the snapshot."""

    build: Build
    row: BuildRow


def sides(reader: TableReader, old: Build, new: Build) -> tuple[Side, Side]:
    """Both builds as the snapshot has them; raises `TableGone` if one was dropped."""
    rows = {row.key: row for row in reader.builds(old.name)}
    missing = [build.key for build in (old, new) if build.key not in rows]
    if missing:
        raise TableGone(f"version {missing[0][1]} of projection {old.name!r} was dropped meanwhile")
    return Side(old, rows[old.key]), Side(new, rows[new.key])


def compare(
    reader: TableReader,
    journal: Journal,
    old: Build,
    new: Build,
    change: Change | None,
    parked: Callable[[BuildKey], Iterable[str]],
    on_rows: Callable[[int], None],
    ahead: bool = False,
) -> Comparison:
    """Compare what `new` holds with what `old` does, but for what `change` declares.

    `parked` gives the streams that a build has set aside; they are left out. `on_rows` hears how
    many rows have been compared, after each page of them. `ahead` is that of `Overlay`.
    """
    pair = sides(reader, old, new)
    target = max(side.row.position for side in pair)
    out = {stream for side in pair for stream in parked(side.row.key)}
    views = [_levelled(reader, journal, side, target, out, ahead) for side in pair]
    excluded = _keys(reader, out)
    found = _Findings(on_rows)
    mapping = change.as_before if change is not None else None
    counts = [Counter[CountKey](), Counter[CountKey]()]
    found.table(
        old.table,
        _shared(old.table, new.table, mapping is not None),
        _kept(_counted(views[0], old, counts[0]), old.table, excluded),
        _kept(_counted(views[1], new, counts[1]), old.table, excluded, mapping),
    )
    if old.lines is not None and new.lines is not None:
        found.table(
            old.lines,
            _shared(old.lines, new.lines, False),
            _kept(views[0].pages(old.lines), old.lines, excluded),
            _kept(views[1].pages(new.lines), new.lines, excluded),
        )
    held = [_held(side, view) for side, view in zip(pair, views, strict=True)]
    found.counts(new.table, counts[1], held[1])
    found.counts(old.table, counts[0], held[0], held[1] if old.version == new.version else None)
    digest_old, digest_new = found.digests
    return Comparison(
        position=target,
        rows=found.rows,
        digest_old=digest_old,
        digest_new=digest_new,
        left_out=len(out),
        differences=found.differences,
        samples=tuple(found.samples),
    )


def _levelled(
    reader: TableReader,
    journal: Journal,
    side: Side,
    target: int,
    parked: set[str],
    ahead: bool,
) -> Overlay:
    """The build as it is at the target's position."""
    overlay = Overlay(reader, ahead=ahead)
    position, ordinal = side.row.position, side.row.ordinal
    while position < target:
        rows = reader.read_log(position, min(PAGE, target - position))
        rows = [row for row in rows if row.position <= target]
        if not rows:
            # What was archived has left a gap up to there.
            break
        page = open_page(journal, rows, ordinal, reader)
        events = [event for event in page.events if event.stream_id not in parked]
        # What cannot be folded is found out, and parked, by whoever folds it for good.
        fold(overlay, side.build, events)
        position, ordinal = page.position, page.ordinal
    return overlay


def _keys(reader: TableReader, streams: Iterable[str]) -> set[Key]:
    """The keys of all rows that streams may have part in."""
    rows = (row for stream in streams for row in reader.read_stream(stream))
    return {key for row in rows for key in (row.stream_id, row.position)}


def _counted(view: Overlay, build: Build, counts: Counter[CountKey]) -> Iterator[list[Any]]:
    """The rows of a build's table, each counted on its way.

    One that was edited into what cannot be counted is in no count; it differs itself.
    """
    tally = build.projection.tally
    for page in view.pages(build.table):
        if build.table.counted:
            together = Counter[tuple[CountKey, ...]]()
            for row in beside.each(page):
                with suppress(Exception):
                    together[tuple(tally(row))] += 1
            counts.update(counts_of(together))
        yield page


def _held(side: Side, view: Overlay) -> dict[CountKey, int]:
    table = side.build.table
    return view.counts(table) if table.counted else {}


def _shared(old: Table[Any], new: Table[Any], mapped: bool) -> tuple[str, ...]:
    """The columns that must match: all of the old ones that the new version still has."""
    there = {column.name for column in new.columns}
    names = (column.name for column in old.columns)
    return tuple(name for name in names if mapped or name in there)


def _kept(
    pages: Iterable[list[Any]],
    table: Table[Any],
    excluded: set[Key],
    mapping: Callable[[Any], Row | None] | None = None,
) -> Iterator[list[Any]]:
    """The rows that are compared, as the former version has them."""
    key_of = attrgetter(table.key)
    for page in pages:
        if mapping is not None:
            page = [row for row in map(mapping, page) if row is not None]
        if excluded:
            page = [row for row in page if key_of(row) not in excluded]
        if page:
            yield page


def _places_of(key: CountKey) -> list[tuple[int, Any]]:
    return [place_of(part) for part in key]


def _shown(value: object) -> object:
    """A value as a difference shows it: what somebody edited into a row may be no text at all."""
    if isinstance(value, bytes):
        return f"x'{value.hex()}'"
    if isinstance(value, float):
        return str(value)
    if isinstance(value, tuple):
        return tuple(map(_shown, value))
    if isinstance(value, str) and not value.isascii():
        return value.encode("utf-8", "backslashreplace").decode()
    return value


class _Findings:
    """What a comparison has come to so far."""

    def __init__(self, on_rows: Callable[[int], None]) -> None:
        self._on_rows = on_rows
        self._encoder = msgspec.json.Encoder()
        self._digests = [hashlib.blake2b(digest_size=_DIGEST_BYTES) for _ in range(2)]
        self.rows = 0
        self.differences = 0
        self.samples: list[Difference] = []

    @property
    def digests(self) -> tuple[str, str]:
        """The digests of what was read of the old and of the new build."""
        old, new = (digest.hexdigest() for digest in self._digests)
        return old, new

    def table(
        self,
        table: Table[Any],
        columns: Sequence[str],
        old: Iterator[list[Any]],
        new: Iterator[list[Any]],
    ) -> None:
        """Walk down both tables, whose rows come in pages in the order of their keys.

        As a rule pages are equal, and are compared and counted at once.
        """
        for digest in self._digests:
            digest.update(self._encoder.encode_lines([table.name]))
        shape = _Shape(table.name, attrgetter(table.key), columns, _getter(columns))
        left, right = next(old, []), next(new, [])
        while left or right:
            some = min(len(left), len(right))
            before = [shape.values(row) for row in beside.each(left[:some])]
            after = [shape.values(row) for row in beside.each(right[:some])]
            if some and before == after:
                self._read(before, 0, 1)
                self._count(some)
                done = (some, some)
            else:
                done = self._one_by_one(shape, left, right)
            left = left[done[0] :] or next(old, [])
            right = right[done[1] :] or next(new, [])

    def _one_by_one(
        self, shape: _Shape, left: Sequence[Any], right: Sequence[Any]
    ) -> tuple[int, int]:
        """Compare row by row up to where the first of both pages ends, or to the end of the one
        there is; returns how many rows of each are done."""
        pages = [{shape.key_of(row): shape.values(row) for row in page} for page in (left, right)]
        last = min((next(reversed(page)) for page in pages if page), key=place_of)
        done = [0, 0]
        for key in sorted(pages[0].keys() | pages[1].keys(), key=place_of):
            if place_of(key) > place_of(last):
                break
            before, after = (page.get(key) for page in pages)
            for side, values in enumerate((before, after)):
                if values is not None:
                    done[side] += 1
                    self._read([values], side)
            if before != after:
                self._differs(shape.name, key, *shape.differing(before, after))
            self._count(1)
        return done[0], done[1]

    def _read(self, rows: Sequence[tuple[Any, ...]], *sides: int) -> None:
        try:
            content = self._encoder.encode_lines(rows)
        except UnicodeEncodeError:
            content = ascii(rows).encode()
        for side in sides:
            self._digests[side].update(content)

    def _count(self, rows: int) -> None:
        before = self.rows // PAGE
        self.rows += rows
        if self.rows // PAGE > before:
            self._on_rows(self.rows)

    def counts(
        self,
        table: Table[Any],
        expected: Mapping[CountKey, int],
        held: Mapping[CountKey, int],
        right: Mapping[CountKey, int] | None = None,
    ) -> None:
        """Compare a table's counts with its own rows: equal rows then have equal counts.

        One that is as in `right` is what the log says: then it is a row that was edited.
        """
        for key in sorted(expected.keys() | held.keys(), key=_places_of):
            wanted, there = expected.get(key, 0), held.get(key, 0)
            if wanted != there and (right is None or there != right.get(key, 0)):
                self._differs(f"{table.physical_name}_counts", key, {"n": there}, {"n": wanted})

    def _differs(self, table: str, key: object, old: dict[str, Any], new: dict[str, Any]) -> None:
        self.differences += 1
        if len(self.samples) < SAMPLES:
            before, after = ({n: _shown(v) for n, v in side.items()} for side in (old, new))
            shown = str(_shown(key))
            self.samples.append(Difference(table=table, key=shown, only_old=before, only_new=after))


class _Shape(NamedTuple):
    """How the rows of a table are compared: by key, and in which columns."""

    name: str
    key_of: Callable[[Any], Any]
    columns: Sequence[str]
    values: Callable[[Any], tuple[Any, ...]]

    def differing(
        self, before: tuple[Any, ...] | None, after: tuple[Any, ...] | None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """What each has that the other has not, by column."""
        if before is None or after is None:
            return self._named(before), self._named(after)
        both = list(zip(self.columns, before, after, strict=True))
        return (
            {name: was for name, was, now in both if was != now},
            {name: now for name, was, now in both if was != now},
        )

    def _named(self, values: tuple[Any, ...] | None) -> dict[str, Any]:
        return {} if values is None else dict(zip(self.columns, values, strict=True))


def _getter(columns: Sequence[str]) -> Callable[[Any], tuple[Any, ...]]:
    """What takes the columns of a row, as a tuple also if there is but one."""
    if len(columns) == 1:
        (only,) = columns
        return lambda row: (getattr(row, only),)
    return attrgetter(*columns)
