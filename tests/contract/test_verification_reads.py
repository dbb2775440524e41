"""How verification reads a store: everything between two positions, and the end of every stream."""

from __future__ import annotations

import pytest

from dee_es.core.evidence import chain
from dee_es.ports import EventStore
from tests.support.storage.events import run, unit


@pytest.fixture
def filled(store: EventStore) -> EventStore:
    """Three streams, interleaved: a b a c b a, at positions 1 to 6."""
    for name, expected in [("a", 0), ("b", 0), ("a", 1), ("c", 0), ("b", 1), ("a", 2)]:
        store.commit([unit(f"plan:{name}", expected)])
    return store


@pytest.mark.parametrize(
    "after, upto, positions",
    [
        (0, 6, [1, 2, 3, 4, 5, 6]),
        (-(2**63), 2, [1, 2]),
        (2, 4, [3, 4]),
        (4, 99, [5, 6]),
        (6, 99, []),
        (3, 3, []),
        (4, 2, []),
    ],
)
def test_entries_between_positions(
    filled: EventStore, after: int, upto: int, positions: list[int]
) -> None:
    entries = filled.read_entries(after, upto)
    assert [position for position, *_ in entries] == positions
    rows = {row.position: row for row in filled.read_log(0, 99)}
    for position, stream, version, name, state in entries:
        row = rows[position]
        assert (stream, version, name) == (row.stream_id, row.version, row.name)
        assert isinstance(state, bytes)
        assert state == row.state


def test_the_ends_of_streams_page_by_page(filled: EventStore) -> None:
    filled.commit([unit(run(n)) for n in range(20)])
    ends: list[tuple[str, int, bytes]] = []
    while page := filled.stream_ends(ends[-1][0] if ends else "", 7):
        assert len(page) <= 7
        ends += page
    assert [stream for stream, *_ in ends] == filled.stream_ids("")
    last = {row.stream_id: row for row in filled.read_log(0, 999)}
    for stream, version, checksum in ends:
        assert version == last[stream].version
        assert checksum == filled.heads([stream])[stream].checksum
        assert len(checksum) == chain.CHECKSUM_BYTES
