"""A stretch of the log checked by itself: what is told of each thing that somebody did to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest

from dee_es.core.evidence import chain
from dee_es.core.evidence.chain import Entry
from dee_es.core.evidence.chunk_check import (
    MOST_PROBLEMS,
    Chunk,
    ChunkCheck,
    ChunkReport,
    Problem,
)
from dee_es.core.evidence.merkle import Edge
from dee_es.core.evidence.spans import pack_spans

ENTRIES: Final = 6
Rows = list[Any]


def log() -> Rows:
    """Two streams that take turns; `run_a` has the odd positions."""
    ends: dict[str, bytes] = {}
    rows: Rows = []
    for position in range(1, ENTRIES + 1):
        stream, version = "run_a" if position % 2 else "run_b", (position + 1) // 2
        previous = ends.get(stream, chain.GENESIS)
        ends[stream], state = chain.seal(stream, version, "Name", previous, b"payload")
        rows.append((position, stream, version, "Name", state))
    return rows


def checked(rows: Rows, start: int = 0, stones: Rows | None = None) -> ChunkReport:
    check = ChunkCheck(Chunk(start, ENTRIES))
    check.take(rows, stones or ())
    return check.report()


def told(rows: Rows) -> list[str]:
    return [problem.text for problem in checked(rows).problems]


def with_state(rows: Rows, place: int, change: Callable[[bytes], object]) -> Rows:
    """The log with the state at a place (from 0) changed."""
    row = rows[place]
    return [*rows[:place], (*row[:4], change(row[4])), *rows[place + 1 :]]


def resealed(rows: Rows, place: int, previous: bytes) -> Rows:
    """The log with another previous checksum at a place, under a checksum that fits it."""
    _, stream, version, name, state = rows[place]
    _, forged = chain.seal(stream, version, name, previous, state[chain.HEADER_BYTES :])
    return with_state(rows, place, lambda _: forged)


def renumbered(row: Any, before: Any) -> Any:
    """The entry as number nine, linked to the one before it as it should be."""
    previous, payload = before[4][36:68], row[4][chain.HEADER_BYTES :]
    return (row[0], row[1], 9, row[3], chain.seal(row[1], 9, row[3], previous, payload)[1])


def stone(row: Any) -> Any:
    """What stays of an entry that was archived."""
    return (*row[:3], row[4][36:68])


def test_an_untouched_log_has_no_problem_and_one_span_for_each_stream() -> None:
    rows = log()
    report = checked(rows)
    assert report.problems == ()
    assert (report.first, report.last, report.dense) == ("run_a entry 1 (position 1)", 6, True)
    assert report.edge == Edge().extended([row[4][36:68] for row in rows])
    own = [row[4][36:68] for row in rows]
    assert report.spans == pack_spans(
        [
            ("run_a", (1, 1, chain.GENESIS), (3, own[4])),
            ("run_b", (2, 1, chain.GENESIS), (3, own[5])),
        ]
    )


TAMPERED: Final[list[tuple[str, Callable[[Rows], Rows], str]]] = [
    (
        "a payload",
        lambda rows: with_state(rows, 2, lambda state: state + b"!"),
        f"run_a entry 2 (position 3): {chain.NOT_ITS_CHECKSUM}",
    ),
    (
        "the link, under a checksum of its own",
        lambda rows: resealed(rows, 2, b"\1" * 32),
        f"run_a entry 2 (position 3): {chain.NOT_LINKED}",
    ),
    (
        "the link alone",
        lambda rows: with_state(rows, 2, lambda state: state[:4] + b"\1" * 32 + state[36:]),
        f"run_a entry 2 (position 3): {chain.NOT_LINKED}",
    ),
    (
        "the tag",
        lambda rows: with_state(rows, 2, lambda state: b"DEE2" + state[4:]),
        f"run_a entry 2 (position 3): {chain.MALFORMED}",
    ),
    (
        "the length",
        lambda rows: with_state(rows, 2, lambda state: state[:50]),
        f"run_a entry 2 (position 3): {chain.MALFORMED}",
    ),
    (
        "a column's type",
        lambda rows: with_state(rows, 2, lambda _: 5),
        f"run_a entry 2 (position 3): {chain.NOT_TYPED}",
    ),
    (
        "the first link, as if an archived entry came before it",
        lambda rows: resealed(rows, 0, chain.UNKNOWN),
        f"run_a entry 1 (position 1): {chain.NOT_LINKED}",
    ),
    (
        "a version, under a checksum of its own",
        lambda rows: [*rows[:4], renumbered(rows[4], rows[2]), rows[5]],
        "run_a entry 9 (position 5): entry 3 is missing before it",
    ),
    (
        "a version",
        lambda rows: [*rows[:4], (5, "run_a", 4, *rows[4][3:]), rows[5]],
        "run_a entry 4 (position 5): entry 3 is missing before it",
    ),
]


@pytest.mark.parametrize("change, said", [pytest.param(*rest, id=id) for id, *rest in TAMPERED])
def test_what_was_done_to_an_entry_is_told_of_it(change: Callable[[Rows], Rows], said: str) -> None:
    assert told(change(log())) == [said]


def test_of_a_stream_only_the_first_bad_entry_is_told_and_of_each_stream_its_own() -> None:
    rows = log()
    for place in (0, 2, 3, 5):
        rows = with_state(rows, place, lambda state: state + b"!")
    assert told(rows) == [
        f"run_a entry 1 (position 1): {chain.NOT_ITS_CHECKSUM}",
        f"run_b entry 2 (position 4): {chain.NOT_ITS_CHECKSUM}",
    ]


def test_an_entry_that_is_gone_is_missed_in_the_log_and_in_its_stream() -> None:
    rows = log()
    report = checked([*rows[:2], *rows[3:]])
    assert [problem.text for problem in report.problems] == [
        "position 3 is missing; the next entry found is run_b entry 2 (position 4)",
        "run_a entry 3 (position 5): entry 2 is missing before it",
    ]
    # Nobody knows what had been there: the tree goes no further than it is known.
    assert not report.dense
    assert report.edge == Edge().extended([row[4][36:68] for row in rows[:2]])


def test_an_entry_that_is_no_entry_has_its_place_in_the_order_and_in_the_tree() -> None:
    rows = with_state(log(), 2, lambda _: 5)
    leaves = [row[4][36:68] for row in log()]
    leaves[2] = chain.GENESIS
    assert checked(rows).edge == Edge().extended(leaves)
    assert [problem.text for problem in checked([rows[0], *rows[2:]]).problems][:2] == [
        "position 2 is missing; the next entry found is run_a entry 2 (position 3)",
        f"run_a entry 2 (position 3): {chain.NOT_TYPED}",
    ]


def test_what_a_terminal_would_obey_is_escaped() -> None:
    rows = log()
    (problem,) = checked([rows[0], (2, "run_\x1b[2J", 1, *rows[1][3:]), *rows[2:]]).problems
    assert problem.text.isprintable()
    assert "\\x1b" in problem.text


def test_no_more_problems_are_named_than_anybody_reads() -> None:
    def alone(position: int, payload: bytes) -> Entry:
        stream = f"run_{position}"
        state = chain.seal(stream, 1, "Name", chain.GENESIS, b"payload")[1]
        return (position, stream, 1, "Name", state[: chain.HEADER_BYTES] + payload)

    many = 3 * MOST_PROBLEMS
    for payload, step in ((b"payload", 2), (b"another", 1)):
        check = ChunkCheck(Chunk(0, many * step))
        check.take([alone(step * number, payload) for number in range(1, many + 1)])
        # So many, since some of them may be of streams that are known to be broken already.
        assert len(check.report().problems) == 2 * MOST_PROBLEMS


def test_an_entry_put_in_beside_the_order_of_the_log_is_told() -> None:
    rows = log()
    again = checked([*rows[:4], (4, "run_c", 1, *rows[0][3:]), *rows[4:]]).problems
    assert again[0] == Problem(4, 0, "", "position 4 is taken twice: run_c entry 1 (position 4)")
    assert [problem.rank for problem in again].count(0) == 1
    first = checked([rows[0], (1, "run_c", 1, *rows[0][3:]), *rows[1:]]).problems
    assert first[0].text == "position 1 is taken twice: run_c entry 1 (position 1)"
    before = checked([(0, "run_c", 1, *rows[0][3:]), *rows]).problems
    assert "position 0 is none of the log's: run_c entry 1 (position 0)" in before[0].text


def test_what_comes_behind_an_archived_entry_has_to_fit_what_stays_of_it() -> None:
    rows = log()
    stones = [stone(row) for row in rows[:2]]
    report = checked(rows[2:], stones=stones)
    assert report.problems == ()
    assert report.edge == checked(rows).edge
    forged = [(*stones[0][:3], b"\1" * 32), stones[1]]
    (problem,) = checked(rows[2:], stones=forged).problems
    assert problem.text == f"run_a entry 2 (position 3): {chain.NOT_LINKED}"


def test_archived_entries_stand_in_the_log_among_those_that_are_there() -> None:
    rows = log()
    report = checked(rows[::2], stones=[stone(row) for row in rows[1::2]])
    assert (report.problems, report.dense, report.edge) == ((), True, checked(rows).edge)
    only = checked([], stones=[stone(row) for row in rows])
    assert (only.first, only.edge) == ("run_a entry 1 (position 1)", report.edge)


def test_an_archived_entry_of_which_nothing_is_left_is_missed() -> None:
    rows = log()
    report = checked(rows[::2], stones=[stone(rows[1]), stone(rows[5])])
    assert [problem.text for problem in report.problems] == [
        "position 4 is missing; the next entry found is run_a entry 3 (position 5)",
        "run_b entry 3 (position 6): entry 2 is missing before it",
    ]
    assert not report.dense
    before = checked([rows[0], *rows[3:]], stones=[stone(rows[2])])
    assert [problem.text for problem in before.problems] == [
        "position 2 is missing; the next entry found is run_a entry 2 (position 3)"
    ]
    assert not before.dense


@pytest.mark.parametrize(
    "left",
    [
        (2, b"run_b", 1, bytes(32)),
        (2, "run_b", "1", bytes(32)),
        (2, "run_b", 1, b"short"),
        (2, "run_b", 1, "x" * 32),
    ],
)
def test_what_stays_of_an_archived_entry_has_its_form(left: Any) -> None:
    rows = log()
    report = checked([rows[0], *rows[2:]], stones=[left])
    assert chain.NOT_TYPED in report.problems[0].text
    leaves = [row[4][36:68] for row in rows]
    leaves[1] = chain.GENESIS
    assert report.edge == Edge().extended(leaves)


def test_the_first_entry_of_a_chunk_is_held_against_the_chunk_before_it_and_not_here() -> None:
    report = checked(log()[3:], start=3)
    assert (report.problems, report.first_position, report.last) == ((), 4, 6)
    assert Chunk(3, ENTRIES).after == 3
    # What is missing before it is told by whoever knows where that chunk ended.
    report = checked(log()[3:], start=2)
    assert (report.problems, report.first_position, report.dense) == ((), 4, False)
    assert checked([], start=2).first_position == 0
    assert Chunk(0, ENTRIES).after < -ENTRIES, "nothing can stand before it unseen"


def test_the_tree_is_grown_only_where_it_is_asked_for() -> None:
    check = ChunkCheck(Chunk(0, ENTRIES, grown=False))
    check.take(log())
    assert (check.report().edge, check.report().dense) == (Edge(), True)


def test_the_tree_is_marked_where_a_checkpoint_ends_with_the_chunk() -> None:
    check = ChunkCheck(Chunk(0, ENTRIES, (ENTRIES,)))
    check.take(log())
    assert check.report().marks == (check.report().edge,)
    assert check.report().edge.size == ENTRIES


def test_the_tree_is_marked_where_checkpoints_end() -> None:
    rows: list[Entry] = log()
    for start in (0, 1):
        check = ChunkCheck(Chunk(start, ENTRIES, (2, 5)))
        check.take(rows[start:3])
        check.take(rows[3:])
        leaves = [row[4][36:68] for row in rows[start:]]
        report = check.report()
        marks = [Edge().extended(leaves[: size - start]) for size in (2, 5)]
        assert (list(report.marks), report.edge) == (marks, Edge().extended(leaves))
