"""Calls: placed, pending, and over by an event or by their deadline."""

from __future__ import annotations

import pytest

from dee_es.core import events as e
from dee_es.core.builders import steps
from dee_es.core.ids import idempotency_key
from dee_es.core.messages.message import message_id
from tests.support.runs.given import Story, given, plan_of

CALL = plan_of(
    steps.send_voice("call", "script", "+15550199", 120, "hangup"),
    steps.branch(
        "check",
        [
            {"when": 'call.outcome("call") == "answered"', "goto": "talked"},
            {"when": 'call.outcome("call") == "busy"', "goto": "engaged"},
            {"when": "default", "goto": "missed"},
        ],
    ),
    steps.end("talked", "talked"),
    steps.end("engaged", "engaged"),
    steps.end("missed", "missed"),
)
DAY = 86_400


def calling() -> Story:
    return given(CALL).enrolled(0).ticked(0)


def pending() -> Story:
    return calling().pending(0)


def test_the_intent_of_a_call_holds_the_rendered_script_and_the_settings() -> None:
    intent = calling().news[-1]
    assert isinstance(intent, e.StepDispatched)
    assert (intent.step_id, intent.channel, intent.attempt) == ("call", "voice", 1)
    script = {
        "greeting": "Hello Jane",
        "steps": [],
        "callerId": "+15550199",
        "maxDuration": 120,
        "voicemail": "hangup",
    }
    assert intent.personal == e.Message(to="+15550100", script=script)


def test_a_call_that_was_taken_waits_for_its_outcome() -> None:
    run = pending().then(e.StepPending("call", DAY, "msg_1")).due(DAY)
    run.stands("waiting", resume_tick=DAY, current_step="call", steps_completed=0)
    assert run.row.status_reason
    run.ticked(DAY - 1).then()


@pytest.mark.parametrize("kind", ["call.initiated", "call.ringing", "call.answered"])
def test_a_call_that_goes_on_is_not_over(kind: str) -> None:
    pending().received(kind, 30).then(e.ChannelEventReceived).stands("waiting").due(DAY)


@pytest.mark.parametrize(
    "kind, data, outcome, end",
    [
        ("call.completed", {"outcome": "answered"}, "answered", "talked"),
        ("call.completed", {}, "answered", "talked"),
        ("call.completed", {"outcome": "no_answer"}, "no_answer", "missed"),
        ("call.completed", {"outcome": "declined"}, "declined", "missed"),
        ("call.completed", {"outcome": "voicemail"}, "voicemail", "missed"),
        ("call.voicemail", {}, "voicemail", "missed"),
        ("call.failed", {"outcome": "busy"}, "busy", "engaged"),
        ("call.failed", {}, "failed", "missed"),
    ],
)
def test_the_outcome_ends_the_wait(kind: str, data: dict[str, str], outcome: str, end: str) -> None:
    run = pending().received(kind, 30, **data)
    run.then(e.ChannelEventReceived, e.StepCompleted("call", outcome))
    run.stands("active", steps_completed=1, status_reason=None, resume_tick=None).due(30)
    run.ticked(30).then(e.StepEntered, e.BranchEvaluated, e.StepEntered, e.RunCompleted)
    run.stands("completed", outcome=end, steps_completed=3)


def test_an_outcome_of_another_step_does_not_end_the_wait() -> None:
    run = pending().received("call.completed", 30, step="other").then(e.ChannelEventReceived)
    run.stands("waiting").due(DAY)


def test_an_outcome_counts_once() -> None:
    run = pending().received("call.completed", 30).received("call.completed", 30)
    run.then(e.ChannelEventReceived).stands("active", steps_completed=1)


def test_an_outcome_that_arrives_before_the_channel_answers_is_not_lost() -> None:
    run = calling().received("call.completed", 0, outcome="busy").then(e.ChannelEventReceived)
    run.stands("active").pending(0)
    run.then(
        e.StepPending("call", DAY, "msg_1"),
        e.StepCompleted("call", "busy"),
        e.StepEntered,
        e.BranchEvaluated,
        e.StepEntered,
        e.RunCompleted("engaged", step_id="engaged"),
    )


def test_what_is_told_of_a_call_after_its_end_does_not_hide_the_end() -> None:
    run = calling().received("call.completed", 0, outcome="busy").received("call.recorded", 0)
    run.pending(0).stands("completed", outcome="engaged")


