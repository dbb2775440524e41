"""Reading the log, streams, heads and what is due."""

from __future__ import annotations

import random
import sys

import pytest

from dee_es.ports import EventStore, Unit
from tests.support.storage.events import append, due_runs, run, sealed, unit


@pytest.fixture
def filled(store: EventStore) -> EventStore:
    """Three streams, interleaved: a b a c b a, at positions 1 to 6."""
    for name, expected in [("a", 0), ("b", 0), ("a", 1), ("c", 0), ("b", 1), ("a", 2)]:
        store.commit([unit(f"plan:{name}", expected)])
    return store


@pytest.mark.parametrize(
    "after, upto, versions",
    [
        (0, None, [1, 2, 3]),
        (1, None, [2, 3]),
        (3, None, []),
        (9, None, []),
        (0, 2, [1, 2]),
        (1, 2, [2]),
        (2, 2, []),
        (0, 0, []),
        (2, 1, []),
        (0, 99, [1, 2, 3]),
    ],
)
def test_a_stream_is_read_between_versions(
    filled: EventStore, after: int, upto: int | None, versions: list[int]
) -> None:
    assert [row.version for row in filled.read_stream("plan:a", after, upto)] == versions


def test_a_stream_that_does_not_exist_is_empty(filled: EventStore) -> None:
    assert filled.read_stream("plan:none") == []
    assert filled.read_stream("plan:none", 3, 5) == []


def test_many_streams_are_read_at_once(filled: EventStore) -> None:
    found = filled.read_streams(["plan:b", "plan:none", "plan:a"])
    assert {name: [row.position for row in rows] for name, rows in found.items()} == {
        "plan:a": [1, 3, 6],
        "plan:b": [2, 5],
    }
    assert found["plan:a"] == filled.read_stream("plan:a")
    assert filled.read_streams([]) == {}


def test_the_first_rows_of_streams(filled: EventStore) -> None:
    found = filled.read_first(["plan:c", "plan:none", "plan:a"])
    assert {name: row.position for name, row in found.items()} == {"plan:c": 4, "plan:a": 1}
    assert filled.read_first([]) == {}


@pytest.mark.parametrize("apart", [1, 2, 7, 8, 9, 40])
def test_the_first_rows_of_neighbours_wherever_they_are(store: EventStore, apart: int) -> None:
    begun = [run(n) for n in range(5)]
    for stream in begun:
        store.commit([unit(stream)])
        for version in range(1, apart):
            store.commit([Unit((append(stream, version),))])
    others = [run(9), *reversed(begun[1:]), run(8)]
    for asked in (begun, others, others[1:-1], [run(9)], begun[2:3], [begun[0], run(9)], []):
        assert store.read_first(asked, neighbours=True) == store.read_first(asked)
        assert list(store.read_first(asked, neighbours=True)) == [s for s in asked if s in begun]


def test_heads_of_streams_that_exist(filled: EventStore) -> None:
    found = filled.heads(["plan:a", "plan:none", "plan:c"])
    assert {name: head.version for name, head in found.items()} == {"plan:a": 3, "plan:c": 1}
    head = found["plan:a"]
    assert (head.due_tick, head.ended, head.slice, head.ordinal) == (None, False, -1, 0)
    assert filled.heads([]) == {}


def test_a_situation_is_the_end_the_heads_and_the_keys(filled: EventStore) -> None:
    filled.commit([Unit((append(run(1), 0),), contact_keys=(("jane", b"k" * 16),))])
    found = filled.situation(["plan:a", "plan:none", run(1)], ["jane", "joe"])
    assert found.end == filled.log_head()
    assert found.heads == filled.heads(["plan:a", run(1)])
    assert list(found.heads) == ["plan:a", run(1)]
    assert found.keys == {"jane": b"k" * 16}
    nothing = filled.situation([], [])
    assert (nothing.end, nothing.heads, nothing.keys) == (filled.log_head(), {}, {})


def test_asking_for_streams_does_not_make_them(store: EventStore) -> None:
    store.read_stream("plan:x")
    store.read_streams(["plan:x"])
    store.read_first(["plan:x"])
    assert store.stream_ids("plan:") == []
    assert store.heads(["plan:x"]) == {}


def test_many_streams_more_than_a_statement_has_parameters(store: EventStore) -> None:
    names = [run(n) for n in range(3_000)]
    store.commit([unit(name) for name in names])
    asked = names + [run(n, "other") for n in range(40_000)]
    assert len(store.heads(asked)) == 3_000
    assert len(store.read_streams(asked)) == 3_000
    assert len(store.read_first(asked)) == 3_000


