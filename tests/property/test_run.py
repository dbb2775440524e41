"""Runs of any plan through any life: what holds after every event, whatever happens."""

from __future__ import annotations

from hypothesis import given as over
from hypothesis import strategies as st

from dee_es.core import codec
from dee_es.core import commands as c
from dee_es.core import events as e
from dee_es.core.gate import Snapshot, SuppressionFact
from dee_es.core.plans.plan import ExecutionPlan
from dee_es.core.runs.advance import may_send
from dee_es.core.runs.run import decide, evolve, first_due
from tests.support.runs.given import Story
from tests.support.runs.lives import Watched, live_on, plans, run_of


def check_due(run: Watched) -> None:
    """The run is due exactly when the scheduler has something to do with it."""
    due, before = run.state.due_tick, run.now

    def does(now: int) -> bool:
        meta = e.Meta(now, "cmd_probe", "tick", 0)
        return bool(decide(run.materials, run.state, c.Advance(meta, abandoned=True)))

    if due is None:
        assert not any(does(now) for now in (before, before + 1, before + 10**9))
    else:
        assert does(max(due, before))
        assert due <= before or not does(due - 1)


def check_gate(run: Watched) -> None:
    """Where a run is said to send nothing, the gate is not asked: whatever it would say of the
    contact, the run does the same."""
    closed = (SuppressionFact("global"),)
    for now in {run.now, run.now + 1, max(run.now, run.state.due_tick or 0)}:
        meta = e.Meta(now, "cmd_probe", "tick", 0)
        refused = {
            channel: Snapshot(now, run.materials.scale, channel, run.materials.plan.id, closed)
            for channel in run.materials.plan.graph.channels
        }
        for abandoned in (False, True):
            asked, told = (
                decide(run.materials, run.state, c.Advance(meta, given, 1, abandoned))
                for given in ({}, refused)
            )
            if not may_send(run.state, now):
                assert asked == told
                assert not any(isinstance(event, e.StepDispatched) for event in asked)


@over(plans(), st.data())
def test_any_life_of_any_run(plan: ExecutionPlan, data: st.DataObject) -> None:
    run = run_of(plan, data.draw)
    begun = run.history[0]
    assert first_due([begun.event]) == evolve(None, begun).due_tick
    check_due(run)
    for _ in range(data.draw(st.integers(1, 25))):
        live_on(run, data.draw)
        check_due(run)
        check_gate(run)


@over(plans(), st.data())
def test_left_alone_a_run_ends_or_waits_for_time_to_pass(
    plan: ExecutionPlan, data: st.DataObject
) -> None:
    """No tick goes on for ever, and every send of a run left alone has a key of its own."""
    run = run_of(plan, data.draw)
    run.ran_until(run.now + 300)
    assert run.state.due_tick is None or run.state.due_tick > run.now
    assert run.row.status in ("active", "waiting", "completed", "failed")
    intents = [each.event for each in run.history if isinstance(each.event, e.StepDispatched)]
    assert len({intent.key for intent in intents}) == len(intents)


@over(plans(), st.data())
def test_two_lives_alike_are_alike_to_the_byte(plan: ExecutionPlan, data: st.DataObject) -> None:
    first = run_of(plan, data.draw).ran_until(200)
    second = Story(first.materials, first.contact)
    second.enrolled(0, start=first.row.start_tick).ran_until(200)
    stored = [codec.encode(each.event, each.meta) for each in first.history]
    assert stored == [codec.encode(each.event, each.meta) for each in second.history]


@over(plans(), st.data())
def test_erasure_stops_a_run_wherever_it_is(plan: ExecutionPlan, data: st.DataObject) -> None:
    """Without its contact's data a run sends nothing, takes no branch, and comes to its end."""
    run = run_of(plan, data.draw)
    run.ran_until(data.draw(st.integers(0, 120))).erased()
    known = len(run.history)
    ended = run.state.status.ended
    run.ran_until(10**6)
    after = {each.name for each in run.history[known:]}
    assert after <= {"RunStarted", "WaitCompleted", "RunCancelled"}
    assert run.row.status in (("completed", "cancelled") if ended else ("cancelled", "failed"))
