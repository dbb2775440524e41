"""The Merkle tree over the log as it is read, compared with every checkpoint that it reaches."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from itertools import zip_longest

from dee_es.core.evidence.chunk_check import OF_TREE, ChunkReport, Problem
from dee_es.core.evidence.merkle import Edge


class Roots:
    """Signed roots by size, each with where it was found."""

    def __init__(self, roots: Mapping[int, tuple[bytes, str]]) -> None:
        self._roots = dict(roots)
        self._sizes = sorted(roots)
        self._edge = Edge()
        self._whole = True
        self._broken = False
        self.matched = 0
        self.anchored = 0

    def sizes(self, start: int, end: int) -> tuple[int, ...]:
        """The sizes of checkpoints that are more than `start` and not more than `end`."""
        first, last = bisect_right(self._sizes, start), bisect_right(self._sizes, end)
        return tuple(self._sizes[first:last])

    def beyond(self, start: int) -> bool:
        """Whether there is a checkpoint of more entries than `start`."""
        return bool(self._sizes) and self._sizes[-1] > start

    def take(self, report: ChunkReport) -> list[Problem]:
        """Let the tree grow by a chunk; returns what does not agree with a checkpoint."""
        chunk, problems = report.chunk, []
        for size, mark in zip_longest(chunk.sizes, report.marks):
            root, where = self._roots[size]
            if self._whole and mark is not None and self._edge.joined(mark).root == root:
                self.matched += 1
                self.anchored = size
            elif not self._broken:
                # After the first, all others must differ, too.
                self._broken = True
                text = f"positions {self.anchored + 1} to {size}: what is stored is not what was"
                problems.append(Problem(size, OF_TREE, "", f"{text} signed ({where})"))
        if report.dense and report.edge.size == chunk.end - chunk.start:
            self._edge = self._edge.joined(report.edge)
        else:
            self._whole = False
        return problems

    def unreached(self, end: int) -> list[str]:
        """Checkpoints of more entries than the log has."""
        if not self._sizes or self._sizes[-1] <= end:
            return []
        size = self._sizes[-1]
        return [
            f"the log ends at position {end}, but one of {size} entries was signed "
            f"({self._roots[size][1]}): positions {end + 1} to {size} are missing at the end"
        ]