def test_the_log_is_paged_by_position(filled: EventStore) -> None:
    assert [row.position for row in filled.read_log(0, 4)] == [1, 2, 3, 4]
    assert [row.position for row in filled.read_log(4, 4)] == [5, 6]
    assert filled.read_log(6, 4) == []
    assert filled.read_log(0, 0) == []
    assert [row.stream_id[-1] for row in filled.read_log(0, 99)] == list("abacba")


def test_stream_ids_are_listed_in_order_by_prefix(store: EventStore) -> None:
    names = ["run_b", "run_a", "plan:Zeta", "plan:alpha", "plan:a-b", "plan:a.b", "plan:a:b"]
    names += ["plan:ab", "plan:ä", "planet:x", "plan", "contact:1"]
    store.commit([unit(name, 0, 1, slice=0) for name in names])
    plans = sorted(name for name in names if name.startswith("plan:"))
    assert store.stream_ids("plan:") == plans
    assert store.stream_ids("run_") == ["run_a", "run_b"]
    assert store.stream_ids("") == sorted(names)
    assert store.stream_ids("nothing") == []
    assert store.stream_ids("plan:", limit=2) == plans[:2]
    assert store.stream_ids("plan:", after=plans[1], limit=2) == plans[2:4]
    assert store.stream_ids("plan:", after=plans[-1]) == []
    assert store.stream_ids("plan:", after="contact:1") == plans
    assert store.stream_ids("plan") == sorted(n for n in names if n.startswith("plan"))


def test_stream_ids_page_by_page_are_all_of_them(store: EventStore) -> None:
    names = sorted(f"contact:c{n}" for n in range(250))
    store.commit([unit(name) for name in names])
    pages: list[str] = []
    while page := store.stream_ids("contact:", pages[-1] if pages else "", 40):
        pages += page
    assert pages == names
    store.commit([unit("contact:a")])
    assert store.stream_ids("contact:", limit=1) == ["contact:a"]


def test_names_of_events_are_data_and_never_imported(store: EventStore) -> None:
    topic = "tests.support.hostile:Boom"
    bad = append("plan:p", 0, 0)
    bad = type(bad)("plan:p", 0, (sealed("plan:p", 1, name=topic),))
    store.commit([Unit((bad,))])
    for rows in (
        store.read_stream("plan:p"),
        store.read_log(0, 9),
        store.read_streams(["plan:p"])["plan:p"],
        list(store.read_first(["plan:p"]).values()),
    ):
        assert [row.name for row in rows] == [topic]
    assert "tests.support.hostile" not in sys.modules


# --- what is due --------------------------------------------------------------------------------


def test_due_runs_come_oldest_first_then_by_id(store: EventStore) -> None:
    dues = {run(1): 5, run(2): 3, run(3): 5, run(4): 9, run(5): None, run(6): 3}
    store.commit([unit(name, 0, 1, due_tick=due) for name, due in dues.items()])
    ordered = sorted((due, name) for name, due in dues.items() if due is not None)
    assert due_runs(store, 5, 9) == [name for due, name in ordered if due <= 5]
    assert due_runs(store, 100, 3) == [name for _, name in ordered[:3]]
    assert due_runs(store, 2, 9) == []
    assert due_runs(store, 9, 0) == []
    assert store.next_due() == 3


def test_due_runs_behind_a_head_whatever_became_of_it(store: EventStore) -> None:
    slices = {run(n): n * 37 % 1024 for n in range(40)}
    store.commit([unit(name, 0, 1, due_tick=1 + s % 5, slice=s) for name, s in slices.items()])
    whole = store.due(4, 999)
    assert {head.due_tick for head in whole} == {1, 2, 3, 4}
    for place, head in enumerate(whole):
        assert store.due(4, 999, after=head) == whole[place + 1 :]
        assert store.due(4, 3, after=head) == whole[place + 1 : place + 4]
        own = [each for each in whole[place + 1 :] if each.slice % 3 == 1]
        assert store.due(4, 5, (1, 3), head) == own[:5]
    gone, later, kept = whole[3:6]
    assert kept.due_tick == 1
    moved = [(gone, None), (later, 4)]
    store.commit([unit(head.stream_id, 1, 1, due_tick=due) for head, due in moved])
    assert store.due(1, 1, after=gone) == [kept]
    behind = [head.stream_id for head in store.due(4, 999, after=later)]
    assert set(behind) == {later.stream_id, *(head.stream_id for head in whole[5:])}


