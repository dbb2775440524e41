"""`EventStore.commit`: what is accepted, what it leaves behind, what is refused without trace."""

from __future__ import annotations

import pytest

from dee_es.core.events import PlanPublished, RunScheduled, WaitCompleted
from dee_es.core.evidence import chain
from dee_es.errors import StoreUnavailable
from dee_es.ports import Committed, Conflict, EventStore, Head, LogHead, StreamAppend, Unit
from tests.support.storage.events import (
    append,
    committed_at,
    due_runs,
    index_unit,
    run,
    sealed,
    unit,
)


def test_an_empty_store_is_at_zero(store: EventStore) -> None:
    assert store.log_head() == LogHead(0, 0, 0, 0)
    assert store.read_log(0, 10) == []
    assert store.commit([]) == []


def test_what_is_appended_is_read_back_byte_for_byte(store: EventStore) -> None:
    appended = append(run(), 0, 3, tick=7, due_tick=9, slice=5)
    assert store.commit([Unit((appended,))]) == [committed_at(3)]
    rows = store.read_stream(run())
    assert [(r.position, r.stream_id, r.version) for r in rows] == [
        (1, run(), 1),
        (2, run(), 2),
        (3, run(), 3),
    ]
    assert [(r.name, r.state) for r in rows] == [(e.name, e.state) for e in appended.events]
    assert store.heads([run()]) == {
        run(): Head(run(), 3, appended.events[-1].checksum, 9, False, 5, 1)
    }


def test_the_head_says_what_the_last_append_said(store: EventStore) -> None:
    store.commit([unit(run(), 0, 1, due_tick=4, slice=17)])
    store.commit([unit(run(), 1, 1, ended=True, slice=17)])
    head = store.heads([run()])[run()]
    assert (head.version, head.due_tick, head.ended, head.slice, head.ordinal) == (
        2,
        None,
        True,
        17,
        1,
    )


def test_expected_version_zero_means_that_the_stream_must_not_exist(store: EventStore) -> None:
    store.commit([unit(run())])
    assert store.commit([unit(run())]) == [Conflict("version", run())]
    assert store.log_head().position == 1


@pytest.mark.parametrize("expected", [1, 3])
def test_another_version_than_expected_is_a_conflict(store: EventStore, expected: int) -> None:
    store.commit([unit(run(), 0, 2)])
    before = store.heads([run()])
    assert store.commit([unit(run(), expected, 1, tick=9, ended=True)]) == [
        Conflict("version", run())
    ]
    assert store.heads([run()]) == before
    assert store.log_head() == LogHead(2, 1, 0, 0)


def test_the_same_version_of_another_history_is_a_conflict(store: EventStore) -> None:
    """A standby that took over has lost what was recorded last, and others have gone on from there:
    what was decided before follows on nothing that is in the log any more."""
    lost, kept = sealed(run(), tick=1), sealed(run(), tick=2)
    store.commit([Unit((StreamAppend(run(), 0, (kept,), slice=0),))])
    late = unit(run(), 1, previous=lost.checksum)
    twice = Unit((append(run(), 1, previous=kept.checksum), append(run(), 2, previous=b"?" * 32)))
    assert store.commit([late, twice]) == [Conflict("version", run())] * 2
    assert store.log_head().position == 1
    assert store.commit([unit(run(), 1, previous=kept.checksum)]) == [committed_at(2)]


def test_a_refused_unit_leaves_no_trace_and_disturbs_no_other(store: EventStore) -> None:
    store.commit([unit(run(9))])
    half = Unit(
        (append(run(2), 0, 2, tick=50, due_tick=1), append(run(9), 0)),
        contact_keys=(("c2", b"k" * 16),),
        event_ids=("event",),
    )
    outcomes = store.commit([unit(run(1)), half, unit(run(3), 0, 2)])
    assert outcomes == [committed_at(2), Conflict("version", run(9)), committed_at(4)]
    assert store.read_stream(run(2)) == []
    assert store.heads([run(2)]) == {}
    assert store.contact_keys(["c2"]) == {}
    assert store.known_event_ids(["event"]) == set()
    assert store.log_head() == LogHead(4, 3, 0, 0)
    assert store.next_due() is None
    heads = store.heads([run(1), run(3)])
    assert (heads[run(1)].ordinal, heads[run(3)].ordinal) == (2, 3)


