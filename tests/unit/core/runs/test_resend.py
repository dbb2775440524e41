"""A message that bounces softly goes out again, beside the run's own way through its plan."""

from __future__ import annotations

import pytest

from dee_es.core import events as e
from dee_es.core.builders import transitions
from dee_es.core.runs.advance import may_send
from dee_es.core.runs.rules import RULES
from tests.support.runs.given import Story, given, plan_of

HOUR = 3600
DAY = 24 * HOUR
SEND = {"type": "sendEmail", "id": "intro", "template_id": "hello", "subject": "Hi"}
STEPS = (
    SEND,
    {"type": "wait", "id": "pause", "duration": {"days": 3}},
    {"type": "end", "id": "over", "outcome": "done"},
)
PLAN = plan_of(*STEPS)


def waiting() -> Story:
    """The message was delivered at tick 0, and the run waits for three days."""
    return given(PLAN).enrolled(0).ticked(0).delivered(0).stands("waiting")


def bounced(run: Story | None = None, tick: int = 60) -> Story:
    """It bounced softly."""
    return (run or waiting()).received("email.bounced", tick, kind="soft")


def test_it_goes_out_again_an_hour_later_while_the_run_waits_on() -> None:
    run = bounced().then(
        e.ChannelEventReceived,
        e.StepRetried("intro", "soft bounce", 1, 60 + HOUR, resend=True),
    )
    first = next(each.event for each in run.history if each.name == "StepDispatched")
    assert isinstance(first, e.StepDispatched)
    run.stands("waiting", resume_tick=3 * DAY, current_step="pause").due(60 + HOUR)
    (again,) = run.ticked(60 + HOUR).then(e.StepDispatched).news
    assert isinstance(again, e.StepDispatched)
    assert (again.key, again.attempt, again.resend) == (first.key, 2, True)
    assert again.digest == first.digest, "it is the same message"
    run.stands("waiting", resume_tick=3 * DAY, steps_completed=1)
    run.delivered(60 + HOUR).then(e.StepCompleted("intro", "delivered", "msg_1", resend=True))
    run.stands("waiting", resume_tick=3 * DAY, steps_completed=1).due(3 * DAY)
    run.ran_until(3 * DAY).stands("completed", outcome="done", steps_completed=3)


def test_three_times_in_a_day_and_no_more() -> None:
    run, tick, sent = waiting(), 0, []
    for _ in range(5):
        bounced(run, tick + 1)
        if not run.state.resends:
            break
        tick = run.state.resends[0].due_tick
        run.ticked(tick).then(e.StepDispatched).delivered(tick)
        sent.append(tick)
    assert sent == [1 + HOUR, 2 + 5 * HOUR, 3 + 17 * HOUR]
    run.then(e.ChannelEventReceived).stands("waiting", resume_tick=3 * DAY)


def test_not_later_than_a_day_after_it_first_went_out() -> None:
    bounced(tick=23 * HOUR).then(e.ChannelEventReceived, e.StepRetried)
    bounced(tick=23 * HOUR + 1).then(e.ChannelEventReceived).due(3 * DAY)


def test_the_day_begins_when_our_own_settings_let_it_out() -> None:
    run, tick = given(PLAN).enrolled(0).ticked(0), 0
    while tick < 2 * DAY:
        run.failed("smtp 535", tick, ours=True).then(e.StepRetried)
        tick = run.state.hold_until
        run.ticked(tick).then(e.StepDispatched)
    bounced(run.delivered(tick), tick + 60).then(e.ChannelEventReceived, e.StepRetried)
    run.ticked(tick + 60 + HOUR).then(e.StepDispatched)


def test_a_second_report_of_the_same_bounce_changes_nothing() -> None:
    run = bounced()
    bounced(run, 61).then(e.ChannelEventReceived).due(60 + HOUR)
    run.ticked(60 + HOUR)
    bounced(run, 61 + HOUR).then(e.ChannelEventReceived)


