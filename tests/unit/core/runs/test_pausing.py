"""Pausing and resuming, in every situation a run can be in."""

from __future__ import annotations

from msgspec.structs import replace

from dee_es.core import commands as c
from dee_es.core import events as e
from dee_es.core.builders import steps
from dee_es.core.runs.fold import evolve
from dee_es.core.runs.run import decide
from tests.support.runs.given import Story, given, plan_of

PLAN = plan_of(
    steps.send_email("intro", "hello", "Hi"),
    steps.wait("pause", {"hours": 1}),
    steps.send_email("again", "hello", "Hi again"),
)
CALL = plan_of(steps.send_voice("call", "script"), steps.end("over", "called"))


def sending() -> Story:
    return given(PLAN).enrolled(0).ticked(0)


def waiting() -> Story:
    """In the wait step, until tick 3600."""
    return sending().delivered().stands("waiting", resume_tick=3600)


def calling() -> Story:
    """Waiting for a call's outcome, until tick 86400."""
    return given(CALL).enrolled(0).ticked(0).pending().stands("waiting", resume_tick=86_400)


# --- paused ---------------------------------------------------------------------------------------


def test_a_pause_is_recorded_with_its_reason() -> None:
    run = waiting().paused(100, reason="on holiday").then(e.RunPaused("deadline"))
    run.stands("paused", status_reason="on holiday", resume_tick=None, current_step="pause")


def test_a_paused_run_does_nothing_however_late_it_gets() -> None:
    run = waiting().paused(100).due(None)
    run.ticked(3600).then().ticked(999_999).then()
    run.stands("paused", version=run.row.version, current_tick=100)


def test_a_resumed_run_acts_from_the_next_tick_on() -> None:
    run = given(PLAN).enrolled(0).paused(0).resumed(50).then(e.RunResumed(51)).due(51)
    run.stands("active", status_reason=None).ticked(50).then()
    run.ticked(51).then(e.StepEntered("intro", 3, 51), e.StepDispatched)


def test_a_run_may_be_resumed_for_later_so_that_many_do_not_act_at_once() -> None:
    run = given(PLAN).enrolled(0).paused(0).resumed(50, after=20).then(e.RunResumed(70))
    run.stands("active").due(70).ticked(69).then()
    run.ticked(70).then(e.StepEntered("intro", 3, 70), e.StepDispatched)


# --- a wait ---------------------------------------------------------------------------------------


def test_a_wait_that_is_still_ahead_goes_on_in_the_tick_after_the_resume() -> None:
    run = waiting().paused(100).resumed(200).stands("active", resume_tick=None).due(201)
    run.ticked(201).then(e.WaitStarted("pause", 3600))
    run.stands("waiting", resume_tick=3600, current_step="pause", steps_completed=1).due(3600)
    run.ticked(3600).then(e.WaitCompleted("pause"), e.StepEntered("again", 1, 3601))


def test_a_wait_whose_deadline_passed_meanwhile_is_over() -> None:
    run = waiting().paused(100).resumed(5000).ticked(5001)
    run.then(e.WaitCompleted("pause"), e.StepEntered("again", 1, 5002))
    run.stands("active", steps_completed=2)


def test_a_wait_that_ends_in_the_very_tick_after_the_resume_is_over() -> None:
    waiting().paused(100).resumed(3599).ticked(3600).then(e.WaitCompleted, e.StepEntered)


def test_a_wait_may_keep_its_remaining_ticks_instead() -> None:
    run = waiting().paused(100, keep="remaining").then(e.RunPaused("remaining"))
    run.resumed(1100).then(e.RunResumed(1101, shift=1000))
    run.ticked(1101).then(e.WaitStarted("pause", 4600)).stands("waiting", resume_tick=4600)


def test_the_remaining_ticks_survive_several_pauses() -> None:
    run = waiting().paused(100, keep="remaining").resumed(200).paused(200, keep="remaining")
    run.resumed(300).ticked(301).then(e.WaitStarted("pause", 3800))
    run.paused(1000, keep="deadline").resumed(2000).ticked(2001)
    run.then(e.WaitStarted("pause", 3800))


def test_remaining_ticks_may_lie_far_behind_the_old_deadline() -> None:
    run = waiting().paused(3590, keep="remaining").resumed(10_000).ticked(10_001)
    run.then(e.WaitStarted("pause", 10_010)).due(10_010)


