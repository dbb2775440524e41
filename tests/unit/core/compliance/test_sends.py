"""What a compliance report counts of sends, and of what the gate did instead."""

from __future__ import annotations

import pytest

from dee_es.core import events as e
from dee_es.core.compliance import Period
from tests.support.evidence.counted_log import Log


@pytest.mark.parametrize(
    "event, key",
    [
        (e.StepCompleted("hello", "delivered"), "delivered"),
        (e.StepFailed("hello", "refused", 1), "failed"),
        (e.StepRetried("hello", "refused", 1, 9), "failed"),
        (e.OutcomeUnknown("hello", "k", "lost"), "unknown"),
    ],
)
def test_a_send_counts_under_its_outcome(event: e.Event, key: str) -> None:
    log = Log()
    send = log.sent(log.run())
    outcome = log.add("run_c1_p", event, 1)
    assert log.at("sends", "email", "attempted") == [send]
    assert log.at("sends", "email", key) == [send]
    assert list(log.figure("sends", "email", key).evidence.positions()) == [outcome]
    others = {"delivered", "failed", "unknown", "open"} - {key}
    assert all(log.at("sends", "email", other) == [] for other in others)


@pytest.mark.parametrize(
    "result, key",
    [
        ("answered", "delivered"),
        ("voicemail", "delivered"),
        ("busy", "not_reached"),
        ("no_answer", "not_reached"),
        ("declined", "not_reached"),
        ("failed", "not_reached"),
    ],
)
def test_a_call_counts_by_whether_it_reached_somebody(result: str, key: str) -> None:
    log = Log()
    run = log.run()
    send = log.sent(run, 0, "call")
    log.add(run, e.StepPending("call", 99), 0)
    log.add(run, e.StepCompleted("call", result), 1)
    assert log.at("sends", "voice", key) == [send]


def test_a_send_without_an_outcome_is_open() -> None:
    log = Log()
    send = log.sent(log.run())
    assert log.at("sends", "email", "open") == [send]


def test_an_unknown_outcome_stays_one() -> None:
    log = Log()
    run = log.run()
    send = log.sent(run)
    log.add(run, e.OutcomeUnknown("hello", "k", "lost"), 1)
    log.add(run, e.StepCompleted("hello", "delivered", late=True), 2)
    log.add(run, e.StepResolved("hello", "delivered", 3), 3)
    assert log.at("sends", "email", "unknown") == [send]
    assert log.at("sends", "email", "delivered") == []


def test_what_is_told_late_of_a_lost_send_says_nothing_of_the_one_after_it() -> None:
    for late in (
        e.StepFailed("hello", "refused", 1, late=True),
        e.StepCompleted("hello", "delivered", late=True),
    ):
        log = Log()
        run = log.run()
        lost = log.sent(run)
        log.add(run, e.OutcomeUnknown("hello", "k", "lost"), 1)
        log.add(run, e.StepResolved("hello", "resend", 3), 2)
        again = log.sent(run, 3)
        log.add(run, late, 4)
        assert log.at("sends", "email", "unknown") == [lost]
        assert log.at("sends", "email", "open") == [again]


def test_while_its_run_goes_on_a_call_ends_by_what_the_run_makes_of_its_event() -> None:
    log = Log()
    run = log.run()
    call = log.sent(run, 0, "call")
    told = e.ChannelEventReceived("call.completed", "c1", "e1", 9, step_id="call", kind="busy")
    log.add(run, told, 9, "ingest")
    assert log.at("sends", "voice", "open") == [call]
    over = log.add(run, e.StepCompleted("call", "busy"), 9, "ingest")
    assert log.at("sends", "voice", "not_reached") == [call]
    evidence = log.figure("sends", "voice", "not_reached").evidence
    assert list(evidence.positions()) == [over]


def test_only_of_a_call_it_can_be_said_that_it_reached_nobody() -> None:
    log = Log()
    run = log.run()
    log.sent(run)
    log.sent(run, 1, "call")
    told = [each.group for each in log.section("sends").figures if each.key == "not_reached"]
    assert told == ["voice"]


def test_each_attempt_counts_for_itself() -> None:
    log = Log()
    run = log.run()
    first = log.sent(run)
    log.add(run, e.StepRetried("hello", "refused", 1, 60), 0)
    second = log.sent(run, 60)
    log.add(run, e.StepCompleted("hello", "delivered"), 61)
    # It bounced softly, which is no outcome of a send.
    log.add(run, e.StepRetried("hello", "soft bounce", 1, 99, resend=True), 70)
    third = log.sent(run, 99, resend=True)
    assert log.at("sends", "email", "attempted") == [first, second, third]
    assert log.at("sends", "email", "failed") == [first]
    assert log.at("sends", "email", "delivered") == [second]
    assert log.at("sends", "email", "open") == [third]


def test_an_outcome_behind_the_period_counts_for_the_send_in_it() -> None:
    log = Log(Period(10, 20))
    run = log.run()
    early = log.sent(run, 9)
    log.add(run, e.StepCompleted("hello", "delivered"), 12)
    send = log.sent(run, 19, "again")
    log.add(run, e.StepCompleted("again", "delivered"), 25)
    late = log.sent(run, 20)
    assert log.at("sends", "email", "delivered") == [send]
    assert early != send != late


GATE: list[tuple[e.Event, str]] = [
    (e.StepSkipped("hello", "suppression", "x", {"suppression": "global"}), "skipped:suppression"),
    (e.StepSkipped("hello", "consent", "x", {"consent.email": "missing"}), "skipped:consent"),
    (e.StepDeferred("hello", "windows", "x", 9, {"policy": 1}), "deferred:windows"),
    (e.StepDeferred("hello", "limits", "x", 9, {"policy": 1}), "deferred:limits"),
    (e.StepFailed("hello", "windows: closed", 1, reads={"policy": 1}), "failed:windows"),
    (e.RunPaused("deadline", "budget: used up", {"policy": 1}), "paused:budget"),
]


@pytest.mark.parametrize("event, key", GATE)
def test_what_the_gate_did_instead_counts_by_its_rule(event: e.Event, key: str) -> None:
    log = Log()
    at = log.add(log.run(), event)
    log.steps[at] = "hello"
    assert log.at("sends", "email", key) == [at]
    assert log.at("sends", "email", "attempted") == []
    assert log.at("sends", "email", "delivered") is None


def test_a_pause_counts_for_the_channel_of_its_step() -> None:
    log = Log()
    at = log.add(log.run(), e.RunPaused("deadline", "budget: used up", {"policy": 1}))
    log.steps[at] = "call"
    assert log.at("sends", "voice", "paused:budget") == [at]


@pytest.mark.parametrize(
    "event",
    [
        e.StepDeferred("hello", "retry", "x", 9),
        e.StepDeferred("hello", "limits", "held again after a resume", 9),
        e.StepDeferred("hello", "retry", "x", 9, {"policy": 1}),
        e.RunPaused("deadline"),
        e.RunPaused("deadline", "budget: not now"),
        e.StepFailed("hello", "cannot be rendered: name", 1, reads={"policy": 1}),
        e.WaitStarted("hello", 9),
    ],
)
def test_what_is_no_decision_of_the_gate_does_not_count(event: e.Event) -> None:
    log = Log()
    log.add(log.run(), event)
    for section in ("sends", "consent", "windows"):
        assert log.section(section).not_measured
        assert log.section(section).figures == ()