def test_a_bounce_while_the_step_is_still_being_tried_waits_for_what_comes_of_it() -> None:
    run = given(PLAN).enrolled(0).ticked(0).failed("busy", 0, retryable=True)
    bounced(run, 10).then(e.ChannelEventReceived).due(60)
    bounced(run.ticked(60), 60).then(e.ChannelEventReceived)
    run.delivered(60).stands("waiting", current_step="pause")


def test_a_bounce_of_what_arrived_in_a_pause_counts_before_the_run_goes_on() -> None:
    run = given(PLAN).enrolled(0).ticked(0).paused(0).delivered(3)
    bounced(run).then(e.ChannelEventReceived, e.StepRetried)


def test_while_the_run_has_failed_nothing_goes_out_again() -> None:
    run = given(plan_of(SEND, {**SEND, "id": "second"})).enrolled(0).ticked(0).delivered(0)
    run.ticked(1).failed("no such mailbox", 1).stands("failed")
    run.received("email.bounced", 60, "intro", kind="soft").then(e.ChannelEventReceived).due(None)


def test_a_suppressed_contact_gets_it_no_more() -> None:
    run = bounced().ticked(60 + HOUR, suppressed=[("global", "")])
    (skipped,) = run.then(e.StepSkipped).news
    assert isinstance(skipped, e.StepSkipped)
    assert skipped.resend
    run.stands("waiting", resume_tick=3 * DAY, steps_completed=1).due(3 * DAY)


def test_the_gate_is_asked_from_the_tick_on_at_which_it_goes_out_again() -> None:
    run = bounced()
    asked = [may_send(run.state, 60 + HOUR + more) for more in (-1, 0, 1)]
    assert asked == [False, True, True]
    run.ticked(60 + HOUR)
    assert not may_send(run.state, 60 + HOUR), "it is under way"


def holding(effect: str) -> dict[str, object]:
    """A policy under which no mail leaves on the first day: its sender begins on the second."""
    ramp = {"startTick": DAY, "perDay": [9]}
    return {"limits": {"warmUp": {"default": ramp}, "effect": effect}}


def test_a_policy_may_put_it_off_while_the_run_waits_on() -> None:
    run = bounced()
    (first,) = run.state.resends
    run.under(holding("defer")).ticked(60 + HOUR).then(e.StepDeferred)
    (deferred,) = run.news
    assert isinstance(deferred, e.StepDeferred)
    assert (deferred.resend, deferred.until_tick) == (True, DAY)
    run.stands("waiting", resume_tick=3 * DAY, steps_completed=1).due(DAY)
    (again,) = run.under(None).ticked(DAY).then(e.StepDispatched).news
    assert isinstance(again, e.StepDispatched)
    assert (again.key, again.attempt, again.resend) == (first.key, 2, True)


@pytest.mark.parametrize("effect, event", [("skip", e.StepSkipped), ("fail", e.StepFailed)])
def test_a_policy_that_keeps_it_back_for_good_leaves_the_run_alone(
    effect: str, event: type[e.Event]
) -> None:
    run = bounced().under(holding(effect)).ticked(60 + HOUR).then(event)
    assert getattr(run.news[0], "resend", False)
    run.stands("waiting", resume_tick=3 * DAY, steps_completed=1).due(3 * DAY)


def test_a_policy_that_pauses_the_run_for_it_keeps_it_for_after_the_pause() -> None:
    run = bounced().under(holding("pause")).ticked(60 + HOUR).then(e.RunPaused).stands("paused")
    run.due(None).under(None).resumed(2 * HOUR).ticked(2 * HOUR + 1).then(e.StepDispatched)
    run.delivered().ticked(2 * HOUR + 1).then(e.WaitStarted("pause", 3 * DAY))


def test_a_refusal_that_can_pass_is_tried_again_at_the_next_of_its_times() -> None:
    run = bounced().ticked(60 + HOUR).failed("busy", 60 + HOUR, retryable=True)
    run.then(e.StepRetried("intro", "busy", 2, 60 + 5 * HOUR, resend=True))
    run.stands("waiting", resume_tick=3 * DAY).due(60 + 5 * HOUR)


