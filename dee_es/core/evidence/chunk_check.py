"""A stretch of the log, checked by itself: what is wrong in it, and what has to fit its neighbours.

The log is verified in chunks of positions, so that several processes can share the work. A chunk is
checked without knowing what comes before it: its report says what is wrong inside, how the Merkle
tree grows by it, and between what every stream's entries in it stand. Whoever has all the reports
in order knows as much as one who read the whole log from beginning to end.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import Final

from msgspec import Struct

from dee_es.core.evidence import chain
from dee_es.core.evidence.chain import Entry, Stone
from dee_es.core.evidence.merkle import Edge
from dee_es.core.evidence.spans import Began, Ended, pack_spans

MOST_PROBLEMS: Final = 100
"""How many problems are named; behind them, verification gives up."""
_MOST_KEPT: Final = 2 * MOST_PROBLEMS
"""Of one chunk: up to `MOST_PROBLEMS` may be of streams that are known to be broken already."""
_BEFORE_ALL: Final = -(2**63)

OF_ORDER, OF_VERSION, OF_FORM, OF_LINK, OF_CHECKSUM, OF_TREE = range(6)
"""What is wrong first, where several things are at one position."""


class Chunk(Struct, frozen=True):
    """The positions `start + 1` to `end`; `sizes` are those of the checkpoints that end in it.

    `grown` says that the tree over it is asked for: behind the last checkpoint nobody needs it, and
    it takes two more hashes for each entry.
    """

    start: int
    end: int
    sizes: tuple[int, ...] = ()
    grown: bool = True

    @property
    def after(self) -> int:
        """Where reading begins: at the first chunk, before anything that could be there."""
        return self.start or _BEFORE_ALL


class Problem(Struct, frozen=True):
    """Something wrong at a position, in words; `stream` is empty if it is of no stream alone."""

    position: int
    rank: int
    stream: str
    text: str


class ChunkReport(Struct, frozen=True):
    """What came out of a chunk.

    `first` is the first entry in words and `last` the last position, if there are any. `edge` is of
    the tree over its leaves, up to the first position that is not as it should be (`dense` says
    that there is none); `marks` are the same at each of the chunk's `sizes` that it reached.
    `spans` are packed, one for each stream (`core.evidence.spans`).
    """

    chunk: Chunk
    first: str | None
    first_position: int
    last: int
    dense: bool
    edge: Edge
    marks: tuple[Edge, ...]
    problems: tuple[Problem, ...]
    spans: bytes


def missing_before(version: object) -> str:
    """What is said of an entry whose version is not the next one."""
    return f"entry {version} is missing before it"


def named(stream: object, version: object, position: int) -> str:
    """How problems name an entry, whatever stands in its columns."""
    return f"{printable(stream)} entry {printable(version)} (position {position})"


def printable(value: object) -> str:
    """A value of an unknown kind as part of a line; what a terminal would obey is escaped."""
    text = str(value)
    return text if text.isprintable() else ascii(text)


_position: Final = itemgetter(0)


def _is_checksum(value: object) -> bool:
    return type(value) is bytes and len(value) == chain.CHECKSUM_BYTES


class ChunkCheck:
    """Takes in the entries of a chunk, in the order of their positions."""

    def __init__(self, chunk: Chunk) -> None:
        self._chunk = chunk
        self._middles, self._lengths = chain.Middles(), chain.Lengths()
        self._sizes = list(reversed(chunk.sizes))
        self._first: str | None = None
        self._first_position = 0
        self._position = chunk.start
        self._dense = True
        self._edge = Edge()
        self._leaves: list[bytes] = []
        self._marks: list[Edge] = []
        self._out_of_order: list[Problem] = []
        self._broken: dict[str, Problem] = {}
        self._began: dict[str, Began] = {}
        self._ended: dict[str, Ended] = {}

    def take(self, entries: Sequence[Entry], stones: Sequence[Stone] = ()) -> None:
        """Take in the next entries of the chunk, and what stays there of those archived."""
        at = 0
        for stone in stones:
            upto = bisect_left(entries, stone[0], at, key=_position)
            self._take(entries[at:upto])
            self._take_stone(stone)
            at = upto
        self._take(entries[at:] if at else entries)
        self._grow()

    def _take(self, entries: Sequence[Entry]) -> None:
        if entries:
            self._begin(entries[0])
        rest = iter(entries)
        while (odd := self._take_regular(rest)) is not None:
            self._take_odd(odd)

    def _begin(self, entry: Entry | Stone) -> None:
        if self._first is None:
            self._first_position, stream, version, *_ = entry
            self._first = named(stream, version, self._first_position)

    def _take_stone(self, stone: Stone) -> None:
        """An archived entry: its checksum counts as it is told, for the archive vouches for it."""
        self._begin(stone)
        self._position += 1
        if stone[0] != self._position:
            self._position = self._misplaced(stone, self._position)
        place, stream, version, own = stone
        if not (type(stream) is str and type(version) is int and _is_checksum(own)):
            self._break(stone, OF_FORM, chain.NOT_TYPED)
            self._leaves.append(chain.GENESIS)
            return
        last = self._ended.get(stream)
        if last is None:
            self._began[stream] = (place, version, chain.UNKNOWN)
        elif last[0] + 1 != version:
            self._break(stone, OF_VERSION, missing_before(last[0] + 1))
        self._ended[stream] = (version, own)
        self._leaves.append(own)

    def _take_regular(self, entries: Iterator[Entry]) -> Entry | None:
        """Take entries in until one has something in a column that never could be there.

        Every entry of the log goes through here, so it is written for speed.
        """
        entry: Entry | None = None
        position, leaves = self._position, self._leaves
        began, ended = self._began, self._ended
        last_of, tag, start = ended.get, chain.FORMAT, chain.START
        # What `chain.hasher` does, written out: the calls would be a tenth of the time.
        sha256, join, middles, lengths = hashlib.sha256, b"".join, self._middles, self._lengths
        try:
            for entry in entries:
                place, stream, version, name, state = entry
                key, middle = stream.encode(), middles[version, name]
                previous, own, payload = state[4:36], state[36:68], state[68:]
                lead, size = lengths[len(key)], lengths[len(payload)]
                parts = (start, lead, key, middle, previous, size, payload)
                as_computed = sha256(join(parts)).digest()
                position += 1
                if place != position:
                    position = self._misplaced(entry, position)
                last = last_of(stream)
                if as_computed != own or state[:4] != tag:
                    previous, own = self._altered(entry, last)
                elif last is not None and (last[1] != previous or last[0] + 1 != version):
                    self._unlinked(entry, last)
                if last is None:
                    began[stream] = (place, version, previous)
                    if previous == chain.UNKNOWN:
                        # That stands for an archived entry's, which nobody else may claim.
                        self._break(entry, OF_LINK, chain.NOT_LINKED)
                ended[stream] = (version, own)
                leaves.append(own)
        except chain.NOT_TYPED_ERRORS:
            return entry
        finally:
            self._position = position
        return None

    def _take_odd(self, entry: Entry) -> None:
        """No stream goes on from such an entry."""
        self._position += 1
        if entry[0] != self._position:
            self._position = self._misplaced(entry, self._position)
        self._break(entry, OF_FORM, chain.NOT_TYPED)
        self._leaves.append(chain.GENESIS)

    def _misplaced(self, entry: Entry | Stone, expected: int) -> int:
        """Note an entry that is not where it should be; returns the position to go on from."""
        place, stream, version, *_ = entry
        # The tree ends here: what comes behind has no place in it that could be known.
        self._grow()
        self._dense = False
        name = named(stream, version, place)
        text = None
        if place < expected:
            what = "taken twice" if place > 0 else "none of the log's"
            text = f"position {place} is {what}: {name}"
        elif name != self._first:
            text = f"position {expected} is missing; the next entry found is {name}"
        # Before the first entry, it depends on the chunk before this one what is missing.
        if text is not None and len(self._out_of_order) < _MOST_KEPT:
            self._out_of_order.append(Problem(place, OF_ORDER, "", text))
        return max(place, expected - 1)

    def _altered(self, entry: Entry, last: tuple[int, bytes] | None) -> tuple[bytes, bytes]:
        """Note what is wrong with an entry itself; returns what counts as its two checksums."""
        _, _, version, _, state = entry
        malformed = chain.is_malformed(state)
        previous, own = (chain.GENESIS,) * 2 if malformed else (state[4:36], state[36:68])
        if last is not None and last[0] + 1 != version:
            self._break(entry, OF_VERSION, missing_before(last[0] + 1))
        elif malformed:
            self._break(entry, OF_FORM, chain.MALFORMED)
        elif last is not None and last[1] != previous:
            self._break(entry, OF_LINK, chain.NOT_LINKED)
        else:
            self._break(entry, OF_CHECKSUM, chain.NOT_ITS_CHECKSUM)
        return previous, own

    def _unlinked(self, entry: Entry, last: tuple[int, bytes]) -> None:
        if last[0] + 1 != entry[2]:
            self._break(entry, OF_VERSION, missing_before(last[0] + 1))
        else:
            self._break(entry, OF_LINK, chain.NOT_LINKED)

    def _break(self, entry: Entry | Stone, rank: int, text: str) -> None:
        """Note the first bad entry of a stream."""
        place, stream, version, *_ = entry
        of = printable(stream)
        if of not in self._broken and len(self._broken) < _MOST_KEPT:
            name = named(stream, version, place)
            self._broken[of] = Problem(place, rank, of, f"{name}: {text}")

    def _grow(self) -> None:
        """Put the leaves so far into the tree, stopping at each checkpoint."""
        leaves, self._leaves[:] = self._leaves[:], ()
        if not (self._dense and self._chunk.grown):
            return
        start = self._chunk.start
        while self._sizes and self._sizes[-1] - start <= self._edge.size + len(leaves):
            part = self._sizes.pop() - start - self._edge.size
            self._edge, leaves = self._edge.extended(leaves[:part]), leaves[part:]
            self._marks.append(self._edge)
        self._edge = self._edge.extended(leaves)

    def report(self) -> ChunkReport:
        """What came out of all that was taken in."""
        # Both have the streams in the order in which they appeared.
        seen = zip(self._began, self._began.values(), self._ended.values(), strict=True)
        return ChunkReport(
            self._chunk,
            self._first,
            self._first_position,
            self._position,
            self._dense,
            self._edge,
            tuple(self._marks),
            (*self._out_of_order, *self._broken.values()),
            pack_spans(seen),
        )
