"""The Merkle tree over the whole log, as RFC 6962 (section 2.1) defines it.

Leaf number i is the checksum at position i + 1 of the log. A signed root anchors all of them: what
is cut, put in, rewritten or moved afterwards gives another root. The tree itself is kept nowhere;
its right edge is enough to go on from, and what a proof needs is folded out of the log again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

HASH_BYTES: Final = 32
EMPTY_ROOT: Final = hashlib.sha256(b"").digest()
"""The root of a tree without leaves."""

_LEAF: Final = b"\x00"
_NODE: Final = b"\x01"
Span = tuple[int, int]
"""Leaves `start` to `end` (exclusive)."""


def leaf_hash(entry: bytes) -> bytes:
    """The hash of a leaf."""
    return hashlib.sha256(_LEAF + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node."""
    return hashlib.sha256(_NODE + left + right).digest()


@dataclass(frozen=True, slots=True)
class Edge:
    """The right edge of a tree: the roots of its full subtrees, from the smallest to the largest.

    There is one for each bit that is set in `size`.
    """

    size: int = 0
    hashes: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        if self.size < 0 or len(self.hashes) != self.size.bit_count():
            raise ValueError("an edge has one hash for each bit that is set in its size")

    def extended(self, entries: Sequence[bytes]) -> Edge:
        """The edge after these entries, which follow the last leaf."""
        sha256 = hashlib.sha256
        held = list(reversed(self.hashes))
        level = [sha256(_LEAF + entry).digest() for entry in entries]
        after: list[bytes] = []
        bits = self.size
        # Level by level instead of leaf by leaf: one comprehension hashes all pairs of a level.
        while bits or level:
            if bits & 1:
                level.insert(0, held.pop())
            if len(level) & 1:
                after.append(level.pop())
            bits >>= 1
            pairs = zip(level[::2], level[1::2], strict=True)
            level = [sha256(_NODE + left + right).digest() for left, right in pairs]
        return Edge(self.size + len(entries), tuple(after))

    def joined(self, right: Edge) -> Edge:
        """The edge after all leaves of another tree.

        Raises `ValueError` if that one does not fit: the size of this one must be a multiple of a
        power of two that is not smaller than the other.
        """
        lowest = self.size & -self.size
        if self.size and right.size > lowest:
            raise ValueError(f"a tree of {right.size} does not fit behind one of {self.size}")
        size = self.size + right.size
        if not self.size or right.size < lowest:
            return Edge(size, right.hashes + self.hashes)
        # The other is full, as is the smallest subtree here: they make one, and so on.
        (node,) = right.hashes
        held = list(self.hashes)
        while self.size & lowest:
            node = node_hash(held.pop(0), node)
            lowest <<= 1
        return Edge(size, (node, *held))

    @property
    def root(self) -> bytes:
        """The root of the tree."""
        if not self.hashes:
            return EMPTY_ROOT
        root, *larger = self.hashes
        for each in larger:
            root = node_hash(each, root)
        return root


def inclusion_spans(index: int, size: int) -> list[Span]:
    """The subtrees whose roots prove that leaf `index` is in the tree of `size`, in proof order."""
    if not 0 <= index < size:
        raise ValueError(f"a tree of {size} has no leaf {index}")
    spans: list[Span] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            spans.append((middle, end))
            end = middle
        else:
            spans.append((start, middle))
            start = middle
    return spans[::-1]


def consistency_spans(old: int, new: int) -> list[Span]:
    """The subtrees whose roots prove that the tree of `new` begins with that of `old`.

    Nothing has to be proved from an empty tree, nor between equal ones.
    """
    if not 0 <= old <= new:
        raise ValueError(f"a tree of {new} cannot begin with one of {old}")
    if old in (0, new):
        return []
    spans: list[Span] = []
    start, end, whole = 0, new, True
    while old != end:
        middle = start + _split(end - start)
        if old <= middle:
            spans.append((middle, end))
            end = middle
        else:
            spans.append((start, middle))
            start, whole = middle, False
    if not whole:
        spans.append((start, end))
    return spans[::-1]


class SpanRoots:
    """Folds the roots of several disjoint spans out of one pass over the leaves."""

    def __init__(self, spans: Iterable[Span]) -> None:
        self._edges = {span: Edge() for span in spans}

    def feed(self, first: int, entries: Sequence[bytes]) -> None:
        """Take in leaves that begin with number `first` and follow those fed before."""
        for (start, end), edge in self._edges.items():
            part = entries[max(start - first, 0) : max(end - first, 0)]
            if part:
                self._edges[start, end] = edge.extended(part)

    def root(self, span: Span) -> bytes:
        """The root of a span; raises `ValueError` if some of its leaves have not been fed."""
        edge = self._edges[span]
        if edge.size != span[1] - span[0]:
            raise ValueError(f"leaves of {span} have not been fed")
        return edge.root


def root_of_inclusion(entry: bytes, index: int, size: int, proof: Sequence[bytes]) -> bytes | None:
    """The root that the proof leads to from the leaf; None if it has not the right length."""
    if not 0 <= index < size:
        return None
    spans = inclusion_spans(index, size)
    if len(spans) != len(proof):
        return None
    found = leaf_hash(entry)
    for (start, _), other in zip(spans, proof, strict=True):
        found = node_hash(other, found) if start < index else node_hash(found, other)
    return found


def is_consistent(
    old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]
) -> bool:
    """Whether the proof shows that the tree of `new` begins with that of `old`."""
    if not 0 <= old <= new:
        return False
    if old in (0, new):
        return not proof and (old_root == EMPTY_ROOT if old == 0 else old_root == new_root)
    spans = consistency_spans(old, new)
    path = list(proof)
    if len(path) != len(spans):
        return False
    # A full old tree is itself the first subtree; otherwise the proof begins with its last one.
    first = old_root if spans[0][0] >= old else path.pop(0)
    spans = spans[len(spans) - len(path) :]
    of_old = of_new = first
    for (start, _), other in zip(spans, path, strict=True):
        if start < old:
            of_old, of_new = node_hash(other, of_old), node_hash(other, of_new)
        else:
            of_new = node_hash(of_new, other)
    return of_old == old_root and of_new == new_root


def _split(size: int) -> int:
    """The largest power of two that is smaller than `size`."""
    return 1 << ((size - 1).bit_length() - 1)