@pytest.mark.parametrize("rules, most", [(1, 3), (RULES, 23)])
def test_what_our_own_settings_let_fail_uses_up_no_time_under_the_rules_of_now(
    rules: int, most: int
) -> None:
    run = given(PLAN).enrolled(0, pins=e.Pins(rules=rules)).ticked(0).delivered(0)
    bounced(run)
    for number in range(most):
        tick = run.state.resends[0].due_tick
        run.ticked(tick).failed("smtp 535", tick, ours=True)
        last = number == most - 1
        run.then(e.StepFailed if last else e.StepRetried)
    run.stands("waiting", resume_tick=3 * DAY).due(3 * DAY)
    assert tick == (60 + HOUR + 16 * HOUR if rules == 1 else 60 + 23 * HOUR)


def test_after_a_fault_of_our_own_all_times_are_left() -> None:
    run, tick, sent = given(PLAN).enrolled(0, pins=e.Pins(rules=RULES)).ticked(0), 0, []
    bounced(run.delivered(0), 1)
    for _ in range(2):
        tick = run.state.resends[0].due_tick
        run.ticked(tick).failed("smtp 535", tick, ours=True).then(e.StepRetried)
    while run.state.resends:
        tick = run.state.resends[0].due_tick
        run.ticked(tick).then(e.StepDispatched).delivered(tick)
        sent.append(tick)
        bounced(run, tick + 1)
    assert sent == [1 + 3 * HOUR, 2 + 7 * HOUR, 3 + 19 * HOUR]


def test_a_refusal_for_good_leaves_the_run_alone() -> None:
    why = e.Detail({"code": 550})
    run = bounced().ticked(60 + HOUR).failed("no such mailbox", 60 + HOUR, detail=why)
    run.then(e.StepFailed("intro", "no such mailbox", 2, resend=True, personal=why))
    run.stands("waiting", resume_tick=3 * DAY).due(3 * DAY)


def lost() -> Story:
    """Its outcome is unknown."""
    run = bounced().ticked(60 + HOUR).unknown(60 + HOUR).then(e.OutcomeUnknown, e.RunFailed)
    return run.stands("failed", current_step="pause")


@pytest.mark.parametrize("outcome", ["delivered", "resend"])
def test_an_unknown_outcome_stops_the_run_and_a_person_lets_it_wait_on(outcome: str) -> None:
    run = lost().due(None).resolved(2 * HOUR, outcome).then(e.StepResolved)
    run.stands("active", current_step="pause", steps_completed=1)
    if outcome == "resend":
        (again,) = run.ticked(2 * HOUR + 1).then(e.StepDispatched).news
        assert isinstance(again, e.StepDispatched)
        first = next(each.event for each in run.history if each.name == "StepDispatched")
        assert isinstance(first, e.StepDispatched)
        assert again.key != first.key
        run.delivered().then(e.StepCompleted)
    run.ticked(2 * HOUR + 1).then(e.WaitStarted("pause", 3 * DAY))
    run.stands("waiting", resume_tick=3 * DAY, steps_completed=1)


def test_resolved_as_failed_a_retry_lets_the_run_wait_on() -> None:
    run = lost().resolved(2 * HOUR, "failed").stands("failed").due(None)
    run.retried(3 * HOUR).ticked(3 * HOUR + 1).then(e.WaitStarted("pause", 3 * DAY))
    run.stands("waiting", resume_tick=3 * DAY)


def test_a_lost_one_that_did_arrive_is_evidence() -> None:
    run = bounced().ticked(60 + HOUR)
    intent = run.intent
    run.ticked(60 + HOUR, abandoned=True).then(e.OutcomeUnknown, e.RunFailed)
    run.delivered(2 * HOUR, of=intent)
    run.then(e.StepCompleted("intro", "delivered", "msg_1", late=True)).stands("failed")


def test_a_pause_holds_it_back_too() -> None:
    run = bounced().paused(61).due(None).resumed(DAY - 1).due(60 + HOUR)
    run.ticked(DAY).then(e.StepDispatched)


