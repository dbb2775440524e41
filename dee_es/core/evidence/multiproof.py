"""One proof that many leaves are in the Merkle tree of the log.

It holds the roots of the maximal subtrees without a chosen leaf, from left to right. Whoever has
the chosen leaves comes from both to the root of the tree, so that an export of a thousand entries
that lie together needs some twenty hashes and not twenty thousand.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right
from collections.abc import Container, Iterable, Iterator, Sequence
from typing import Final

from dee_es.core.evidence.merkle import EMPTY_ROOT, leaf_hash, node_hash

_LEAF: Final = b"\x00"


class Ranges:
    """Whole numbers, kept as the ranges that they make up: few, where they lie together."""

    def __init__(self, numbers: Iterable[int] = ()) -> None:
        """Take in numbers in ascending order."""
        self._starts: list[int] = []
        self._ends: list[int] = []
        for number in numbers:
            self.add(number)

    def add(self, number: int) -> None:
        """Take in a number that is no smaller than those before it; raises `ValueError`."""
        if self._ends and number < self._ends[-1] - 1:
            raise ValueError("numbers have to come in ascending order")
        if self._ends and number == self._ends[-1] - 1:
            return
        if self._ends and number == self._ends[-1]:
            self._ends[-1] = number + 1
        else:
            self._starts.append(number)
            self._ends.append(number + 1)

    def __contains__(self, number: object) -> bool:
        if not isinstance(number, int):
            return False
        at = bisect_right(self._starts, number)
        return at > 0 and number < self._ends[at - 1]

    def __iter__(self) -> Iterator[int]:
        for start, end in zip(self._starts, self._ends, strict=True):
            yield from range(start, end)

    def below(self, number: int) -> int:
        """How many of the numbers are smaller."""
        at = bisect_left(self._starts, number)
        pairs = zip(self._starts[:at], self._ends[:at], strict=True)
        return sum(min(end, number) - start for start, end in pairs)


class Multiproof:
    """Folds the proof out of one pass over all leaves, keeping no more than the tree's edge."""

    def __init__(self, chosen: Container[int]) -> None:
        """`chosen` are the numbers of the leaves to be proved, from 0."""
        self._chosen = chosen
        self.size = 0
        # Full subtrees, the largest first: height, root, and whether it needs no mention any more,
        # because it holds a chosen leaf or was handed out. Those that do need it are the last ones.
        self._edge: list[tuple[int, bytes, bool]] = []

    def feed(self, entries: Sequence[bytes]) -> list[bytes]:
        """Take in the next leaves; returns the roots of the proof that are now known, in order."""
        found: list[bytes] = []
        edge, chosen = self._edge, self._chosen
        for number, entry in enumerate(entries, start=self.size):
            settled = number in chosen
            if settled:
                found += self._hand_out()
            height, own = 0, hashlib.sha256(_LEAF + entry).digest()
            while edge and edge[-1][0] == height:
                _, left, left_settled = edge.pop()
                if left_settled and not settled:
                    found.append(own)
                settled = settled or left_settled
                own = node_hash(left, own)
                height += 1
            edge.append((height, own, settled))
        self.size += len(entries)
        return found

    def _hand_out(self) -> list[bytes]:
        """What lies left of a chosen leaf and holds none: each is a sibling on its way up."""
        at = len(self._edge)
        while at and not self._edge[at - 1][2]:
            at -= 1
        left = [root for _, root, _ in self._edge[at:]]
        self._edge[at:] = [(height, root, True) for height, root, _ in self._edge[at:]]
        return left

    def finish(self) -> list[bytes]:
        """The last root of the proof, if there is one: of all that lies right of the chosen."""
        open_ones = [root for _, root, settled in self._edge if not settled]
        return [_joined(open_ones)] if open_ones else []

    @property
    def root(self) -> bytes:
        """The root of the tree over all leaves that were fed."""
        return _joined([root for _, root, _ in self._edge]) if self._edge else EMPTY_ROOT


def root_of_multiproof(
    size: int, leaves: Sequence[tuple[int, bytes]], proof: Iterable[bytes]
) -> bytes | None:
    """The root that the proof leads to from these leaves (number and entry, in ascending order);
    None if it does not fit them."""
    numbers = [number for number, _ in leaves]
    if not size or numbers != sorted(set(numbers)) or (numbers and numbers[-1] >= size):
        return None
    path = iter(proof)
    try:
        found = _root(0, size, leaves, numbers, path)
    except StopIteration:
        return None
    return found if next(path, None) is None else None


def _root(
    start: int,
    end: int,
    leaves: Sequence[tuple[int, bytes]],
    numbers: Sequence[int],
    path: Iterator[bytes],
) -> bytes:
    at = bisect_left(numbers, start)
    if at == len(numbers) or numbers[at] >= end:
        return next(path)
    if end - start == 1:
        return leaf_hash(leaves[at][1])
    middle = start + (1 << ((end - start - 1).bit_length() - 1))
    left = _root(start, middle, leaves, numbers, path)
    return node_hash(left, _root(middle, end, leaves, numbers, path))


def _joined(roots: Sequence[bytes]) -> bytes:
    """The root over neighbouring subtrees, the largest and leftmost first."""
    *larger, root = roots
    for each in reversed(larger):
        root = node_hash(each, root)
    return root
