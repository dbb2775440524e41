"""The Merkle tree: known roots, proofs of every leaf and every pair of sizes, and a second opinion.

The second opinion is the recursive definition of RFC 6962, written down as it stands there.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from functools import cache

import pymerkle
import pytest

from dee_es.core.evidence import merkle
from dee_es.core.evidence.merkle import Edge, SpanRoots
from tests.support.counts import FULL, count

# The leaves and roots that implementations of RFC 6962 share as test vectors.
LEAVES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
INCLUSION = {
    (0, 1): [],
    (0, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (5, 8): [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 3): ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
    (1, 5): [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}
CONSISTENCY = {
    (1, 1): [],
    (1, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (6, 8): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 5): [
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}
MOST = 300


def entries(count: int) -> list[bytes]:
    return [hashlib.sha256(number.to_bytes(4, "big")).digest() for number in range(count)]


def by_definition(leaves: list[bytes]) -> bytes:
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    return hashlib.sha256(b"\x01" + by_definition(leaves[:k]) + by_definition(leaves[k:])).digest()


def proof(leaves: list[bytes], spans: list[merkle.Span]) -> list[bytes]:
    roots = SpanRoots(spans)
    for first in range(0, len(leaves), 7):
        roots.feed(first, leaves[first : first + 7])
    return [roots.root(span) for span in spans]


@pytest.mark.parametrize("size", range(9))
def test_the_known_roots(size: int) -> None:
    assert Edge().extended(LEAVES[:size]).root.hex() == ROOTS[size]


@pytest.mark.parametrize("index, size", INCLUSION)
def test_the_known_proofs_of_inclusion(index: int, size: int) -> None:
    path = proof(LEAVES[:size], merkle.inclusion_spans(index, size))
    assert [each.hex() for each in path] == INCLUSION[index, size]
    found = merkle.root_of_inclusion(LEAVES[index], index, size, path)
    assert found == bytes.fromhex(ROOTS[size])


@pytest.mark.parametrize("old, new", CONSISTENCY)
def test_the_known_proofs_of_consistency(old: int, new: int) -> None:
    path = proof(LEAVES[:new], merkle.consistency_spans(old, new))
    assert [each.hex() for each in path] == CONSISTENCY[old, new]
    roots = [bytes.fromhex(root) for root in ROOTS]
    assert merkle.is_consistent(old, new, roots[old], roots[new], path)


def test_roots_agree_with_the_definition_however_the_leaves_come() -> None:
    chance = random.Random(1)
    leaves = entries(10_000)
    for size in [*range(301), 10_000]:
        edge, at = Edge(), 0
        while at < size:
            step = min(chance.choice((1, 2, 5, 64, 1000)), size - at)
            edge = edge.extended(leaves[at : at + step])
            at += step
        assert edge.size == size
        assert edge.root == by_definition(leaves[:size])


def test_every_leaf_is_proved_to_be_included_and_no_other() -> None:
    leaves = entries(70)
    for size in range(1, 71):
        root = by_definition(leaves[:size])
        for index in range(size):
            path = proof(leaves[:size], merkle.inclusion_spans(index, size))
            found = merkle.root_of_inclusion
            assert found(leaves[index], index, size, path) == root
            assert found(leaves[index] + b"!", index, size, path) != root
            assert found(leaves[index], index, size, [*path, root]) is None
            if path:
                assert found(leaves[index], index, size, path[:-1]) is None
                turned = [bytes(each ^ 1 for each in path[0]), *path[1:]]
                assert found(leaves[index], index, size, turned) != root


def test_every_size_is_proved_to_continue_every_smaller_one() -> None:
    leaves = entries(70)
    roots = [by_definition(leaves[:size]) for size in range(71)]
    for new in range(71):
        for old in range(new + 1):
            path = proof(leaves[:new], merkle.consistency_spans(old, new))
            assert merkle.is_consistent(old, new, roots[old], roots[new], path)
            assert not merkle.is_consistent(old, new, b"x" * 32, roots[new], path)
            if old:
                assert not merkle.is_consistent(old, new, roots[old], b"x" * 32, path)
            assert not merkle.is_consistent(old, new, roots[old], roots[new], [*path, roots[0]])
            if path:
                assert not merkle.is_consistent(old, new, roots[old], roots[new], path[:-1])


def test_large_trees_have_short_proofs() -> None:
    leaves = entries(10_000)
    root = Edge().extended(leaves).root
    for index in (0, 1, 4095, 4096, 8191, 8192, 9999):
        path = proof(leaves, merkle.inclusion_spans(index, 10_000))
        assert len(path) <= 14
        assert merkle.root_of_inclusion(leaves[index], index, 10_000, path) == root
    for old in (1, 300, 4096, 8192, 9999):
        path = proof(leaves, merkle.consistency_spans(old, 10_000))
        assert merkle.is_consistent(old, 10_000, by_definition(leaves[:old]), root, path)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="one hash for each bit"):
        Edge(3, (b"x",))
    with pytest.raises(ValueError, match="no leaf 5"):
        merkle.inclusion_spans(5, 5)
    with pytest.raises(ValueError, match="cannot begin"):
        merkle.consistency_spans(6, 5)
    roots = SpanRoots([(0, 4)])
    roots.feed(0, entries(3))
    with pytest.raises(ValueError, match="not been fed"):
        roots.root((0, 4))
    assert merkle.root_of_inclusion(b"", 5, 5, []) is None
    assert not merkle.is_consistent(6, 5, b"", b"", [])


def test_an_independent_library_agrees_about_roots_and_proofs() -> None:
    leaves = entries(10_000)
    other = pymerkle.InmemoryTree(algorithm="sha256")
    edge = Edge()
    for size in [*range(301), 10_000]:
        for leaf in leaves[edge.size : size]:
            other.append_entry(leaf)
        edge = edge.extended(leaves[edge.size : size])
        assert edge.root == other.get_root(size)
        if not size:
            continue
        index = size * 2 // 3
        path = proof(leaves[:size], merkle.inclusion_spans(index, size))
        # Its indices begin with 1 and its paths with the leaf itself.
        theirs = other.prove_inclusion(index + 1, size)
        assert [merkle.leaf_hash(leaves[index]), *path] == theirs.path
        if index:
            path = proof(leaves[:size], merkle.consistency_spans(index, size))
            old = other.get_root(index)
            assert merkle.is_consistent(index, size, old, edge.root, path)
            # Its own proofs of consistency have another form; they are of the same two roots.
            pymerkle.verify_consistency(old, edge.root, other.prove_consistency(index, size))


# --- all pairs of sizes ---------------------------------------------------------------------------

Subtree = Callable[[int, int], bytes]


def subtrees(leaves: list[bytes]) -> Subtree:
    """MTH of a stretch of the leaves, as RFC 6962 defines it."""

    @cache
    def root(start: int, end: int) -> bytes:
        if end - start == 1:
            return hashlib.sha256(b"\x00" + leaves[start]).digest()
        k = start + largest_power(end - start)
        return hashlib.sha256(b"\x01" + root(start, k) + root(k, end)).digest()

    return root


def largest_power(size: int) -> int:
    k = 1
    while 2 * k < size:
        k *= 2
    return k


def audit_path(root: Subtree, m: int, start: int, end: int) -> list[bytes]:
    """PATH(m, D[n]) of RFC 6962, section 2.1.1."""
    if end - start == 1:
        return []
    k = largest_power(end - start)
    if m < k:
        return [*audit_path(root, m, start, start + k), root(start + k, end)]
    return [*audit_path(root, m - k, start + k, end), root(start, start + k)]


def subproof(root: Subtree, m: int, start: int, end: int, whole: bool) -> list[bytes]:
    """SUBPROOF(m, D[n], b) of RFC 6962, section 2.1.2."""
    if m == end - start:
        return [] if whole else [root(start, end)]
    k = largest_power(end - start)
    if m <= k:
        return [*subproof(root, m, start, start + k, whole), root(start + k, end)]
    return [*subproof(root, m - k, start + k, end, False), root(start, start + k)]


def pairs(at_most: int) -> list[tuple[int, int]]:
    """Pairs (smaller, size) with 0 <= smaller < size <= 300: all of them in full, else some."""
    found = [(small, size) for size in range(1, MOST + 1) for small in range(size)]
    return found if FULL else random.Random(5).sample(found, at_most)


def test_proofs_of_all_pairs_are_those_of_the_definition() -> None:
    leaves = entries(MOST)
    root = subtrees(leaves)
    for index, size in pairs(4_000):
        path = [root(*span) for span in merkle.inclusion_spans(index, size)]
        assert path == audit_path(root, index, 0, size)
        assert merkle.root_of_inclusion(leaves[index], index, size, path) == root(0, size)
    for old, new in pairs(4_000):
        path = [root(*span) for span in merkle.consistency_spans(old, new)]
        assert path == (subproof(root, old, 0, new, True) if old else [])
        before = root(0, old) if old else merkle.EMPTY_ROOT
        assert merkle.is_consistent(old, new, before, root(0, new), path)
        if old:
            assert not merkle.is_consistent(old, new, root(0, 1)[::-1], root(0, new), path)


def test_an_independent_library_agrees_about_all_pairs() -> None:
    leaves = entries(MOST)
    root = subtrees(leaves)
    other = pymerkle.InmemoryTree(algorithm="sha256")
    for leaf in leaves:
        other.append_entry(leaf)
    for index, size in pairs(1_000):
        assert other.get_root(size) == root(0, size)
        path = [root(*span) for span in merkle.inclusion_spans(index, size)]
        theirs = other.prove_inclusion(index + 1, size)
        assert [merkle.leaf_hash(leaves[index]), *path] == theirs.path
        if index:
            proof = other.prove_consistency(index, size)
            pymerkle.verify_consistency(root(0, index), root(0, size), proof)


def test_a_tree_is_joined_from_trees_that_fit() -> None:
    leaves = entries(1_024)
    chance = random.Random(9)
    for _ in range(count(300, 5_000)):
        size = 1 << chance.randrange(8)
        edge, end = Edge(), chance.randrange(1_024)
        for start in range(0, end, size):
            edge = edge.joined(Edge().extended(leaves[start : min(start + size, end)]))
        assert edge == Edge().extended(leaves[:end])
        assert edge.joined(Edge()) == edge
    with pytest.raises(ValueError, match="a tree of 3 does not fit behind one of 6"):
        Edge().extended(leaves[:6]).joined(Edge().extended(leaves[:3]))