def test_what_a_pause_held_back_for_more_than_a_day_goes_out_no_more() -> None:
    run = bounced().paused(61).resumed(DAY)
    (dropped,) = run.ticked(DAY + 1).then(e.StepFailed).news
    assert isinstance(dropped, e.StepFailed)
    assert dropped.resend
    run.stands("active", steps_completed=1).ticked(DAY + 1)
    run.then(e.WaitStarted("pause", 3 * DAY)).stands("waiting").due(3 * DAY)


def test_the_day_begins_with_the_first_attempt_that_may_have_left() -> None:
    run = given(PLAN).enrolled(0).ticked(0).failed("busy", 0, retryable=True)
    run.ticked(60).delivered(60)
    bounced(run, 23 * HOUR + 1).then(e.ChannelEventReceived)


def test_what_a_person_had_sent_again_goes_out_again_under_its_own_key() -> None:
    run = lost().resolved(2 * HOUR, "resend").ticked(2 * HOUR + 1).then(e.StepDispatched)
    key = run.intent.key
    bounced(run.delivered(), 3 * HOUR).then(e.ChannelEventReceived, e.StepRetried)
    run.ticked(15 * HOUR).then(e.StepDispatched)
    assert (run.intent.key, run.intent.resend) == (key, True)


def test_what_a_person_had_sent_again_keeps_its_own_key_while_a_policy_puts_it_off() -> None:
    run = lost().resolved(2 * HOUR, "resend")
    (planned,) = run.state.resends
    assert planned.key != run.state.mailed["intro"].key
    run.under(holding("defer")).ticked(2 * HOUR + 1).then(e.StepDeferred)
    run.under(None).ticked(DAY).then(e.StepDispatched)
    assert run.intent.key == planned.key


def test_a_person_may_have_it_sent_again_however_late() -> None:
    lost().resolved(2 * DAY, "resend").ticked(2 * DAY + 1).then(e.StepDispatched)


def calling() -> Story:
    """The mail bounced softly and goes out again while a call's outcome is waited for."""
    call = {"type": "sendVoice", "id": "call", "script_id": "call"}
    run = given(plan_of(SEND, call, *STEPS[1:])).enrolled(0).ticked(0).delivered(0)
    run.ticked(1).pending(1).stands("waiting", current_step="call")
    return bounced(run).ticked(60 + HOUR).then(e.StepDispatched)


def call_ends(run: Story, tick: int) -> Story:
    """The call is over."""
    return run.received("call.completed", tick, "call", outcome="answered")


def test_a_call_that_ends_meanwhile_loses_no_outcome() -> None:
    run = call_ends(calling(), 61 + HOUR)
    run.then(e.ChannelEventReceived, e.StepCompleted("call", "answered"))
    run.delivered(62 + HOUR).then(e.StepCompleted("intro", "delivered", "msg_1", resend=True))
    run.ran_until(63 + HOUR).stands("waiting", current_step="pause", steps_completed=2)


def test_a_call_that_ends_meanwhile_hides_no_sender_that_stopped() -> None:
    run = call_ends(calling(), 61 + HOUR).due(60 + HOUR)
    run.ticked(62 + HOUR, abandoned=True).then(e.OutcomeUnknown, e.RunFailed)
    run.resolved(2 * HOUR, "delivered").ran_until(2 * HOUR + 1)
    run.stands("waiting", current_step="pause", steps_completed=2)


def test_a_refusal_that_can_pass_is_tried_again_after_the_call_too() -> None:
    run = call_ends(calling(), 61 + HOUR).failed("busy", 62 + HOUR, retryable=True)
    run.then(e.StepRetried("intro", "busy", 2, 62 + 5 * HOUR, resend=True))


def two_sent() -> Story:
    """Two mails are out, and the first, which bounced softly, is under way again."""
    other = {**SEND, "id": "second"}
    run = given(plan_of(SEND, other, *STEPS[1:])).enrolled(0).ticked(0).delivered(0)
    run.ticked(1).then(e.StepDispatched).delivered(1).stands("waiting", current_step="pause")
    run.received("email.bounced", 60, "intro", kind="soft").then(
        e.ChannelEventReceived, e.StepRetried
    )
    return run.ticked(60 + HOUR).then(e.StepDispatched)