def test_the_end_of_an_earlier_step_s_call_is_not_that_of_the_one_being_placed() -> None:
    two = plan_of(steps.send_voice("one", "script"), steps.send_voice("two", "script"))
    run = given(two).enrolled(0).ticked(0).delivered(0).ticked(1)
    run.received("call.completed", 1, "one", outcome="busy").pending(1)
    run.then(e.StepPending).stands("waiting", current_step="two").due(DAY + 1)


def test_an_outcome_of_an_earlier_visit_is_not_taken_for_one_of_this() -> None:
    run = pending().ticked(DAY).stands("failed").received("call.completed", DAY, outcome="busy")
    run.resolved(DAY, "resend").ticked(DAY + 1).pending(DAY + 1)
    run.then(e.StepPending).stands("waiting", resume_tick=2 * DAY + 1)


def test_without_an_outcome_by_the_deadline_it_is_unknown() -> None:
    run = pending().ticked(DAY).then(e.OutcomeUnknown, e.RunFailed)
    unknown = run.news[0]
    assert isinstance(unknown, e.OutcomeUnknown)
    assert unknown.key == idempotency_key(run.run_id, "call", 0)
    run.stands("failed", current_step="call", steps_completed=0).due(None)


def test_an_outcome_after_the_deadline_is_evidence_for_whoever_settles_it() -> None:
    run = pending().ticked(DAY).received("call.completed", DAY + 5, outcome="busy")
    run.then(e.ChannelEventReceived).stands("failed", steps_completed=0)
    run.resolved(DAY + 9, "delivered").ticked(DAY + 10).stands("completed", outcome="engaged")


def test_a_call_that_is_over_at_once_needs_no_event() -> None:
    calling().delivered().stands("completed", outcome="missed", steps_completed=3)


def test_the_deadline_is_a_day_whatever_a_tick_is() -> None:
    run = given(CALL, resolution_ms=60_000).enrolled(0).ticked(0).pending(0)
    run.then(e.StepPending("call", 24 * 60, "msg_1"))


@pytest.mark.parametrize("suppression, goes_out", [("voice", False), ("email", True)])
def test_a_call_is_suppressed_by_its_own_channel(suppression: str, goes_out: bool) -> None:
    run = given(CALL).enrolled(0).ticked(0, suppressed=[("channel", suppression)])
    assert isinstance(run.news[1], e.StepDispatched if goes_out else e.StepSkipped)


def test_an_outcome_that_names_another_call_does_not_end_this_wait() -> None:
    run = pending()
    own = run.state.pending_message
    assert own is not None
    other = {"outcome": "answered", "message_id": "msg_of_an_earlier_call"}
    run.received("call.completed", 5, step="call", **other).stands("waiting")
    run.received("call.completed", 6, step="call", outcome="answered", message_id=own)
    run.then(e.ChannelEventReceived, e.StepCompleted)


def called_again() -> tuple[Story, dict[str, str]]:
    """Nobody knew whether the call was placed, so there is a second one; and what is told of the
    first, which was."""
    run = calling()
    first = {"outcome": "busy", "message_id": message_id(run.intent.key)}
    run.unknown(0).resolved(0, "resend").ticked(1).then(e.StepEntered, e.StepDispatched)
    return run, first


def test_the_end_of_a_lost_call_is_not_that_of_the_one_being_placed() -> None:
    run, first = called_again()
    run.received("call.completed", 1, "call", **first).then(e.ChannelEventReceived)
    run.pending(1).then(e.StepPending).stands("waiting")
    run.received("call.completed", 30, "call", outcome="answered").ticked(30)
    run.stands("completed", outcome="talked")


def test_the_end_of_a_lost_call_does_not_hide_that_of_the_one_after_it() -> None:
    run, first = called_again()
    run.pending(1).received("call.completed", 30, "call", outcome="answered")
    run.received("call.completed", 30, "call", **first).then(e.ChannelEventReceived).ticked(30)
    run.stands("completed", outcome="talked")


def test_the_end_of_a_lost_call_tells_whoever_settles_it() -> None:
    run = calling()
    own = message_id(run.intent.key)
    run.unknown(0).received("call.completed", 1, "call", outcome="busy", message_id=own)
    run.resolved(2, "delivered").ticked(3).stands("completed", outcome="engaged")


def test_a_hard_bounce_of_a_lost_mail_counts_while_it_goes_out_again() -> None:
    run = given(plan_of(steps.send_email("intro", "hello", "Hi"))).enrolled(0).ticked(0)
    first = message_id(run.intent.key)
    run.unknown(0).resolved(0, "resend").ticked(1)
    run.received("email.bounced", 1, "intro", kind="hard", message_id=first)
    run.then(e.ChannelEventReceived, e.RunCancelled).stands("cancelled")
