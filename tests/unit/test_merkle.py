"""The Merkle tree: known roots, proofs of every leaf and every pair of sizes, and a second opinion.

The second opinion is the recursive definition of RFC 6962, written down as it stands there.
"""

from __future__ import annotations

import hashlib
import random

import pymerkle
import pytest

from dee_es.core import merkle
from dee_es.core.merkle import Edge, SpanRoots

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