def test_a_run_that_waits_for_nothing_has_no_ticks_left_to_keep() -> None:
    run = given(PLAN).enrolled(0).paused(0, keep="remaining").resumed(50)
    run.then(e.RunResumed(51)).ticked(51).then(e.StepEntered, e.StepDispatched)


# --- a start --------------------------------------------------------------------------------------


def test_a_start_that_is_still_ahead_puts_the_run_back_to_pending() -> None:
    run = given(PLAN).enrolled(0, start=100).paused(10).resumed(20).stands("active").due(21)
    run.ticked(21).then(e.RunScheduled)
    run.stands("pending", start_tick=100, resume_tick=100, created_tick=0).due(100)
    run.ticked(100).then(e.RunStarted, e.StepEntered, e.StepDispatched)


def test_a_start_that_passed_meanwhile_happens_after_the_resume() -> None:
    run = given(PLAN).enrolled(0, start=100).paused(10).resumed(500).ticked(501)
    run.then(e.RunStarted, e.StepEntered, e.StepDispatched).stands("active")


def test_a_start_may_be_put_off_by_the_pause() -> None:
    run = given(PLAN).enrolled(0, start=100).paused(10, keep="remaining").resumed(60)
    run.ticked(61).then(e.RunScheduled).stands("pending", start_tick=150, resume_tick=150)


# --- a send under way -----------------------------------------------------------------------------


def test_a_delivery_while_paused_is_recorded_and_leaves_the_run_paused() -> None:
    run = sending().paused(0).delivered(3).then(e.StepCompleted("intro", "delivered", "msg_1"))
    run.stands("paused", steps_completed=1, current_step="intro", current_tick=3).due(None)
    run.resumed(50).ticked(51).then(e.StepEntered("pause", 2, 51), e.WaitStarted("pause", 3651))


def test_what_follows_a_delivery_while_paused_may_be_a_send_of_the_next_tick() -> None:
    two = plan_of(steps.send_email("one", "hello", "1"), steps.send_email("two", "hello", "2"))
    run = given(two).enrolled(0).ticked(0).paused(0).delivered().resumed(5)
    run.ticked(6).then(e.StepEntered("two", 1, 6), e.StepDispatched)


def test_a_failure_while_paused_takes_effect_after_the_resume() -> None:
    run = sending().paused(0).failed("no such mailbox", 3)
    run.then(e.StepFailed("intro", "no such mailbox", 1)).stands("paused").due(None)
    run.resumed(50).stands("active").ticked(51).then(e.RunFailed("no such mailbox", "intro"))
    run.stands("failed", status_reason="no such mailbox", current_step="intro")


def test_a_failed_attempt_while_paused_is_repeated_after_the_resume() -> None:
    run = sending()
    key = run.intent.key
    run.paused(0).failed("busy", 3, retryable=True)
    run.then(e.StepRetried("intro", "busy", 1, 63)).stands("paused").due(None)
    run.resumed(20).ticked(21).then(e.StepDeferred).stands("waiting", resume_tick=63).due(63)
    run.ticked(63).then(e.StepDispatched)
    assert (run.intent.key, run.intent.attempt) == (key, 2)


def test_the_remaining_ticks_of_a_backoff_that_began_in_the_pause_count_from_its_beginning() -> (
    None
):
    run = sending().paused(0, keep="remaining").failed("busy", 40, retryable=True)
    run.then(e.StepRetried("intro", "busy", 1, 100))
    run.resumed(90).then(e.RunResumed(91, shift=50)).ticked(91).then(e.StepDeferred)
    run.stands("waiting", resume_tick=150)


def test_a_backoff_is_kept_like_a_wait() -> None:
    run = sending().failed("busy", 0, retryable=True).stands("waiting", resume_tick=60)
    run.paused(10).resumed(20).ticked(21).then(e.StepDeferred).stands("waiting", resume_tick=60)
    run.paused(30, keep="remaining").resumed(40).ticked(41).stands("waiting", resume_tick=70)
    run.ticked(70).then(e.StepDispatched)


def test_an_outcome_that_stays_unknown_fails_even_a_paused_run() -> None:
    run = sending().paused(0).unknown(3).then(e.OutcomeUnknown, e.RunFailed)
    run.stands("failed").refuses("active", lambda story: story.resumed(9))


