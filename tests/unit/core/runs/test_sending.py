"""Sending: intents, outcomes, attempts, and the gate before each of them."""

from __future__ import annotations

import hashlib
import json

import msgspec
import pytest

from dee_es.core import codec
from dee_es.core import events as e
from dee_es.core.builders import steps, transitions
from dee_es.core.plans.plan import ExecutionPlan
from tests.support.runs.given import Story, given, plan_of

PLAN = plan_of(
    steps.send_email("intro", "hello", "Hi {{contact.firstName}}", reply_to="us@example.com"),
    steps.wait("pause", {"hours": 1}),
    steps.send_email("again", "hello", "Hi again"),
)


def sending() -> Story:
    return given(PLAN).enrolled(0).ticked(0)


def key_of(run: str, step: str, entered: int) -> str:
    """The key as the specification has it: SHA-256 of the length-prefixed parts."""
    parts = [run.encode(), step.encode(), str(entered).encode()]
    return hashlib.sha256(b"".join(len(p).to_bytes(4, "big") + p for p in parts)).hexdigest()


# --- the intent -----------------------------------------------------------------------------------


def test_the_intent_names_key_attempt_and_holder() -> None:
    run = given(PLAN).enrolled(4).ticked(4, lease_epoch=3)
    intent = run.news[-1]
    assert isinstance(intent, e.StepDispatched)
    assert (intent.step_id, intent.channel) == ("intro", "email")
    assert intent.key == key_of(run.run_id, "intro", 4)
    assert (intent.attempt, intent.lease_epoch) == (1, 3)


def test_the_intent_holds_what_is_sent_as_personal_data_and_its_digest() -> None:
    run = sending()
    intent = run.news[-1]
    assert isinstance(intent, e.StepDispatched)
    assert intent.personal == e.Message(
        to="jane@example.com", subject="Hi Jane", text="Hello Jane", reply_to="us@example.com"
    )
    _, public, personal = codec.encode(intent, run.history[-1].meta)
    assert b"Jane" not in public
    assert b"jane@" not in public
    sent = json.dumps(json.loads(personal), separators=(",", ":"), sort_keys=True)
    assert intent.digest == hashlib.sha256(sent.encode()).hexdigest()


def test_nothing_else_happens_while_a_send_is_under_way() -> None:
    sending().ticked(0).then().ticked(1).then().ticked(10**6).then()


# --- outcomes -------------------------------------------------------------------------------------


def test_a_delivery_completes_the_step_and_the_run_goes_on_in_the_same_tick() -> None:
    run = sending().delivered(0)
    run.then(
        e.StepCompleted("intro", "delivered", "msg_1"),
        e.StepEntered("pause", 2, 0),
        e.WaitStarted("pause", 3600),
    )
    run.stands("waiting", steps_completed=1, steps_remaining=2, current_step="pause")


def test_an_outcome_counts_once() -> None:
    run = sending()
    first = run.intent
    run.delivered(0).delivered(0, of=first).then().failed("late", 0, of=first).then()


def test_the_outcome_of_an_earlier_attempt_says_nothing_about_this_one() -> None:
    run = sending()
    first = run.intent
    run.failed("busy", retryable=True).ticked(60)
    run.delivered(60, of=first).then()
    run.delivered(60).then(e.StepCompleted, e.StepEntered, e.WaitStarted)


def test_a_failure_that_cannot_pass_fails_the_run() -> None:
    detail = e.Detail({"code": 550})
    run = sending().failed("no such mailbox", detail=detail)
    run.then(
        e.StepFailed("intro", "no such mailbox", 1, personal=detail),
        e.RunFailed("no such mailbox", "intro"),
    )
    run.stands("failed", status_reason="no such mailbox", steps_completed=0, steps_remaining=3)


# --- attempts -------------------------------------------------------------------------------------


def test_a_failure_that_can_pass_is_tried_three_times_under_one_key() -> None:
    run, why = sending(), e.Detail({"code": 450})
    keys = [run.intent.key]
    run.failed("busy", 0, retryable=True, detail=why)
    run.then(e.StepRetried("intro", "busy", 1, 60, personal=why))
    run.stands("waiting", resume_tick=60, status_reason="attempt 1: busy", current_step="intro")
    run.ticked(59).then().ticked(60).then(e.StepDispatched).stands("active", status_reason=None)
    keys.append(run.intent.key)
    assert run.intent.attempt == 2
    run.failed("busy", 60, retryable=True).then(e.StepRetried("intro", "busy", 2, 180))
    run.ticked(179).then().ticked(180).then(e.StepDispatched)
    keys.append(run.intent.key)
    assert run.intent.attempt == 3
    run.failed("still busy", 180, retryable=True)
    run.then(e.StepFailed("intro", "still busy", 3), e.RunFailed("still busy", "intro"))
    run.stands("failed", steps_completed=0).due(None)
    assert keys == [key_of(run.run_id, "intro", 0)] * 3


