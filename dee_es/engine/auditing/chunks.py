"""Reading the log for verification, and how the work on it is shared."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Final

from dee_es.core.evidence.chain import Entry, Stone
from dee_es.core.evidence.chunk_check import Chunk, ChunkCheck, ChunkReport
from dee_es.engine.interpreter import seldom_collected
from dee_es.ports import EventStore

CHUNK: Final = 1 << 14
"""Positions of a chunk: a power of two, so that the tree over it is a subtree of the log's."""
_MOST_ROWS: Final = 1024
"""Of a page: what is read should still be in the processor's cache when it is checked."""
_PAGE_BYTES: Final = 4 << 20
"""What the states of a page may take; they are small as a rule, but need not be."""
_SAMPLED: Final = 16
_LOOKS: Final = 5

ShareChecks = Callable[[Iterable[Chunk], int], Generator[ChunkReport, None, None]]
"""Has chunks checked by so many processes, this one among them; reports come in order."""


class _NotWhole(Exception):
    """Something is missing in a page, or there is too much in it."""


class ChunkReader:
    """Checks chunks of a log, page by page in flat memory."""

    def __init__(self, store: EventStore) -> None:
        self._store = store
        self._rows = _MOST_ROWS // 8

    @seldom_collected()
    def check(self, chunk: Chunk) -> ChunkReport:
        """Read a chunk and check it; raises `StoreUnavailable`."""
        return self._whole(chunk) or self._report(chunk, self._read)

    def _whole(self, chunk: Chunk) -> ChunkReport | None:
        """What comes out of a chunk in which nothing is archived or missing, as in nearly all:
        whether anything is left of archived entries is then asked once and not for each page."""

        def read(after: int, upto: int) -> tuple[list[Entry], list[Stone]]:
            entries = self._store.read_entries(after, upto)
            if len(entries) != upto - max(after, chunk.start):
                raise _NotWhole
            return entries, []

        try:
            report = self._report(chunk, read)
        except _NotWhole:
            return None
        return None if self._store.tombstones(chunk.after, chunk.end) else report

    def _report(
        self, chunk: Chunk, read: Callable[[int, int], tuple[list[Entry], list[Stone]]]
    ) -> ChunkReport:
        check = ChunkCheck(chunk)
        after, upto = chunk.after, chunk.start
        while upto < chunk.end:
            upto = min(upto + self._rows, chunk.end)
            self._take_page(check, *read(after, upto))
            after = upto
        return check.report()

    def _take_page(
        self, check: ChunkCheck, entries: Sequence[Entry], stones: Sequence[Stone]
    ) -> None:
        """A call of its own, so that the page is gone before the next one is read, which then takes
        its place in the processor's cache."""
        check.take(entries, stones)
        some = entries[::_SAMPLED]
        if some:
            size = sum(_size(entry[4]) for entry in some)
            fitting = _PAGE_BYTES * len(some) // max(size, 1)
            self._rows = max(min(fitting, _MOST_ROWS, 2 * self._rows), 1)

    def _read(self, after: int, upto: int) -> tuple[list[Entry], list[Stone]]:
        """What there is in a stretch, and what is left there of archived entries."""
        for _ in range(_LOOKS):
            entries = self._store.read_entries(after, upto)
            stones = [
                (stone.position, stone.stream_id, stone.version, stone.checksum)
                for stone in self._store.tombstones(after, upto)
            ]
            # What is both may have been archived between the two looks.
            if not stones or {entry[0] for entry in entries}.isdisjoint(s[0] for s in stones):
                break
        return entries, stones


def _size(state: object) -> int:
    """Of another type than bytes it is a matter of the check."""
    return len(state) if isinstance(state, bytes) else 0


def check_here(store: EventStore) -> ShareChecks:
    """Has all chunks checked by this process."""

    def share(chunks: Iterable[Chunk], workers: int) -> Generator[ChunkReport, None, None]:
        del workers
        reader = ChunkReader(store)
        for chunk in chunks:
            yield reader.check(chunk)

    return share
