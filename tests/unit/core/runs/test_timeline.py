"""When things happen: ticks, passes, loops and the end of a run."""

from __future__ import annotations

from collections import Counter

import pytest

from dee_es.core import events as e
from dee_es.core.builders import steps, transitions
from dee_es.core.plans.plan import ExecutionPlan
from tests.support.runs.given import given, plan_of

FOLLOW_UP = plan_of(
    steps.send_email("intro", "hello", "Hi"),
    steps.wait("three_days", {"days": 3}),
    steps.branch(
        "check",
        [
            {"when": 'events.hasReply("intro")', "goto": "engaged"},
            {"when": "default", "goto": "follow_up"},
        ],
    ),
    steps.end("engaged", "replied"),
    steps.send_email("follow_up", "hello", "Hi again"),
    steps.wait("two_days", {"days": 2}),
    steps.end("cold", "no reply"),
)


# --- ticks ----------------------------------------------------------------------------------------


def test_the_timeline_of_a_linear_plan() -> None:
    run = given(FOLLOW_UP).enrolled().ran_until(432_000)
    assert run.timeline == [
        (0, "RunStarted", None),
        (0, "StepEntered", "intro"),
        (0, "StepDispatched", "intro"),
        (0, "StepCompleted", "intro"),
        (0, "StepEntered", "three_days"),
        (0, "WaitStarted", "three_days"),
        (259_200, "WaitCompleted", "three_days"),
        (259_200, "StepEntered", "check"),
        (259_200, "BranchEvaluated", "check"),
        (259_200, "StepEntered", "follow_up"),
        (259_201, "StepDispatched", "follow_up"),
        (259_201, "StepCompleted", "follow_up"),
        (259_201, "StepEntered", "two_days"),
        (259_201, "WaitStarted", "two_days"),
    ]
    run.stands("waiting", resume_tick=432_001, steps_completed=4, steps_remaining=2)
    run.ran_until(432_001)
    run.then(
        e.WaitCompleted("two_days"),
        e.StepEntered("cold", 1, 432_001),
        e.RunCompleted("no reply", step_id="cold"),
    )
    run.stands("completed", outcome="no reply", completed_tick=432_001, steps_completed=6)


def test_a_wait_is_over_when_its_tick_is_reached_and_not_before() -> None:
    run = given(FOLLOW_UP).enrolled().ticked(0).delivered()
    run.ticked(259_199).then()
    run.ticked(259_200).then(e.WaitCompleted, e.StepEntered, e.BranchEvaluated, e.StepEntered)


def test_a_wait_that_is_noticed_late_goes_on_from_then() -> None:
    run = given(FOLLOW_UP).enrolled().ticked(0).delivered().ticked(300_000)
    run.then(e.WaitCompleted, e.StepEntered, e.BranchEvaluated, e.StepEntered)
    run.due(300_001)


def test_a_send_that_is_reached_after_other_steps_waits_for_the_next_tick() -> None:
    plan = plan_of(steps.send_email("one", "hello", "1"), steps.send_email("two", "hello", "2"))
    run = given(plan).enrolled().ticked(0).delivered()
    run.then(e.StepCompleted, e.StepEntered("two", 1, 1)).due(1).ticked(0).then()
    run.ticked(1).then(e.StepDispatched)


def test_a_wait_counts_as_a_step_before_the_send() -> None:
    plan = plan_of(steps.wait("pause", {"seconds": 10}), steps.send_email("one", "hello", "1"))
    run = given(plan).enrolled().ran_until(10).stands("active", current_step="one").due(11)
    run.ticked(11).then(e.StepDispatched)


def test_ticks_of_a_minute_round_a_wait_down() -> None:
    plan = plan_of(steps.wait("pause", {"seconds": 150}), steps.end("over", "done"))
    run = given(plan, resolution_ms=60_000).enrolled().ticked(0)
    run.then(e.StepEntered, e.WaitStarted("pause", 2)).due(2)


def test_a_wait_shorter_than_a_tick_is_over_in_the_tick_it_began() -> None:
    plan = plan_of(steps.wait("pause", {"seconds": 30}), steps.end("over", "done"))
    run = given(plan, resolution_ms=60_000).enrolled(3).ticked(3)
    run.then(e.StepEntered, e.WaitStarted("pause", 3)).due(3)
    run.ticked(3).then(e.WaitCompleted, e.StepEntered, e.RunCompleted).stands("completed")


# --- the end --------------------------------------------------------------------------------------


def test_an_end_step_completes_the_run_with_its_outcome() -> None:
    plan = plan_of(steps.send_email("one", "hello", "1"), steps.end("over", "done"))
    run = given(plan).enrolled(4).ticked(4).delivered()
    run.then(e.StepCompleted, e.StepEntered("over", 1, 4), e.RunCompleted("done", step_id="over"))
    run.stands(
        "completed",
        outcome="done",
        completed_tick=4,
        current_step=None,
        steps_completed=2,
        steps_remaining=0,
        status_reason=None,
    ).due(None)


