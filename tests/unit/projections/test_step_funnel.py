"""The step funnel: what each visit of a step became, and why."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dee_es.core import events as e
from dee_es.core.builders import steps
from dee_es.core.views import FunnelRow
from projections import STEP_FUNNEL
from tests.support.runs.given import Story, given, plan_of

HOUR, DAY = 3600, 86_400
PLAN = plan_of(
    steps.send_email("intro", "hello", "Hi"),
    steps.wait("pause", {"hours": 1}),
    steps.end("over", "done"),
)
CALL = plan_of(
    steps.branch("first", [{"when": "default", "goto": "call"}]),
    steps.send_voice("call", "script"),
)
LEAVES = plan_of(
    steps.send_email("intro", "hello", "Hi"),
    steps.wait("pause", {"hours": 1}),
    exits={"events.hasReply(any)": "replied"},
)
LATER = {"limits": {"warmUp": {"default": {"startTick": DAY, "perDay": [9]}}, "effect": "defer"}}
NEVER = {"limits": {"warmUp": {"default": {"startTick": DAY, "perDay": [9]}}, "effect": "skip"}}

Visit = tuple[str, str, str]


def row_of(story: Story) -> FunnelRow:
    row: FunnelRow | None = None
    for event in story.history:
        row = STEP_FUNNEL.fold(row, event)
    assert row is not None
    return row


def visits(story: Story) -> list[Visit]:
    """Step, state and reason of every visit that is counted, in their order."""
    counted = list(STEP_FUNNEL.tally(row_of(story)))
    assert {key[:2] for key in counted} <= {("plan", 1)}
    return [(str(step), str(state), str(why)) for _, _, step, state, why in counted]


def sent_to_intro() -> Story:
    return given(PLAN).enrolled().ticked(0)


def replied() -> Story:
    """The contact replied while the run waited."""
    run = given(LEAVES).enrolled().ticked(0).delivered(0)
    return run.received("email.replied", 5, "intro")


SENT: Visit = ("intro", "sent", "")
WAITS: Visit = ("pause", "in_progress", "")
STORIES: list[tuple[str, Callable[[], Story], list[Visit]]] = [
    ("not begun", lambda: given(PLAN).enrolled(0, start=9), []),
    ("under way", sent_to_intro, [("intro", "in_progress", "")]),
    ("delivered", lambda: sent_to_intro().delivered(), [SENT, WAITS]),
    (
        "all the way",
        lambda: given(PLAN).enrolled().ran_until(DAY),
        [SENT, ("pause", "sent", ""), ("over", "sent", "")],
    ),
    (
        "suppressed",
        lambda: given(PLAN).enrolled().ticked(0, suppressed=[("global", "")]),
        [("intro", "skipped", "suppression"), WAITS],
    ),
    (
        "against a limit",
        lambda: given(PLAN).under(NEVER).enrolled().ticked(0),
        [("intro", "skipped", "limits"), WAITS],
    ),
    (
        "put off by a limit",
        lambda: given(PLAN).under(LATER).enrolled().ticked(0),
        [("intro", "deferred", "limits")],
    ),
    (
        "put off, and then sent",
        lambda: given(PLAN).under(LATER).enrolled().ticked(0).ticked(DAY),
        [("intro", "in_progress", "")],
    ),
    (
        "cancelled while it was put off",
        lambda: given(PLAN).under(LATER).enrolled().ticked(0).cancelled(1),
        [("intro", "exited", "cancelled")],
    ),
    (
        "another attempt is no rule's deferral",
        lambda: sent_to_intro().failed("busy", retryable=True),
        [("intro", "in_progress", "")],
    ),
    (
        "failed, by the kind of the error",
        lambda: sent_to_intro().failed("smtp 550: no such user"),
        [("intro", "failed", "smtp 550")],
    ),
    (
        "failed, retried and delivered",
        lambda: sent_to_intro().failed("smtp 550: no").retried(1).ticked(2).delivered(2),
        [("intro", "failed", "smtp 550"), SENT, WAITS],
    ),
    (
        "failed twice alike",
        lambda: sent_to_intro().failed("no").retried(1).ticked(2).failed("no").retried(3).ticked(4),
        [("intro", "failed", "no"), ("intro", "failed", "no"), ("intro", "in_progress", "")],
    ),
    (
        "failed, and then cancelled",
        lambda: sent_to_intro().failed("no").cancelled(3),
        [("intro", "failed", "no")],
    ),
    (
        "of unknown outcome",
        lambda: sent_to_intro().unknown(),
        [("intro", "failed", "outcome unknown")],
    ),
    (
        "settled as delivered",
        lambda: sent_to_intro().unknown().resolved(1, "delivered"),
        [SENT],
    ),
    (
        "settled as failed",
        lambda: sent_to_intro().unknown().resolved(1, "failed"),
        [("intro", "failed", "outcome unknown")],
    ),
    (
        "settled by sending it again",
        lambda: sent_to_intro().unknown().resolved(1, "resend").ticked(2).delivered(2),
        [("intro", "failed", "outcome unknown"), SENT, WAITS],
    ),
    ("cancelled", lambda: sent_to_intro().cancelled(1), [("intro", "exited", "cancelled")]),
    (
        "cancelled while it waits",
        lambda: sent_to_intro().delivered().cancelled(9),
        [SENT, ("pause", "exited", "cancelled")],
    ),
    (
        "left by a condition",
        lambda: replied().ticked(6),
        [SENT, ("pause", "exited", "replied")],
    ),
    (
        "a call that is under way",
        lambda: given(CALL).enrolled().ticked(0).ticked(1).pending(),
        [("first", "sent", ""), ("call", "in_progress", "")],
    ),
]


@pytest.mark.parametrize("story, expected", [pytest.param(*rest, id=id) for id, *rest in STORIES])
def test_what_a_visit_became(story: Callable[[], Story], expected: list[Visit]) -> None:
    assert visits(story()) == expected


def test_a_message_that_goes_out_again_changes_no_visit() -> None:
    plan = plan_of(steps.send_email("intro", "hello", "Hi"), steps.wait("pause", {"days": 3}))
    for outcome in ("delivered", "failed", "unknown", "skipped", "deferred"):
        run = given(plan).enrolled().ticked(0).delivered(0)
        run.received("email.bounced", 60, kind="soft")
        if outcome == "skipped":
            run.ticked(60 + HOUR, suppressed=[("global", "")])
        elif outcome == "deferred":
            run.under(LATER).ticked(60 + HOUR)
        else:
            getattr(run.ticked(60 + HOUR), outcome)()
        assert any(getattr(event, "resend", False) for event in run.news), outcome
        assert visits(run) == [SENT, WAITS], outcome


BESIDE: list[e.Event] = [
    e.StepDispatched("intro", "email", "k", 2, 1, "d", resend=True),
    e.StepCompleted("intro", "delivered", resend=True),
    e.StepSkipped("intro", "suppression", "x", resend=True),
    e.StepDeferred("intro", "windows", "x", 9, resend=True),
    e.StepFailed("intro", "x", resend=True),
    e.OutcomeUnknown("intro", "k", "x", resend=True),
    e.StepResolved("intro", "delivered", 9, resend=True),
    e.StepCompleted("intro", "delivered", late=True),
    e.StepFailed("intro", "x", late=True),
    e.StepDeferred("intro", "retry", "x", 9),
    e.StepCompleted("other", "delivered"),
]


@pytest.mark.parametrize("event", BESIDE, ids=lambda event: str(event)[:40])
def test_a_visit_is_none_of_what_is_beside_it(event: e.Event) -> None:
    """The run stands in the step again, put off, while something else is told of that step."""
    folded = after(e.StepEntered("intro", 3, 0), e.StepDeferred("intro", "limits", "x", 9))
    assert after(event, to=folded) == folded


def after(*events: e.Event, to: FunnelRow | None = None) -> FunnelRow:
    """The visits after these events of a run; one that began just now if none is given."""
    meta = e.Meta(9, "cmd_9", "x", 0)
    row = to
    for event in (e.RunStarted("p", 1, "c", 1, 0, 3), *events) if to is None else events:
        name = type(event).__name__
        row = STEP_FUNNEL.fold(row, e.RecordedEvent("run_x", 2, name, 2, meta, event))
    assert row is not None
    return row


def test_a_run_that_ends_before_its_first_step_visited_none() -> None:
    begun = after()
    for event in (e.RunCancelled("cancelled"), e.RunCompleted("done")):
        assert after(event, to=begun) == begun
        assert list(STEP_FUNNEL.tally(begun)) == []


def test_a_run_that_ends_leaves_a_visit_that_was_over_as_it_was() -> None:
    skipped = after(e.StepEntered("intro", 3, 0), e.StepSkipped("intro", "limits", "x"))
    for event in (e.RunCompleted("done"), e.RunCompleted("done", step_id="intro")):
        assert after(event, to=skipped) == skipped
    left = after(e.StepEntered("intro", 3, 0), e.RunCompleted())
    assert (left.state, left.reason) == ("exited", "completed")


def test_what_is_told_late_changes_no_visit() -> None:
    run = sent_to_intro()
    sent = run.intent
    for late in (run.unknown(0).delivered, run.failed):
        late(tick=7, of=sent)
    assert visits(run) == [("intro", "failed", "outcome unknown")]


def test_what_became_of_a_send_whose_run_was_cancelled_changes_no_visit() -> None:
    for outcome in ("delivered", "failed", "unknown"):
        run = sent_to_intro().cancelled(1)
        getattr(run, outcome)()
        assert len(run.news) == 1
        assert visits(run) == [("intro", "exited", "cancelled")]


def test_a_reason_is_kept_as_far_as_kinds_are_told_apart() -> None:
    run = sent_to_intro().failed("x" * 300)
    assert visits(run) == [("intro", "failed", "x" * 200)]


def test_visits_that_are_alike_are_kept_as_one_with_their_number() -> None:
    run = sent_to_intro()
    for tick in (1, 3, 5):
        run.failed("é").retried(tick).ticked(tick + 1)
    assert row_of(run).visits == '[["intro","failed","é",3]]'
    assert len(visits(run)) == 4


def test_only_runs_have_visits() -> None:
    run = sent_to_intro()
    assert {STEP_FUNNEL.key(event) for event in run.history} == {run.run_id}
    meta = e.Meta(9, "cmd_9", "x", 0)
    other = e.RecordedEvent("plan:p", 1, "PlanPublished", 1, meta, e.PlanPublished({}))
    assert STEP_FUNNEL.key(other) is None