def test_another_mail_that_bounces_meanwhile_loses_no_outcome() -> None:
    run = two_sent().received("email.bounced", 60 + HOUR, "second", kind="soft")
    again = e.StepRetried("second", "soft bounce", 1, 60 + 2 * HOUR, resend=True)
    run.then(e.ChannelEventReceived, again)
    run.delivered(61 + HOUR).then(e.StepCompleted("intro", "delivered", "msg_1", resend=True))
    run.due(60 + 2 * HOUR).ticked(60 + 2 * HOUR).then(e.StepDispatched)


def test_another_mail_that_bounces_meanwhile_hides_no_sender_that_stopped() -> None:
    run = two_sent().received("email.bounced", 60 + HOUR, "second", kind="soft").due(60 + HOUR)
    run.ticked(61 + HOUR, abandoned=True).then(e.OutcomeUnknown, e.RunFailed)


@pytest.mark.parametrize("outcome", ["delivered", "resend", "failed"])
def test_a_call_that_ends_while_the_run_stands_still_is_not_waited_for(outcome: str) -> None:
    run = calling().unknown(61 + HOUR).stands("failed")
    call_ends(run, 62 + HOUR).stands("failed", steps_completed=1)
    run.resolved(63 + HOUR, outcome)
    if outcome == "failed":
        run.retried(63 + HOUR)
    run.ran_until(64 + HOUR).stands("waiting", current_step="pause", steps_completed=2)
    assert [each.event.cause for each in run.history if isinstance(each.event, e.RunFailed)] == [
        "outcome unknown: connection lost"
    ]


def test_an_end_drops_it() -> None:
    bounced().cancelled(61).due(None)


def test_a_bounce_on_an_ended_run_is_evidence_only() -> None:
    run = given(plan_of(SEND)).enrolled(0).ticked(0).delivered(0).stands("completed")
    bounced(run).then(e.ChannelEventReceived).due(None)


def test_a_step_that_is_entered_again_replaces_it() -> None:
    loop = plan_of(
        SEND,
        {"type": "wait", "id": "pause", "duration": {"minutes": 30}},
        {
            "type": "branch",
            "id": "again",
            "conditions": [
                {"when": 'events.hasReply("intro")', "goto": "over"},
                {"when": "default", "goto": "intro"},
            ],
        },
        {"type": "end", "id": "over", "outcome": "done"},
        transitions=transitions.explicit(
            [
                {"from": "intro", "to": "pause"},
                {"from": "pause", "to": "again"},
                {"from": "again", "to": "over"},
                {"from": "again", "to": "intro"},
            ]
        ),
    )
    run = given(loop).enrolled(0).ticked(0).delivered(0)
    bounced(run).due(1800)
    run.ran_until(1801)
    assert run.state.resends == ()


def test_it_survives_the_erasure_of_what_the_bounce_said() -> None:
    run = bounced().erased()
    run.due(60 + HOUR)
    assert not run.state.bounced


def test_a_run_that_went_on_in_an_older_log_while_it_sent_is_not_sending() -> None:
    """Older versions lost the outcome of a message that went out beside a call that ended."""
    call = {"type": "sendVoice", "id": "call", "script_id": "ask"}
    plan = plan_of(SEND, call, {"type": "wait", "id": "pause", "duration": {"days": 3}})
    run = given(plan).enrolled(0).ticked(0).delivered(0).ticked(1).pending(1)
    bounced(run).ticked(60 + HOUR).then(e.StepDispatched)
    run.received("call.completed", 61 + HOUR, step="call").then(
        e.ChannelEventReceived, e.StepCompleted
    )
    meta = e.Meta(61 + HOUR, "tick_3661", "tick", 0, None, None)
    run._happens([e.StepEntered("pause", 1, 61 + HOUR), e.WaitStarted("pause", 3 * DAY)], meta)
    run.due(3 * DAY).ticked(3 * DAY, abandoned=True).then(e.WaitCompleted, e.RunCompleted)