def test_a_unit_may_append_to_several_streams(store: EventStore) -> None:
    both = Unit((append("contact:c", 0, 2), append(run(), 0, 1), append("plan:p", 0, 1)))
    assert store.commit([both]) == [committed_at(4)]
    assert [row.stream_id for row in store.read_log(0, 9)] == [
        "contact:c",
        "contact:c",
        run(),
        "plan:p",
    ]


def test_later_units_see_what_earlier_ones_did(store: EventStore) -> None:
    outcomes = store.commit([unit(run(), 0, 2), unit(run(), 2, 1, due_tick=3), unit(run(), 2, 1)])
    assert outcomes == [committed_at(2), committed_at(3), Conflict("version", run())]
    assert store.heads([run()])[run()].version == 3
    assert due_runs(store, 3, 9) == [run()]


def test_a_unit_may_append_to_one_stream_twice(store: EventStore) -> None:
    twice = Unit((append(run(), 0, 1, due_tick=1), append(run(), 1, 2, due_tick=8)))
    assert store.commit([twice]) == [committed_at(3)]
    assert [row.version for row in store.read_stream(run())] == [1, 2, 3]
    head = store.heads([run()])[run()]
    assert (head.version, head.due_tick, head.ordinal) == (3, 8, 1)
    wrong = Unit((append(run(), 3, 1), append(run(), 3, 1)))
    assert store.commit([wrong]) == [Conflict("version", run())]
    assert store.log_head().position == 3


def test_a_unit_without_events_is_committed_at_position_zero(store: EventStore) -> None:
    store.commit([unit(run())])
    assert store.commit([index_unit(event_ids=("e",))]) == [committed_at(0)]
    assert store.log_head().position == 1


def test_an_append_without_events_only_checks_the_version(store: EventStore) -> None:
    store.commit([unit(run(), 0, 2, due_tick=5)])
    assert store.commit([unit(run(), 2, 0)]) == [committed_at(0)]
    assert store.commit([unit(run(), 1, 0)]) == [Conflict("version", run())]
    assert store.commit([unit(run(2), 0, 0)]) == [committed_at(0)]
    assert store.heads([run(), run(2)]).keys() == {run()}
    assert store.next_due() == 5


def test_events_that_are_not_numbered_on_are_a_bug_and_write_nothing(store: EventStore) -> None:
    gap = append(run(), 0, 1)
    gap = type(gap)(run(), 0, (sealed(run(), 2, previous=chain.GENESIS),))
    with pytest.raises(ValueError, match=run()):
        store.commit([unit(run(2)), Unit((gap,))])
    assert store.log_head().position == 0
    assert store.heads([run(), run(2)]) == {}


def test_each_first_event_of_a_run_takes_the_next_ordinal(store: EventStore) -> None:
    scheduled = RunScheduled("plan", 1, "contact", 1, 10, 3)
    store.commit([unit("contact:c", 0, 2), unit(run(1), 0, 3), unit("plan:p")])
    store.commit([unit(run(1), 3, 1)])
    store.commit([unit(run(2), 0, [scheduled]), unit(run(2)), unit(run(3))])
    heads = store.heads([run(1), run(2), run(3), "contact:c", "plan:p"])
    assert {stream: head.ordinal for stream, head in heads.items()} == {
        run(1): 1,
        run(2): 2,
        run(3): 3,
        "contact:c": 0,
        "plan:p": 0,
    }
    assert store.log_head().ordinal == 3