def test_every_attempt_is_an_intent_of_its_own() -> None:
    run = sending().failed("busy", retryable=True).ticked(60, lease_epoch=2).delivered()
    intents = [each.event for each in run.history if each.name == "StepDispatched"]
    assert [(i.attempt, i.lease_epoch) for i in intents] == [(1, 1), (2, 2)]


def test_a_later_attempt_that_arrives_completes_the_step_once() -> None:
    run = sending().failed("busy", retryable=True).ticked(60).delivered()
    run.then(e.StepCompleted, e.StepEntered, e.WaitStarted("pause", 3660))
    run.stands("waiting", steps_completed=1)


def test_the_next_step_has_attempts_and_a_key_of_its_own() -> None:
    run = sending().failed("busy", retryable=True).ticked(60).delivered()
    run.ticked(3660).ticked(3661)
    assert (run.intent.step_id, run.intent.attempt) == ("again", 1)
    assert run.intent.key == key_of(run.run_id, "again", 3660)


def test_the_pause_before_an_attempt_is_at_least_a_tick() -> None:
    run = given(PLAN, resolution_ms=600_000).enrolled(0).ticked(0)
    run.failed("busy", retryable=True).then(e.StepRetried("intro", "busy", 1, 1))


def test_so_is_the_pause_before_a_message_that_bounced_goes_out_again() -> None:
    run = given(PLAN, resolution_ms=7_200_000).enrolled(0).ticked(0).delivered(0).ticked(0)
    run.received("email.bounced", 1, "intro", kind="soft")
    run.then(e.ChannelEventReceived, e.StepRetried("intro", "soft bounce", 1, 2, resend=True))


# --- our own settings -----------------------------------------------------------------------------


def test_a_fault_of_our_own_settings_ends_no_run_and_counts_as_no_attempt() -> None:
    run, tick = sending(), 0
    for number, pause in enumerate((60, 120, 240, 480, 960, 1920, 1920), start=1):
        run.failed("smtp 535", tick, ours=True)
        run.then(e.StepRetried("intro", "smtp 535", number, tick + pause, ours=True))
        run.stands("waiting", status_reason=f"attempt {number}: smtp 535")
        tick += pause
        run.ticked(tick).then(e.StepDispatched)
    run.failed("busy", tick, retryable=True).then(e.StepRetried("intro", "busy", 8, tick + 60))
    run.ticked(tick + 60).failed("busy", tick + 60, retryable=True)
    run.then(e.StepRetried("intro", "busy", 9, tick + 180))
    run.ticked(tick + 180).failed("busy", tick + 180, retryable=True)
    run.then(e.StepFailed("intro", "busy", 10), e.RunFailed("busy", "intro"))
    keys = {each.event.key for each in run.history if each.name == "StepDispatched"}
    assert len(keys) == 1


def test_a_run_that_has_ended_is_not_tried_again_for_a_fault_of_our_own() -> None:
    run = sending().cancelled(0).failed("smtp 535", ours=True)
    run.then(e.StepFailed("intro", "smtp 535", 1)).stands("cancelled")


# --- the gate -------------------------------------------------------------------------------------

DENIED = [("global", ""), ("regulatory", ""), ("channel", "email"), ("plan", "plan")]
ALLOWED = [("channel", "voice"), ("plan", "other")]


@pytest.mark.parametrize("level, scope", DENIED)
def test_a_suppressed_step_is_skipped_and_the_run_goes_on(level: str, scope: str) -> None:
    run = given(PLAN).enrolled(0).ticked(0, suppressed=[(level, scope)])
    run.then(e.StepEntered, e.StepSkipped, e.StepEntered, e.WaitStarted)
    skipped = run.news[1]
    assert isinstance(skipped, e.StepSkipped)
    assert (skipped.step_id, skipped.rule) == ("intro", "suppression")
    assert level in skipped.detail
    run.stands("waiting", steps_completed=1, current_step="pause")


@pytest.mark.parametrize("level, scope", ALLOWED)
def test_a_suppression_of_something_else_lets_it_go_out(level: str, scope: str) -> None:
    run = given(PLAN).enrolled(0).ticked(0, suppressed=[(level, scope)])
    run.then(e.StepEntered, e.StepDispatched)


def test_after_a_skipped_step_the_next_send_waits_for_its_tick() -> None:
    two = plan_of(steps.send_email("one", "hello", "1"), steps.send_email("two", "hello", "2"))
    run = given(two).enrolled(0).ticked(0, suppressed=[("global", "")])
    run.then(e.StepEntered, e.StepSkipped, e.StepEntered("two", 1, 1)).due(1)
    run.ticked(1, suppressed=[("global", "")]).then(e.StepSkipped, e.RunCompleted)


