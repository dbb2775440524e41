"""The ends of many streams in little memory, against a dict; and how chunks of a log are joined."""

from __future__ import annotations

import hashlib
import random
import tracemalloc
from typing import Any

import pytest

from dee_es.adapters.storage.memory import open_memory
from dee_es.core.evidence import chain
from dee_es.core.evidence.chain import Entry
from dee_es.core.evidence.chunk_check import Chunk, ChunkCheck
from dee_es.core.evidence.merkle import Edge
from dee_es.core.evidence.spans import link, stream_key, unpack_spans
from dee_es.core.ids import run_id
from dee_es.engine.auditing.chunks import ChunkReader
from dee_es.engine.auditing.stream_ends import StreamEnd, StreamEnds
from dee_es.ports import Tombstone


def log(streams: int, entries: int, seed: int = 1) -> list[Entry]:
    """A log in which these streams take turns as chance will have it."""
    chance = random.Random(seed)
    ends: dict[str, tuple[int, bytes]] = {}
    rows: list[Entry] = []
    for position in range(1, entries + 1):
        stream = f"plan:{chance.randrange(streams)}"
        version, previous = ends.get(stream, (0, chain.GENESIS))
        own, state = chain.seal(stream, version + 1, "Name", previous, chance.randbytes(20))
        ends[stream] = (version + 1, own)
        rows.append((position, stream, version + 1, "Name", state))
    return rows


def spans(rows: list[Entry], start: int, end: int) -> bytes:
    check = ChunkCheck(Chunk(start, end))
    check.take(rows[start:end])
    report = check.report()
    assert report.problems == ()
    return report.spans


def test_the_ends_are_those_of_a_dict_however_the_log_is_cut() -> None:
    rows = log(3_000, 10_000)
    expected = {stream: (version, state[36:68]) for _, stream, version, _, state in rows}
    for size in (1, 7, 512, 10_000):
        ends = StreamEnds()
        for start in range(0, len(rows), size):
            assert ends.follow(spans(rows, start, start + size)) == []
        assert len(ends) == len(expected)
        missed = [stream for stream in expected if stream.endswith("7")]
        for stream, (version, checksum) in expected.items():
            if stream not in missed:
                found = ends.find(stream)
                assert found is not None
                assert (found.version, found.checksum) == (version, checksum)
        assert ends.find("plan:none") is None
        left: list[StreamEnd] = list(ends.never_found())
        assert sorted(end.checksum for end in left) == sorted(expected[s][1] for s in missed)
        assert all(rows[end.position - 1][1] in missed for end in left)


def test_what_does_not_fit_is_told_with_its_position() -> None:
    rows = log(50, 400)
    victim = next(row for row in rows[100:200] if row[2] > 1)
    cut = [row for row in rows if row[:3] != victim[:3]]
    follower = next(row for row in cut if row[1] == victim[1] and row[2] == victim[2] + 1)
    ends = StreamEnds()
    unfit = [each for row in cut for each in ends.follow(_alone(row))]
    (told,) = unfit
    assert told.position == follower[0]
    assert told.text == f"entry {victim[2]} is missing before it"


def _alone(row: Entry) -> bytes:
    check = ChunkCheck(Chunk(row[0] - 1, row[0]))
    check.take([row])
    return check.report().spans


def test_a_stream_takes_little_memory() -> None:
    streams = 20_000
    ends = StreamEnds()
    pages = []
    for first in range(0, streams, 1_000):
        check = ChunkCheck(Chunk(first, first + 1_000))
        check.take(
            [
                (n + 1, f"run_{n}", 1, "N", chain.seal(f"run_{n}", 1, "N", chain.GENESIS, b"")[1])
                for n in range(first, first + 1_000)
            ]
        )
        pages.append(check.report().spans)
    tracemalloc.start()
    try:
        for page in pages:
            ends.follow(page)
        assert tracemalloc.get_traced_memory()[0] < 128 * streams
    finally:
        tracemalloc.stop()
    assert len(ends) == streams


def test_a_chunk_is_a_subtree_and_marks_what_was_signed() -> None:
    rows = log(5, 100)
    leaves = [state[36:68] for *_, state in rows]
    check = ChunkCheck(Chunk(32, 64, (33, 50, 64)))
    for first in range(32, 64, 5):
        check.take(rows[first : min(first + 5, 64)])
    report = check.report()
    assert report.edge == Edge().extended(leaves[32:64])
    before = Edge().extended(leaves[:32])
    assert [before.joined(mark) for mark in report.marks] == [
        Edge().extended(leaves[:size]) for size in (33, 50, 64)
    ]
    assert sum(1 for _ in unpack_spans(report.spans)) == 5


