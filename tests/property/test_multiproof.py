"""One proof for many leaves: it leads to the root, it is the smallest, and nothing else does."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dee_es.core.evidence import merkle
from dee_es.core.evidence.multiproof import Multiproof, Ranges, root_of_multiproof


def entries(size: int) -> list[bytes]:
    return [number.to_bytes(4, "big") for number in range(size)]


@st.composite
def trees(draw: st.DrawFn, least: int = 1) -> tuple[int, list[int]]:
    size = draw(st.integers(least, 150))
    some = st.lists(st.integers(0, size - 1), unique=True, max_size=40)
    start = draw(st.integers(0, size - 1))
    together = st.integers(start, size - 1).map(lambda end: list(range(start, end + 1)))
    return size, sorted(draw(st.one_of(some, together)))


def proof_of(size: int, chosen: list[int], page: int = 7) -> tuple[list[bytes], bytes]:
    proof = Multiproof(Ranges(chosen))
    nodes: list[bytes] = []
    leaves = entries(size)
    for start in range(0, size, page):
        nodes += proof.feed(leaves[start : start + page])
    return nodes + proof.finish(), proof.root


def by_definition(start: int, end: int, chosen: list[int]) -> list[bytes]:
    """The roots of the maximal subtrees without a chosen leaf, straight from the definition."""
    if not any(start <= number < end for number in chosen):
        return [merkle.Edge().extended(entries(end)[start:]).root]
    if end - start == 1:
        return []
    middle = start + (1 << ((end - start - 1).bit_length() - 1))
    return by_definition(start, middle, chosen) + by_definition(middle, end, chosen)


@given(trees(), st.integers(1, 60))
def test_it_is_what_the_definition_says_and_leads_to_the_root(
    tree: tuple[int, list[int]], page: int
) -> None:
    size, chosen = tree
    nodes, root = proof_of(size, chosen, page)
    assert nodes == by_definition(0, size, chosen)
    assert root == merkle.Edge().extended(entries(size)).root
    leaves = [(number, entries(size)[number]) for number in chosen]
    assert root_of_multiproof(size, leaves, nodes) == root


@given(trees(), st.data())
def test_another_leaf_or_another_proof_leads_elsewhere(
    tree: tuple[int, list[int]], data: st.DataObject
) -> None:
    size, chosen = tree
    assume(chosen)
    nodes, root = proof_of(size, chosen)
    leaves = [(number, entries(size)[number]) for number in chosen]
    at = data.draw(st.integers(0, len(leaves) - 1))
    changed = [*leaves[:at], (leaves[at][0], b"other"), *leaves[at + 1 :]]
    assert root_of_multiproof(size, changed, nodes) != root
    assert root_of_multiproof(size, leaves[:at] + leaves[at + 1 :], nodes) != root
    assert root_of_multiproof(size, leaves, [*nodes, b"x" * 32]) is None
    if nodes:
        assert root_of_multiproof(size, leaves, nodes[:-1]) is None
        assert root_of_multiproof(size, leaves, [*nodes[:-1], bytes(32)]) != root
    if len(leaves) > 1:
        assert root_of_multiproof(size, leaves[::-1], nodes) is None


def test_of_one_leaf_it_is_as_long_as_the_path_of_inclusion() -> None:
    for size in range(1, 70):
        for number in range(size):
            nodes, _ = proof_of(size, [number])
            assert len(nodes) == len(merkle.inclusion_spans(number, size))


def test_neighbours_share_nearly_all_of_it() -> None:
    nodes, _ = proof_of(100_000, list(range(40_000, 41_000)), 5_000)
    assert len(nodes) < 30


@given(st.lists(st.integers(0, 60), unique=True).map(sorted), st.integers(0, 70))
def test_ranges_are_the_numbers_they_were_given(numbers: list[int], other: int) -> None:
    ranges = Ranges(numbers)
    assert list(ranges) == numbers
    assert [n for n in range(62) if n in ranges] == numbers
    assert ranges.below(other) == sum(number < other for number in numbers)
    assert "1" not in ranges


def test_ranges_want_order() -> None:
    with pytest.raises(ValueError, match="ascending"):
        Ranges([2, 1])


def test_nothing_is_proved_of_an_empty_tree() -> None:
    assert root_of_multiproof(0, [], []) is None
    assert Multiproof(Ranges()).root == merkle.EMPTY_ROOT