def test_a_plan_without_end_steps_completes_after_its_last_step_without_an_outcome() -> None:
    plan = plan_of(steps.send_email("one", "hello", "1"), steps.wait("pause", {"seconds": 10}))
    run = given(plan).enrolled().ran_until(10)
    run.then(
        e.StepEntered,
        e.StepDispatched,
        e.StepCompleted,
        e.StepEntered,
        e.WaitStarted,
        e.WaitCompleted("pause"),
        e.RunCompleted(),
    )
    run.stands("completed", outcome=None, completed_tick=10, steps_completed=2, steps_remaining=0)


@pytest.mark.parametrize("kind", ["skipped", "branched"])
def test_whatever_the_last_step_was(kind: str) -> None:
    last = [steps.send_email("one", "hello", "1")]
    if kind == "branched":
        arms = [{"when": "default", "goto": "one"}]
        last = [steps.branch("choose", arms), *last]
    run = given(plan_of(*last)).enrolled().ticked(0).ticked(1, suppressed=[("global", "")])
    if kind == "skipped":
        run = given(plan_of(*last)).enrolled().ticked(0, suppressed=[("global", "")])
    run.stands("completed", outcome=None, steps_completed=len(last))


# --- loops ----------------------------------------------------------------------------------------

LOOP = plan_of(
    steps.send_email("nudge", "hello", "Hi"),
    steps.wait("pause", {"minutes": 1}),
    steps.branch(
        "again",
        [
            {"when": "events.hasReply(any)", "goto": "over"},
            {"when": "default", "goto": "nudge"},
        ],
    ),
    steps.end("over", "replied"),
    transitions=transitions.explicit(
        [{"from": "nudge", "to": "pause"}, {"from": "pause", "to": "again"}]
    ),
)


def test_each_visit_of_a_loop_counts_anew() -> None:
    run = given(LOOP).enrolled().ticked(0)
    seen = []
    for tick in (0, 61, 122):
        run.ran_until(tick)
        seen.append((run.row.current_step, run.row.steps_completed, run.row.steps_remaining))
        run.ran_until(tick + 60).stands("active", current_step="nudge", steps_remaining=4)
    assert seen == [("pause", 1, 3), ("pause", 4, 3), ("pause", 7, 3)]
    sent = [each.event for each in run.history if isinstance(each.event, e.StepDispatched)]
    assert len({each.key for each in sent}) == len(sent) == 3
    assert {each.attempt for each in sent} == {1}


def test_a_loop_is_left_as_soon_as_its_branch_says_so() -> None:
    run = given(LOOP).enrolled().ran_until(150).received("email.replied", 151).ran_until(10**6)
    run.stands("completed", outcome="replied", completed_tick=182)


IDLE = [
    steps.wait("blink", {"seconds": 30}),
    steps.branch(
        "again",
        [
            {"when": "events.hasReply(any)", "goto": "over"},
            {"when": "default", "goto": "blink"},
        ],
    ),
    steps.end("over", "done"),
]


def test_a_loop_whose_waits_take_no_time_still_lets_time_pass() -> None:
    plan = plan_of(*IDLE, transitions=transitions.explicit([{"from": "blink", "to": "again"}]))
    run = given(plan, resolution_ms=60_000).enrolled().ran_until(100)
    assert run.state.due_tick == 101
    assert {tick for tick, _, _ in run.timeline} == set(range(101))
    run.received("email.replied", 100, step="none").ran_until(102).stands("completed")


def test_a_loop_of_branches_alone_cannot_hang_a_tick() -> None:
    """Such a plan is refused when it is made; one that is there all the same must do no harm."""
    start = steps.branch("a", [{"when": "default", "goto": "b"}])
    definition = plan_of(start, steps.wait("b", {"days": 1})).definition()
    definition["steps"] = [start, steps.branch("b", [{"when": "default", "goto": "a"}])]
    plan = ExecutionPlan.from_definition(definition, 1)
    run = given(plan).enrolled().ran_until(50)
    assert run.state.due_tick == 51
    assert {tick for tick, _, _ in run.timeline} == set(range(51))
    entered = Counter(tick for tick, name, _ in run.timeline if name == "StepEntered")
    # A round in each tick, and the step that the next one begins with: older logs have it so, and
    # are decided again in the same way.
    assert set(entered.values()) == {3}


def test_many_steps_without_a_channel_are_done_in_one_tick() -> None:
    chain = [steps.branch(f"b{n}", [{"when": "default", "goto": f"b{n + 1}"}]) for n in range(300)]
    run = given(plan_of(*chain, steps.end("b300", "through"))).enrolled().ticked(0)
    run.stands("completed", outcome="through", steps_completed=301)