@pytest.mark.parametrize("level, scope", DENIED)
def test_the_gate_is_asked_before_every_attempt(level: str, scope: str) -> None:
    run = sending().failed("busy", retryable=True).ticked(60, suppressed=[(level, scope)])
    run.then(e.StepSkipped, e.StepEntered, e.WaitStarted).stands("waiting", steps_completed=1)


@pytest.mark.parametrize(
    "again",
    [
        pytest.param(lambda run: run.failed().retried(5), id="retried"),
        pytest.param(lambda run: run.unknown().resolved(5, "resend"), id="sent again"),
    ],
)
def test_the_gate_is_asked_when_a_person_tries_again(again: object) -> None:
    run = again(sending()).ticked(6, suppressed=[("global", "")])  # type: ignore[operator]
    run.then(e.StepEntered, e.StepSkipped, e.StepEntered, e.WaitStarted)


def test_the_gate_is_asked_after_a_pause() -> None:
    run = given(PLAN).enrolled(0).paused(0).resumed(5).ticked(6, suppressed=[("global", "")])
    run.then(e.StepEntered, e.StepSkipped, e.StepEntered, e.WaitStarted)


# --- an outcome for a run that has ended ----------------------------------------------------------


def test_what_becomes_of_a_send_after_the_run_ended_is_evidence_only() -> None:
    for late in (
        lambda run: run.delivered(9).then(e.StepCompleted("intro", "delivered", "msg_1")),
        lambda run: run.failed("refused", 9).then(e.StepFailed("intro", "refused", 1)),
        lambda run: run.unknown(9).then(e.OutcomeUnknown),
        lambda run: run.pending(9).then(e.StepPending),
    ):
        run = sending().cancelled(3)
        before = run.row
        late(run)
        run.stands(
            "cancelled",
            steps_completed=before.steps_completed,
            steps_remaining=0,
            current_step=None,
            completed_tick=3,
            status_reason=before.status_reason,
            version=before.version + 1,
            current_tick=9,
        ).due(None)


def test_an_ended_run_promises_no_further_attempt() -> None:
    sending().cancelled(3).failed("busy", 9, retryable=True).then(e.StepFailed("intro", "busy", 1))
    again = sending().delivered(0).received("email.bounced", 9, "intro", kind="soft").ticked(3600)
    again.ticked(3609).then(e.StepDispatched).cancelled(3609).failed("busy", 3609, retryable=True)
    again.then(e.StepFailed("intro", "busy", 2, resend=True)).due(None)


def blinking(kind: str) -> ExecutionPlan:
    """A loop around one send, with a wait that is shorter than a tick of a minute."""
    sends = (
        steps.send_email("again", "hello", "Hi")
        if kind == "mail"
        else steps.send_voice("again", "hello")
    )
    arms = [{"when": "events.hasReply(any)", "goto": "over"}, {"when": "default", "goto": "again"}]
    return plan_of(
        sends,
        steps.wait("blink", {"seconds": 30}),
        steps.branch("answered", arms),
        steps.end("over", "done"),
        transitions=transitions.explicit(
            [{"from": "again", "to": "blink"}, {"from": "blink", "to": "answered"}]
        ),
    )


@pytest.mark.parametrize("kind", ["mail", "call"])
def test_a_loop_that_takes_no_time_sends_each_message_under_a_key_of_its_own(kind: str) -> None:
    run = given(blinking(kind), resolution_ms=60_000).enrolled().ran_until(9)
    keys = [each.event.key for each in run.history if isinstance(each.event, e.StepDispatched)]
    assert len(keys) == 10
    assert len(set(keys)) == 10


def test_a_run_remembers_no_more_of_a_loop_however_often_it_goes_round() -> None:
    """A run may wait for an answer for years, and its state is read at each of its ticks."""
    run = given(blinking("mail"), resolution_ms=60_000).enrolled().ran_until(45)
    before = len(msgspec.msgpack.encode(run.state))
    assert len(msgspec.msgpack.encode(run.ran_until(80).state)) == before


@pytest.mark.parametrize("kind", ["mail", "call"])
def test_a_visit_that_an_older_log_gave_the_key_of_the_visit_before_keeps_it(kind: str) -> None:
    """Older versions made the key of the tick of entry alone."""
    run = given(blinking(kind), resolution_ms=60_000).enrolled().ran_until(0)
    sent = run.history[2].event
    assert isinstance(sent, e.StepDispatched)
    assert (run.state.current_step, run.state.entered_tick) == ("again", 0)
    run._happens([sent], run._meta("tick", 1))
    run.failed("busy", 1, retryable=True).ticked(2).then(e.StepDispatched)
    assert (run.intent.key, run.intent.attempt) == (sent.key, 2)