def test_only_a_creating_event_at_the_start_of_a_run_takes_an_ordinal(store: EventStore) -> None:
    # A run that is started late has two creating events; other streams may hold any name.
    started = append(run(1), 0, [RunScheduled("plan", 1, "contact", 1, 10, 3)])
    again = Unit((type(started)(run(1), 1, (sealed(run(1), 2, name="RunStarted"),), slice=0),))
    odd = Unit((append(run(2), 0, [WaitCompleted("wait")]),))
    elsewhere = Unit((append("contact:c", 0, [RunScheduled("p", 1, "c", 1, 1, 1)]),))
    store.commit([Unit((started,)), again, odd, elsewhere])
    assert store.log_head().ordinal == 1
    assert store.heads([run(2)])[run(2)].ordinal == 0
    assert store.heads([run(1)])[run(1)].ordinal == 1


def test_positions_are_gapless_across_commits_and_refusals(store: EventStore) -> None:
    positions: list[int] = []
    for number in range(1, 30):
        units = [unit(run(number), 0, 1 + number % 3), unit(run(max(1, number - 1)))]
        positions += [o.position for o in store.commit(units) if isinstance(o, Committed)]
    rows = store.read_log(0, 1000)
    assert [row.position for row in rows] == list(range(1, len(rows) + 1))
    assert positions == sorted(positions)
    assert positions[-1] == store.log_head().position == len(rows)


def test_the_tick_follows_the_events_and_never_goes_back(store: EventStore) -> None:
    store.commit([unit(run(1), 0, 1, tick=40)])
    store.commit([unit(run(2), 0, 1, tick=30)])
    assert store.log_head().tick == 40
    store.commit([unit(run(1), 0, 1, tick=99)])
    assert store.log_head().tick == 40, "a refused unit does not move the clock"


def test_a_unit_is_refused_when_the_clock_is_beyond_its_tick(store: EventStore) -> None:
    store.advance_clock(10)
    late = unit(run(1), 0, 1, tick=9, min_tick=9)
    assert store.commit([late, unit(run(2), 0, 1, tick=10, min_tick=10)]) == [
        Conflict("clock", run(1)),
        committed_at(1),
    ]
    ahead = [unit(run(3), 0, 1, tick=12), unit(run(4), 0, 1, tick=11, min_tick=11)]
    assert store.commit(ahead) == [committed_at(2), Conflict("clock", run(4))]


def test_a_large_commit_of_large_events(store: EventStore) -> None:
    big = PlanPublished({"text": "x" * 250_000})
    units = [unit(run(n), 0, 4, due_tick=n % 7, slice=n % 1024) for n in range(2_000)]
    units.append(unit("plan:big", 0, [big] * 20))
    outcomes = store.commit(units)
    assert [o.position for o in outcomes if isinstance(o, Committed)] == [
        *range(4, 8_001, 4),
        8_020,
    ]
    assert len(store.read_stream("plan:big")[19].state) > 250_000
    assert store.log_head() == LogHead(8_020, 2_000, 0, 0)


def test_ids_of_any_shape_come_back_as_they_went_in(store: EventStore) -> None:
    names = ["contact:a'b", 'contact:"', "contact:%_", "contact:ü", "contact:\\x", "contact:{},"]
    store.commit([unit(name, 0, 2) for name in names])
    assert set(store.heads(names)) == set(names)
    assert {name: len(rows) for name, rows in store.read_streams(names).items()} == dict.fromkeys(
        names, 2
    )


def test_a_closed_store_refuses_to_be_used(store: EventStore) -> None:
    store.commit([unit(run())])
    store.close()
    with pytest.raises(StoreUnavailable):
        store.commit([unit(run(2))])
    with pytest.raises(StoreUnavailable):
        store.log_head()
    with pytest.raises(StoreUnavailable):
        store.read_stream(run())
    store.close()


def test_it_is_told_which_run_was_created(store: EventStore) -> None:
    outcomes = store.commit([unit("plan:a"), unit(run(1)), unit(run(2)), unit(run(1), 1)])
    assert outcomes == [Committed(1), Committed(2, 1), Committed(3, 2), Committed(4)]
    assert store.heads([run(2)])[run(2)].ordinal == 2
