"""Verification: whether the log still is what was written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from itertools import islice
from typing import Final

from dee_es.core import codec
from dee_es.core.clock import TimeScale
from dee_es.core.evidence import chain
from dee_es.core.evidence.chunk_check import (
    MOST_PROBLEMS,
    Chunk,
    ChunkReport,
    Problem,
    missing_before,
    named,
    printable,
)
from dee_es.core.ids import is_run
from dee_es.core.values import check_count
from dee_es.engine.auditing.anchoring import Anchoring
from dee_es.engine.auditing.archived import archive_faults
from dee_es.engine.auditing.chunks import CHUNK, ShareChecks, check_here
from dee_es.engine.auditing.roots import Roots
from dee_es.engine.auditing.stream_ends import StreamEnds
from dee_es.engine.auditing.verdicts import ChainVerdict, LogVerdict
from dee_es.engine.interpreter import seldom_collected
from dee_es.engine.log.missing import missing_run
from dee_es.engine.timekeeping import EngineClock
from dee_es.errors import DeeError, RunNotFound
from dee_es.ports import EventStore, Head, StoredRow

_HEADS: Final = 5000
_WORTH_SHARING: Final = 8
"""Chunks: a process more has begun only when this one has checked about as many."""
OnVerified = Callable[[int], None]


class Verification:
    """Checks chains and the order of the log. Needs no key and no event class for it."""

    def __init__(
        self,
        store: EventStore,
        anchoring: Anchoring,
        clock: EngineClock,
        scale: TimeScale,
        share: ShareChecks | None = None,
    ) -> None:
        self._store = store
        self._anchoring = anchoring
        self._clock = clock
        self._scale = scale
        self._share = share

    # --- one stream -------------------------------------------------------------------------------

    def verify_run(self, run_id: str) -> ChainVerdict:
        """Check a run's chain; raises `RunNotFound`. An empty chain is never valid, and what was
        archived is verified with its archive."""
        rows, head = self._as_it_stands(run_id)
        if not is_run(run_id) or (not rows and head is None):
            raise RunNotFound.named(run_id)
        if not rows and self._store.tombstones_of([run_id]):
            raise missing_run(self._store, run_id)
        previous, bad, problem = chain.GENESIS, None, None
        for expected, row in enumerate(rows, start=1):
            problem = _fault(row, expected, previous)
            if problem is not None:
                bad = row.version
                break
            previous = chain.unseal(row.state, "").checksum
        if problem is None:
            known = None if head is None else (head.version, head.checksum)
            problem = _head_fault(known, len(rows), previous)
            bad = len(rows) if problem is not None else None
        ticks = [] if problem is not None else [self._tick(rows[0]), self._tick(rows[-1])]
        return ChainVerdict(
            run_id,
            problem is None,
            len(rows),
            ticks[0] if ticks else None,
            ticks[1] if ticks else None,
            bad,
            problem,
            previous.hex() if problem is None else None,
            self._anchoring.covered(rows),
        )

    def _as_it_stands(self, run_id: str) -> tuple[list[StoredRow], Head | None]:
        """A run's entries and its head; it may have gone on between the two looks."""
        rows = self._store.read_stream(run_id)
        head = self._store.heads([run_id]).get(run_id)
        # SQLite keeps anything in any column.
        if head is None or type(head.version) is not int:
            return rows, head
        last = rows[-1].version if rows else 0
        if last == len(rows) < head.version:
            more = self._store.read_stream(run_id, last, head.version)
            # None if they are not there, or all of them have left for an archive by now.
            rows = rows + more if more else self._store.read_stream(run_id)
        return rows, head

    def _tick(self, row: StoredRow) -> int:
        public, _ = codec.split(chain.unseal(row.state, "entry").payload, "entry")
        return codec.decode(row.name, public, None, "entry")[1].tick

    # --- the whole log ----------------------------------------------------------------------------

    def size(self) -> int:
        """How many entries the log has, by its head."""
        return self._store.log_head().position

    @seldom_collected()
    def verify_log(self, on_progress: OnVerified | None = None, workers: int = 1) -> LogVerdict:
        """Check every chain and that positions have no gap, up to the end of the log as it stands
        when this begins. Raises `InvalidInput` unless there is at least one worker."""
        check_count("workers", workers)
        # Before the end is noted: what is signed behind it would be told as missing.
        known = self._anchoring.known()
        end = self._store.log_head().position
        course = _Course(self._store, Roots(known.roots), end)
        chunks = list(course.chunks())
        if len(chunks) < _WORTH_SHARING * workers:
            workers = 1
        share = check_here(self._store) if self._share is None or workers == 1 else self._share
        with closing(share(chunks, workers)) as reports:
            # Not asked for more than there are: others would be seen out before the end is looked
            # at, and not meanwhile.
            for report in islice(reports, len(chunks)):
                course.take(report)
                if on_progress is not None:
                    on_progress(course.position)
                if course.full:
                    break
            else:
                course.end()
        roots, rest = course.roots, course.position - course.roots.anchored
        problems = (*known.problems, *course.problems)
        return LogVerdict(
            valid=not problems,
            entries=course.position,
            streams=len(course.streams),
            problems=problems[:MOST_PROBLEMS],
            checkpoints=roots.matched,
            anchored_through=roots.anchored,
            unanchored_events=rest,
            unanchored_seconds=self._age(roots.anchored) if rest else 0.0,
            unchecked=known.unchecked,
        )

    def _age(self, anchored: int) -> float:
        """Seconds since the first entry that no checkpoint covers."""
        for row in self._store.read_log(anchored, 1):
            with suppress(DeeError):
                ticks = self._clock.now() - self._tick(row)
                return max(0, ticks) * self._scale.resolution_ms / 1000
        return 0.0


