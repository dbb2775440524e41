"""A contact that is suppressed while its run is under way: to conditions it has unsubscribed, as
soon as the run meets that."""

from __future__ import annotations

import pytest

from dee_es.core import events as e
from dee_es.core.builders import steps
from dee_es.core.past.replay import replay
from dee_es.core.runs.channel_events import SUPPRESSED
from dee_es.core.runs.rules import ERASING, HEEDING, RULES
from tests.support.runs.given import Story, given, plan_of

STEPS = (
    steps.send_email("intro", "hello", "Hi"),
    steps.wait("pause", {"hours": 1}),
    steps.send_email("again", "hello", "Hi again"),
    steps.end("cold", "silent"),
)
PLAN = plan_of(*STEPS, exits={"contact.unsubscribed": "gone"})
GONE = e.RunCompleted(
    "gone", "contact.unsubscribed", personal=e.Seen({"contact.unsubscribed": True})
)


def waiting(rules: int = RULES, plan: object = PLAN) -> Story:
    run = given(plan).enrolled(0, pins=e.Pins(rules=rules))  # type: ignore[arg-type]
    return run.ticked(0).delivered().stands("waiting")


def meets(run: Story, *suppressed: tuple[str, str]) -> Story:
    """The run comes to its next send, with this on the list."""
    return run.ticked(3600).ticked(3601, suppressed=suppressed)


@pytest.mark.parametrize("paused", [False, True])
def test_a_run_that_is_told_ends_by_its_exit_condition_at_the_next_tick(paused: bool) -> None:
    run = waiting().paused(5) if paused else waiting()
    run.received(SUPPRESSED, 7).then(e.ChannelEventReceived)
    run.stands("paused" if paused else "waiting").due(8)
    run.ticked(8).then(GONE).stands("completed", outcome="gone")
    assert replay(run.history, lambda *_: run.materials).verdict == "identical"


def test_what_it_is_told_is_about_no_step_and_told_once() -> None:
    run = waiting().received(SUPPRESSED, 7)
    (event,) = run.news
    assert isinstance(event, e.ChannelEventReceived)
    assert (event.step_id, event.exit_outcome) == (None, "gone")
    run.received(SUPPRESSED, 7).then()
    run.ticked(8).received(SUPPRESSED, 9).then()


def test_without_such_a_condition_the_run_goes_on_without_its_sends() -> None:
    run = waiting(plan=plan_of(*STEPS)).received(SUPPRESSED, 7).stands("waiting").due(3600)
    meets(run, ("global", "")).then(e.StepSkipped, e.StepEntered, e.RunCompleted)
    run.stands("completed", outcome="silent")


@pytest.mark.parametrize("fact", [("global", ""), ("regulatory", ""), ("plan", "plan")])
def test_a_run_that_meets_it_at_a_send_ends_instead_of_the_next_step(fact: tuple[str, str]) -> None:
    """It was on a list of addresses, so that nobody knew the run."""
    run = meets(waiting(), ("channel", "voice"), fact)
    run.then(e.StepSkipped, GONE).stands("completed", outcome="gone")
    assert replay(run.history, lambda *_: run.materials).verdict == "identical"


def test_one_channel_that_is_closed_is_no_unsubscribe() -> None:
    meets(waiting(), ("channel", "email")).stands("completed", outcome="silent")


def test_runs_of_older_rules_go_on_as_they_would_have() -> None:
    run = waiting(HEEDING - 1).received(SUPPRESSED, 7).then()
    meets(run, ("global", "")).stands("completed", outcome="silent")
    assert replay(run.history, lambda *_: run.materials).verdict == "identical"


def test_who_is_erased_is_on_the_list_and_so_counts_as_unsubscribed() -> None:
    run = waiting().erasing(7).then(GONE).stands("completed", outcome="gone").rests()
    assert replay(run.history, lambda *_: run.materials).verdict == "identical"


def test_an_erasure_cancelled_runs_of_older_rules() -> None:
    run = waiting(ERASING - 1).erasing(7).then(e.RunCancelled("erasure")).stands("cancelled")
    assert replay(run.history, lambda *_: run.materials).verdict == "identical"