def test_a_send_under_way_outlasts_pause_and_resume() -> None:
    run = sending().paused(0).resumed(5).ticked(6).then().stands("active")
    run.delivered(7).then(e.StepCompleted, e.StepEntered, e.WaitStarted)
    run.stands("waiting", resume_tick=3607)


def test_a_send_abandoned_during_a_pause_is_noticed_at_once() -> None:
    run = sending().paused(0).ticked(5).then().stands("paused")
    run.ticked(5, abandoned=True).then(e.OutcomeUnknown, e.RunFailed).stands("failed")


def test_a_step_that_was_about_to_act_acts_after_the_resume() -> None:
    run = waiting().ticked(3600).due(3601).paused(3600).resumed(4000)
    run.ticked(4001).then(e.StepDispatched)


def test_a_step_that_its_policy_put_off_is_put_off_for_the_same_reason_after_the_resume() -> None:
    run = given(PLAN).under({"windows": {"channels": {"email": {"onUnknownZone": "defer"}}}})
    _, held = run.enrolled(0).ticked(0).then(e.StepEntered, e.StepDeferred).news
    assert isinstance(held, e.StepDeferred)
    run.paused(10).resumed(20).ticked(21)
    run.then(e.StepDeferred("intro", "windows", held.detail, held.until_tick))
    run.stands("waiting", status_reason=f"windows: {held.detail}").due(86_400)


# --- a call ---------------------------------------------------------------------------------------


def test_a_call_that_is_taken_while_paused_waits_after_the_resume() -> None:
    run = given(CALL).enrolled(0).ticked(0).paused(0).pending(3)
    run.then(e.StepPending("call", 86_403, "msg_1")).stands("paused").due(None)
    run.resumed(50).ticked(51).then(e.StepPending("call", 86_403))
    run.stands("waiting", resume_tick=86_403)


def test_a_call_that_ends_while_paused_is_recorded_and_leaves_the_run_paused() -> None:
    run = calling().paused(10).received("call.completed", 20, outcome="answered")
    run.then(e.ChannelEventReceived, e.StepCompleted("call", "answered"))
    run.stands("paused", steps_completed=1).due(None)
    run.resumed(30).ticked(31).then(e.StepEntered, e.RunCompleted("called", step_id="over"))


def test_a_call_that_is_still_pending_keeps_its_deadline() -> None:
    run = calling().paused(10).resumed(20).ticked(21).then(e.StepPending("call", 86_400))
    run.stands("waiting", resume_tick=86_400)
    run.received("call.completed", 30, outcome="busy").then(
        e.ChannelEventReceived, e.StepCompleted("call", "busy")
    )


def test_a_call_whose_deadline_passed_meanwhile_is_unknown() -> None:
    run = calling().paused(10).resumed(100_000).ticked(100_001)
    run.then(e.OutcomeUnknown, e.RunFailed).stands("failed")


def recorded(story: Story, ahead: int, event: e.Event) -> e.RecordedEvent:
    """What happens to a run as the `ahead`-th entry from here on."""
    version, meta = story.state.version + ahead, e.Meta(ahead, f"more_{ahead}", "tick", 0)
    return e.RecordedEvent(story.state.run_id, version, type(event).__name__, version, meta, event)


def test_only_a_run_that_its_policy_had_paused_takes_the_policy_of_now() -> None:
    run = given(PLAN).enrolled(0, pins=e.Pins(policy=3))
    held = evolve(run.state, recorded(run, 1, e.RunPaused(cause="budget: spent")))
    stopped_by_hand = evolve(run.state, recorded(run, 1, e.RunPaused()))
    for state, policy, taken in (
        (held, 7, 7),
        (held, 3, 0),
        (stopped_by_hand, 7, 0),
    ):
        command = c.Resume(e.Meta(5, "cmd_10", "resume", 0), 1, policy)
        assert decide(run.materials, state, command) == [e.RunResumed(6, policy=taken)]
    after = evolve(held, recorded(run, 2, e.RunResumed(6, policy=7)))
    assert after.pins == replace(held.pins, policy=7)
    assert evolve(held, recorded(run, 2, e.RunResumed(6))).pins == held.pins