class _Course:
    """What is known of the log up to a position, as its chunks are joined in order."""

    def __init__(self, store: EventStore, roots: Roots, end: int) -> None:
        self._store = store
        self._end = end
        # A head that was set far ahead must keep nobody waiting: no more is read than there is.
        self._stop = min(end, _last_position(store, end) + CHUNK)
        self._broken: set[str] = set()
        self.roots = roots
        self.streams = StreamEnds()
        self.position = 0
        self.problems: list[str] = []

    @property
    def full(self) -> bool:
        """Whether as many problems were found as are named."""
        return len(self.problems) >= MOST_PROBLEMS

    def chunks(self) -> Iterator[Chunk]:
        """The log up to its end, in pieces."""
        for start in range(0, self._stop, CHUNK):
            end = min(start + CHUNK, self._stop)
            yield Chunk(start, end, self.roots.sizes(start, end), self.roots.beyond(start))

    def take(self, report: ChunkReport) -> None:
        """Join the next chunk."""
        found = [*report.problems, *self.roots.take(report)]
        for unfit in self.streams.follow(report.spans):
            stream, name = self._entry_at(unfit.position)
            found.append(Problem(unfit.position, unfit.rank, stream, f"{name}: {unfit.text}"))
        if report.first is not None:
            if report.first_position > self.position + 1:
                self._say(
                    f"position {self.position + 1} is missing; the next entry found is "
                    f"{report.first}"
                )
            self.position = report.last
        for problem in sorted(found, key=lambda each: (each.position, each.rank)):
            if not problem.stream:
                self._say(problem.text)
            elif problem.stream not in self._broken:
                self._broken.add(problem.stream)
                self._say(problem.text)

    def end(self) -> None:
        """Compare what was read with what the write side keeps about the log and each stream."""
        if self.position == self._end - 1:
            self._say(f"position {self._end} is missing from the log")
        elif self.position < self._end:
            self._say(f"positions {self.position + 1} to {self._end} are missing from the log")
        self._look_behind()
        self._look_at_heads()
        for problem in archive_faults(self._store, self._stop):
            self._say(problem)
        for problem in self.roots.unreached(self._end):
            self._say(problem)

    def _say(self, problem: str) -> None:
        if not self.full:
            self.problems.append(problem)

    def _entry_at(self, position: int) -> tuple[str, str]:
        """The stream of an entry, and how problems name it."""
        for _, stream, version, *_ in self._store.read_entries(position - 1, position):
            return printable(stream), named(stream, version, position)
        for stone in self._store.tombstones(position - 1, position):
            return printable(stone.stream_id), named(stone.stream_id, stone.version, position)
        return f"position {position}", f"the entry at position {position}"

    def _look_behind(self) -> None:
        """Entries behind the end of the log that its own head names: it was set back."""
        after = self._store.log_head().position
        for row in self._store.read_log(after, 1):
            # What was appended meanwhile has moved the head as well.
            if row.position > self._store.log_head().position:
                name = named(row.stream_id, row.version, row.position)
                self._say(f"the log's head says that it ends at position {after}, before {name}")

    def _look_at_heads(self) -> None:
        """Streams whose last entries do not agree with what the write side keeps about them."""
        after, heads = "", 0
        while not self.full and (page := self._store.stream_ends(after, _HEADS)):
            after = page[-1][0]
            heads += len(page)
            for stream, head in self.streams.differing(page):
                if printable(stream) not in self._broken:
                    seen = self.streams.find(stream)
                    last = (0, chain.GENESIS) if seen is None else (seen.version, seen.checksum)
                    if head != last:
                        self._differing(stream, head, last)
        if not self.full and heads < len(self.streams):
            for end in self.streams.never_found():
                stream, _ = self._entry_at(end.position)
                if stream not in self._broken:
                    self._say(f"{stream} entry {end.version}: {_head_fault(None, 0, b'')}")

    def _differing(self, stream: str, head: tuple[int, bytes], last: tuple[int, bytes]) -> None:
        version, checksum = last
        try:
            # More may have been appended since the end of the log was noted.
            if head[0] > version and self._has_grown(stream, version + 1):
                return
            fault = _head_fault(head, version, checksum)
        except chain.NOT_TYPED_ERRORS:
            fault = chain.NOT_TYPED
        self._say(f"{printable(stream)} entry {printable(head[0])}: {fault}")

    def _has_grown(self, stream: str, version: int) -> bool:
        """Whether a stream's entry came behind the end that was noted; it may have left for an
        archive since."""
        rows = self._store.read_stream(stream, version - 1, version)
        stones = [] if rows else self._store.tombstones_of([stream]).get(stream, [])
        places = [row.position for row in rows]
        places += [stone.position for stone in stones if stone.version == version]
        return any(self._end < place <= self._store.log_head().position for place in places)


def _last_position(store: EventStore, end: int) -> int:
    """The last position up to `end` at which there is an entry, or what was left of one."""
    if store.read_entries(end - 1, end) or store.tombstones(end - 1, end):
        return end
    low, high = 0, end
    while low < high:
        middle = (low + high) // 2
        if store.read_log(middle, 1):
            low = middle + 1
        else:
            high = middle
    return max([low, *(stone.position for stone in store.tombstones(low, end))])


def _fault(row: StoredRow, expected: int, previous: bytes) -> str | None:
    if row.version != expected:
        return missing_before(expected)
    return chain.fault(row.stream_id, row.version, row.name, previous, row.state)


def _head_fault(head: tuple[int, bytes] | None, version: int, checksum: bytes) -> str | None:
    if head is None:
        return "the stream's head is missing"
    if head[0] > version:
        return f"entries {version + 1} to {head[0]} are missing at the end"
    if head[0] < version or head[1] != checksum:
        return "the last entry is not the one that the stream's head names"
    return None