def test_a_run_is_due_as_its_last_append_said(store: EventStore) -> None:
    assert store.next_due() is None
    store.commit([unit(run(), 0, 1, due_tick=5)])
    store.commit([unit(run(), 1, 1, due_tick=8)])
    assert (due_runs(store, 7, 9), due_runs(store, 8, 9), store.next_due()) == ([], [run()], 8)
    store.commit([unit(run(), 2, 1, due_tick=2)])
    assert due_runs(store, 2, 9) == [run()]
    store.commit([unit(run(), 3, 1, due_tick=None, ended=True)])
    assert (due_runs(store, 99, 9), store.next_due()) == ([], None)


def test_partitions_share_the_runs_by_slice(store: EventStore) -> None:
    slices = {run(n): n * 37 % 1024 for n in range(60)}
    store.commit([unit(name, 0, 1, due_tick=1 + s % 5, slice=s) for name, s in slices.items()])
    whole = due_runs(store, 99, 999)
    assert sorted(whole) == sorted(slices)
    for index in range(3):
        own = [name for name in whole if slices[name] % 3 == index]
        assert due_runs(store, 99, 999, (index, 3)) == own
        assert due_runs(store, 99, 4, (index, 3)) == own[:4]
        assert store.next_due((index, 3)) == min(1 + slices[name] % 5 for name in own)
    store.commit([unit(run(100), 0, 1, due_tick=0, slice=2)])
    assert store.next_due((2, 3)) == 0
    assert store.next_due((1, 3)) != 0


def test_due_runs_against_a_model(store: EventStore) -> None:
    chance = random.Random(7)
    model: dict[str, tuple[int, int | None, int]] = {}
    for _ in range(40):
        units = []
        for number in chance.sample(range(60), 8):
            name = run(number)
            version, _, its_slice = model.get(name, (0, None, chance.randrange(1024)))
            due = chance.choice([None, chance.randrange(50), chance.randrange(50)])
            units.append(unit(name, version, 1, due_tick=due, slice=its_slice))
            model[name] = (version + 1, due, its_slice)
        store.commit(units)
        tick, index = chance.randrange(50), chance.randrange(4)
        expected = sorted(
            (due, name)
            for name, (_, due, its_slice) in model.items()
            if due is not None and due <= tick and its_slice % 4 == index
        )
        assert due_runs(store, tick, 999, (index, 4)) == [name for _, name in expected]


def test_the_lag_counts_what_is_due(store: EventStore) -> None:
    assert store.due_lag(99) == 0
    dues = {run(1): 5, run(2): 3, run(3): 5, run(4): 9, run(5): None}
    store.commit([unit(name, 0, 1, due_tick=due) for name, due in dues.items()])
    assert [store.due_lag(tick) for tick in (2, 3, 5, 8, 9)] == [0, 1, 3, 3, 4]
    assert [store.due_lag(9, limit=limit) for limit in (0, 2, 4, 5)] == [0, 2, 4, 4]
    store.commit([unit(run(2), 1, 1, due_tick=None, ended=True)])
    assert store.due_lag(4) == 0


def test_the_lag_of_a_partition_is_that_of_its_slices(store: EventStore) -> None:
    slices = {run(n): n * 37 % 1024 for n in range(60)}
    store.commit([unit(name, 0, 1, due_tick=1 + s % 5, slice=s) for name, s in slices.items()])
    for tick, index in [(3, 0), (3, 1), (99, 2)]:
        assert store.due_lag(tick, (index, 3)) == len(due_runs(store, tick, 999, (index, 3)))
    assert store.due_lag(99, (0, 3), limit=4) == 4
    assert sum(store.due_lag(99, (index, 3)) for index in range(3)) == store.due_lag(99) == 60


# --- the clock ----------------------------------------------------------------------------------


def test_the_clock_only_goes_forward(store: EventStore) -> None:
    assert store.advance_clock(0) == 0
    assert store.advance_clock(10) == 10
    assert store.advance_clock(4) == 10
    assert store.log_head().tick == 10
    store.commit([unit(run(), 0, 1, tick=25)])
    assert store.advance_clock(20) == 25
    assert store.advance_clock(26) == 26
