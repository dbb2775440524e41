"""After a failure: retrying by hand, and settling an outcome that nobody knows."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dee_es.core import events as e
from dee_es.core.builders import steps
from tests.support.runs.given import Story, given, plan_of

PLAN = plan_of(
    steps.send_email("intro", "hello", "Hi"),
    steps.wait("pause", {"hours": 1}),
    steps.end("over", "done"),
)


def sending() -> Story:
    return given(PLAN).enrolled(0).ticked(0)


# --- retry ----------------------------------------------------------------------------------------


def test_a_retried_run_enters_its_step_again_in_the_next_tick_under_a_new_key() -> None:
    run = sending()
    old = run.intent.key
    run.failed().retried(0).then(e.RunRetried(1)).stands("active", status_reason=None).due(1)
    run.ticked(0).then()
    run.ticked(1).then(e.StepEntered("intro", 3, 1), e.StepDispatched)
    assert run.intent.key != old
    assert run.intent.attempt == 1


def test_a_retry_has_all_its_attempts_again() -> None:
    run = sending().failed("busy", 0, retryable=True).ticked(60)
    run.failed("busy", 60, retryable=True).ticked(180).failed("busy", 180, retryable=True)
    run.stands("failed").retried(200).ticked(201)
    run.failed("busy", 201, retryable=True).then(e.StepRetried("intro", "busy", 1, 261))


def test_a_failed_visit_is_not_counted() -> None:
    run = sending().failed().retried(5).ticked(6).delivered()
    run.stands("waiting", steps_completed=1, steps_remaining=2)


def test_a_retry_may_take_the_definitions_anew() -> None:
    new = e.Pins(templates={"hello": 2})
    run = sending().failed().retried(5, pins=new).then(e.RunRetried(6, new))
    assert run.state.pins == new


def test_a_retry_otherwise_keeps_them() -> None:
    old = e.Pins(templates={"hello": 1})
    run = given(PLAN).enrolled(0, pins=old).ticked(0).failed().retried(5)
    assert run.state.pins == old


def test_a_retry_of_a_failure_in_a_pause_works_alike() -> None:
    run = sending().paused(0).failed().resumed(5).ticked(6).stands("failed")
    run.retried(7).ticked(8).then(e.StepEntered("intro", 3, 8), e.StepDispatched)


def test_a_retried_run_can_be_paused_before_it_acts() -> None:
    run = sending().failed().retried(5).paused(5).resumed(9)
    run.ticked(10).then(e.StepEntered("intro", 3, 10), e.StepDispatched)


# --- an unknown outcome ---------------------------------------------------------------------------


def test_an_intent_whose_sender_is_gone_has_an_unknown_outcome() -> None:
    run = sending()
    key = run.intent.key
    run.ticked(5).then().stands("active")
    run.ticked(5, abandoned=True).then(e.OutcomeUnknown, e.RunFailed)
    unknown = run.news[0]
    assert isinstance(unknown, e.OutcomeUnknown)
    assert (unknown.step_id, unknown.key) == ("intro", key)
    run.stands("failed", current_step="intro", steps_completed=0)
    assert "unknown" in run.row.status_reason


def test_what_the_channel_cannot_tell_is_unknown() -> None:
    run = sending().unknown(0, "connection lost").then(e.OutcomeUnknown, e.RunFailed)
    run.stands("failed", status_reason="outcome unknown: connection lost")


def test_nothing_is_sent_again_by_itself() -> None:
    sending().unknown().due(None).ticked(10**6).then().ticked(10**6, abandoned=True).then()


def test_settled_as_delivered_the_run_goes_on_behind_the_step() -> None:
    run = sending().unknown().resolved(5, "delivered").then(e.StepResolved("intro", "delivered", 6))
    run.stands("active", status_reason=None, steps_completed=1).due(6)
    run.ticked(6).then(e.StepEntered("pause", 2, 6), e.WaitStarted("pause", 3606))


def test_settled_as_failed_the_run_stays_failed_and_can_be_retried() -> None:
    run = sending().unknown().resolved(5, "failed").then(e.StepResolved("intro", "failed", 6))
    run.stands("failed", steps_completed=0).due(None)
    assert "resolved as failed" in run.row.status_reason
    run.refuses("active", lambda story: story.resolved(6, "delivered"))
    run.retried(7).ticked(8).then(e.StepEntered("intro", 3, 8), e.StepDispatched)


def test_settled_as_resend_the_step_is_entered_again_under_a_new_key() -> None:
    run = sending()
    old = run.intent.key
    run.unknown(0).resolved(0, "resend").stands("active").due(1)
    run.ticked(0).then().ticked(1).then(e.StepEntered("intro", 3, 1), e.StepDispatched)
    assert run.intent.key != old
    assert run.intent.attempt == 1
    run.delivered().stands("waiting", steps_completed=1)


def test_an_outcome_settled_once_is_settled() -> None:
    run = sending().unknown().resolved(5, "delivered").ticked(6)
    run.refuses("active", lambda story: story.resolved(7, "resend"))


# --- the outcome arrives after all ----------------------------------------------------------------

LATE: list[tuple[Callable[[Story, object], Story], type[e.Event]]] = [
    (lambda run, of: run.delivered(9, of=of), e.StepCompleted),
    (lambda run, of: run.failed("refused", 9, of=of), e.StepFailed),
    (lambda run, of: run.failed("busy", 9, of=of, retryable=True), e.StepFailed),
]


@pytest.mark.parametrize("late, event", LATE)
def test_a_late_outcome_is_evidence_and_a_person_still_decides(
    late: Callable[[Story, object], Story], event: type[e.Event]
) -> None:
    run = sending()
    sent = run.intent
    run.unknown(0)
    before = run.row
    late(run, sent).then(event).due(None)
    run.stands(
        "failed",
        status_reason=before.status_reason,
        current_step="intro",
        steps_completed=0,
        version=before.version + 1,
    )
    run.refuses("active", lambda story: story.retried(10))
    run.resolved(10, "delivered").stands("active", steps_completed=1)
    run.ticked(11).then(e.StepEntered("pause", 2, 11), e.WaitStarted)


@pytest.mark.parametrize("late, event", LATE)
def test_a_late_outcome_is_recorded_once_after_the_resolution_too(
    late: Callable[[Story, object], Story], event: type[e.Event]
) -> None:
    run = sending()
    sent = run.intent
    late(run.unknown(0), sent).then(event)
    late(run, sent).then()
    settled = sending()
    sent = settled.intent
    late(settled.unknown(0).resolved(5, "resend"), sent).then(event)
    # It is evidence about the first message; the second goes out all the same.
    settled.stands("active", steps_completed=0).ticked(6).then(e.StepEntered, e.StepDispatched)


def test_a_late_outcome_that_says_nothing_is_no_evidence() -> None:
    run = sending()
    sent = run.intent
    run.ticked(5, abandoned=True).stands("failed").unknown(6, of=sent).then()
    run.pending(6, of=sent).then()
    run.delivered(7, of=sent).then(e.StepCompleted("intro", "delivered", "msg_1", late=True))


def test_a_late_outcome_of_another_attempt_is_not_this_one() -> None:
    run = sending()
    first = run.intent
    run.failed("busy", 0, retryable=True).ticked(60).unknown(60)
    run.delivered(70, of=first).then()


def test_a_late_outcome_is_evidence_even_if_the_run_was_cancelled_meanwhile() -> None:
    run = sending()
    sent = run.intent
    run.unknown(0).cancelled(5).delivered(9, of=sent)
    run.then(e.StepCompleted("intro", "delivered", "msg_1", late=True))
    run.stands("cancelled", steps_completed=0, completed_tick=5, current_tick=9)
