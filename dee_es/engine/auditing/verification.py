"""Verification: whether the log still is what was written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final

from dee_es.core import chain, codec
from dee_es.core.clock import TimeScale
from dee_es.core.ids import is_run
from dee_es.core.merkle import Edge
from dee_es.engine.auditing.anchoring import Anchoring
from dee_es.engine.models import ChainVerdict, LogVerdict
from dee_es.engine.timekeeping import EngineClock
from dee_es.errors import DeeError, RunNotFound
from dee_es.ports import EventStore, Head, StoredRow

_PAGE: Final = 5000
_MOST_PROBLEMS: Final = 100
OnVerified = Callable[[int], None]


class Verification:
    """Checks chains and the order of the log. Needs no key and no event class for it."""

    def __init__(
        self, store: EventStore, anchoring: Anchoring, clock: EngineClock, scale: TimeScale
    ) -> None:
        self._store = store
        self._anchoring = anchoring
        self._clock = clock
        self._scale = scale

    def verify_run(self, run_id: str) -> ChainVerdict:
        """Check a run's chain; raises `RunNotFound`. An empty chain is never valid."""
        rows = self._store.read_stream(run_id)
        head = self._store.heads([run_id]).get(run_id)
        if not is_run(run_id) or (not rows and head is None):
            raise RunNotFound.named(run_id)
        previous, bad, problem = chain.GENESIS, None, None
        for expected, row in enumerate(rows, start=1):
            problem = _fault(row, expected, previous)
            if problem is not None:
                bad = row.version
                break
            previous = chain.unseal(row.state, "").checksum
        if problem is None:
            problem = _head_fault(head, len(rows), previous)
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

    def _tick(self, row: StoredRow) -> int:
        public, _ = codec.split(chain.unseal(row.state, "entry").payload, "entry")
        return codec.decode(row.name, public, None, "entry")[1].tick

    def verify_log(self, on_progress: OnVerified | None = None) -> LogVerdict:
        """Check every chain and that positions have no gap, up to the end of the log as it stands
        when this begins."""
        end = self._store.log_head().position
        known = self._anchoring.known()
        roots = _Roots(known.roots)
        position = 0
        heads: dict[str, tuple[int, bytes]] = {}
        problems: list[str] = []
        broken: set[str] = set()
        while position < end:
            page = self._store.read_log(position, _PAGE)
            page = [row for row in page if row.position <= end]
            if not page:
                problems.append(f"positions {position + 1} to {end} are missing from the log")
                break
            problems += roots.take(page)
            for row in page:
                if row.position != position + 1:
                    problems.append(
                        f"position {position + 1} is missing; the next entry found is "
                        f"{row.stream_id} entry {row.version} (position {row.position})"
                    )
                position = row.position
                version, previous = heads.get(row.stream_id, (0, chain.GENESIS))
                fault = _fault(row, version + 1, previous)
                if fault is not None and row.stream_id not in broken:
                    broken.add(row.stream_id)
                    problems.append(
                        f"{row.stream_id} entry {row.version} (position {row.position}): {fault}"
                    )
                heads[row.stream_id] = (row.version, _stored_checksum(row))
            if on_progress is not None:
                on_progress(position)
            if len(problems) >= _MOST_PROBLEMS:
                break
        else:
            problems.extend(self._stale_heads(heads, broken))
            problems.extend(roots.unreached())
        problems = [*known.problems, *problems]
        rest = position - roots.anchored
        return LogVerdict(
            valid=not problems,
            entries=position,
            streams=len(heads),
            problems=tuple(problems[:_MOST_PROBLEMS]),
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

    def _stale_heads(self, seen: dict[str, tuple[int, bytes]], broken: set[str]) -> list[str]:
        """Streams whose last entries do not agree with what the write side keeps about them."""
        problems = []
        after = ""
        while ids := self._store.stream_ids("", after):
            after = ids[-1]
            for stream, head in self._store.heads(ids).items():
                version, checksum = seen.get(stream, (0, chain.GENESIS))
                # More may have been appended since the end of the log was noted.
                fault = _head_fault(head, version, checksum) if head.version <= version else None
                if stream not in seen or (fault is not None and stream not in broken):
                    grown = stream not in seen and self._store.read_stream(stream, 0, 1)
                    if not grown:
                        problems.append(f"{stream} entry {head.version}: {fault or 'is missing'}")
        return problems


class _Roots:
    """The Merkle tree over what is read, compared with every checkpoint that it reaches."""

    def __init__(self, roots: Mapping[int, tuple[bytes, str]]) -> None:
        self._left = sorted(roots.items(), reverse=True)
        self._edge = Edge()
        self._broken = False
        self.matched = 0
        self.anchored = 0

    def take(self, page: Sequence[StoredRow]) -> list[str]:
        """Take in rows; returns what does not agree with a checkpoint."""
        problems = []
        leaves = [_stored_checksum(row) for row in page]
        while self._left and self._left[-1][0] <= self._edge.size + len(leaves):
            size, (root, where) = self._left.pop()
            part = size - self._edge.size
            self._edge, leaves = self._edge.extended(leaves[:part]), leaves[part:]
            if self._edge.root == root:
                self.matched += 1
                self.anchored = size
            elif not self._broken:
                # After the first, all others must differ, too.
                self._broken = True
                problems.append(
                    f"positions {self.anchored + 1} to {size}: what is stored is not what was "
                    f"signed ({where})"
                )
        self._edge = self._edge.extended(leaves)
        return problems

    def unreached(self) -> list[str]:
        """Checkpoints of more entries than there are."""
        if not self._left:
            return []
        size, (_, where) = self._left[0]
        return [
            f"the log ends at position {self._edge.size}, but one of {size} entries was signed "
            f"({where}): positions {self._edge.size + 1} to {size} are missing at the end"
        ]


def _fault(row: StoredRow, expected: int, previous: bytes) -> str | None:
    if row.version != expected:
        return f"entry {expected} is missing before it"
    return chain.fault(row.stream_id, row.version, row.name, previous, row.state)


def _head_fault(head: Head | None, version: int, checksum: bytes) -> str | None:
    if head is None:
        return "the stream's head is missing"
    if head.version > version:
        return f"entries {version + 1} to {head.version} are missing at the end"
    if head.version < version or head.checksum != checksum:
        return "the last entry is not the one that the stream's head names"
    return None


def _stored_checksum(row: StoredRow) -> bytes:
    try:
        return chain.unseal(row.state, "entry").checksum
    except DeeError:
        return chain.GENESIS