def test_a_chunk_behind_the_last_checkpoint_grows_no_tree() -> None:
    rows = log(5, 64)
    check = ChunkCheck(Chunk(32, 64, grown=False))
    check.take(rows[32:])
    report = check.report()
    assert report.dense
    assert report.last == 64
    assert not report.problems
    assert report.edge == Edge()


def test_the_tree_of_a_chunk_ends_where_something_is_missing() -> None:
    rows = log(5, 100)
    check = ChunkCheck(Chunk(32, 64, (40, 60)))
    check.take(rows[32:49] + rows[50:64])
    report = check.report()
    assert not report.dense
    assert report.edge.size == 17
    assert len(report.marks) == 1
    (gap,) = [problem for problem in report.problems if not problem.stream]
    assert gap.text.startswith("position 50 is missing; the next entry found is plan:")


@pytest.mark.parametrize("name", ["Name", "N" * 5_000])
def test_the_quick_hasher_is_the_slow_one(name: str) -> None:
    chance = random.Random(3)
    of = chain.hasher()
    for version in [1, 2, 5, 4095, 4096, 2**40, *range(6_000, 12_000, 3)]:
        stream = "s" * chance.choice((1, 30, 4_095, 4_096, 5_000))
        payload = bytes(chance.choice((0, 1, 400, 4_095, 4_096, 70_000)))
        previous = hashlib.sha256(stream.encode()).digest()
        expected = chain.checksum(stream, version, name, previous, payload)
        assert of(stream, version, name, previous, payload) == expected


def test_an_entry_that_says_it_follows_an_archived_one_is_found() -> None:
    _, state = chain.seal("plan:1", 5, "Name", chain.UNKNOWN, b"")
    check = ChunkCheck(Chunk(16, 17))
    check.take([(17, "plan:1", 5, "Name", state)])
    (problem,) = check.report().problems
    assert problem.text == f"plan:1 entry 5 (position 17): {chain.NOT_LINKED}"


def test_what_is_archived_between_two_reads_is_not_taken_twice() -> None:
    rows = log(3, 40)
    stones = [Tombstone(row[0], row[1], row[2], row[4][36:68], 1) for row in rows[:20]]
    store, _ = open_memory()
    left = [rows, rows[20:]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "read_entries", lambda after, upto: left.pop(0))
        patch.setattr(store, "tombstones", lambda after, upto: stones)
        report = ChunkReader(store).check(Chunk(0, 40))
    assert report.problems == ()
    assert report.edge == Edge().extended([row[4][36:68] for row in rows])
    assert not left


def test_the_key_of_one_stream_is_never_that_of_another() -> None:
    run = run_id("plan", "contact", 1)
    long = run + "x"
    assert len(run) == 30
    assert stream_key(run) == run.encode()
    assert stream_key("") == b""
    # Not even if somebody names a stream after another one's digest.
    assert len(stream_key(long)) == 31 > len(run)
    assert stream_key("é" * 16) != stream_key("é" * 15)
    both = [stream_key("run_"), stream_key("run_\0"), stream_key(long), stream_key(long + "\0")]
    assert len(set(both)) == 4
    assert len({link(each, 1, chain.GENESIS) for each in (run, long, long + "\0")}) == 3


@pytest.mark.parametrize(
    "head",
    [
        ("plan:1", 2, b"other"),
        ("plan:1", 3, None),
        ("plan:1", None, None),
        ("plan:1", "1", b"\0" * 32),
        ("plan:1", 2**63 - 1, b"\0" * 32),
        (b"plan:1", 1, b"\0" * 32),
        ("plan:\ud800", 1, b"\0" * 32),
        ("nobody", 1, b"\0" * 32),
    ],
)
def test_a_head_of_any_form_is_told_if_it_is_not_of_the_last_entry(head: Any) -> None:
    ends = StreamEnds()
    ends.follow(spans(log(1, 5), 0, 5))
    assert list(ends.differing([head])) == [(head[0], head[1:])]


@pytest.mark.parametrize("cut", [slice(31), slice(None)])
def test_the_checksum_of_a_head_is_compared_whole(cut: slice) -> None:
    rows = log(3, 50)
    ends = StreamEnds()
    ends.follow(spans(rows, 0, 50))
    stream, version, state = next(
        (row[1], row[2], row[4]) for row in reversed(rows) if row[1] == "plan:0"
    )
    own = state[36:68]
    assert list(ends.differing([(stream, version, own)])) == []
    assert list(ends.differing([(stream, version, own[cut] + b"\0" * 1)])) != []
