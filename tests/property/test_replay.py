"""A replay decides every life again to the same events, and names whatever was tampered with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import assume, settings
from hypothesis import given as over
from hypothesis import strategies as st
from msgspec.structs import replace

from dee_es.core import events as e
from dee_es.core.past.replay import Difference, Replayed, replay
from dee_es.core.plans.plan import ExecutionPlan
from dee_es.core.runs import run as deciding
from tests.support.counts import count
from tests.support.runs.lives import Watched, live_on, plans, run_of


def replayed(run: Watched, history: Sequence[e.RecordedEvent] | None = None) -> Replayed:
    return replay(run.history if history is None else history, lambda *_: run.materials)


def a_life(plan: ExecutionPlan, draw: Callable[..., Any]) -> Watched:
    run = run_of(plan, draw)
    for _ in range(draw(st.integers(1, 25))):
        live_on(run, draw)
    return run


@over(plans(), st.data())
@settings(max_examples=count(150, 10_000), deadline=None)
def test_a_replay_of_any_life_is_identical(plan: ExecutionPlan, data: st.DataObject) -> None:
    run = a_life(plan, data.draw)
    again = replayed(run)
    assert again.differences == ()
    assert again.verdict == "identical"
    assert list(again.events) == [recorded.event for recorded in run.history]


# What a decision was told, and another thing that it might have been told.
OTHERWISE: dict[str, Callable[[Any], e.Event | None]] = {
    "StepCompleted": lambda event: (
        replace(event, result="busy") if event.result == "delivered" and not event.late else None
    ),
    "WaitStarted": lambda event: replace(event, until_tick=event.until_tick + 1),
    "StepRetried": lambda event: replace(event, retry_tick=event.retry_tick + 1),
    "BranchEvaluated": lambda event: replace(event, goto="elsewhere"),
    "StepEntered": lambda event: replace(event, acts_at=event.acts_at + 7),
    "StepDispatched": lambda event: replace(event, digest="0" * 64),
    "RunCompleted": lambda event: replace(event, outcome="something else"),
    "StepSkipped": lambda event: replace(event, detail="for no reason"),
}


@over(plans(), st.data())
@settings(max_examples=count(150, 10_000), deadline=None)
def test_what_was_changed_in_the_log_is_named(plan: ExecutionPlan, data: st.DataObject) -> None:
    run = a_life(plan, data.draw)
    changed = [
        (place, event)
        for place, recorded in enumerate(run.history)
        if recorded.name in OTHERWISE
        and (event := OTHERWISE[recorded.name](recorded.event)) is not None
    ]
    assume(changed)
    place, event = data.draw(st.sampled_from(changed))
    history = list(run.history)
    history[place] = replace(history[place], event=event)
    again = replayed(run, history)
    assert again.verdict == "different"
    first = again.differences[0]
    # Never before the change, and the change itself is the first to be named.
    assert first.version == place + 1, (first, history[place])
    step = getattr(event, "step_id", None)
    assert step is None or first.step == step


@over(plans(), st.data())
def test_an_event_that_is_missing_is_missed(plan: ExecutionPlan, data: st.DataObject) -> None:
    """A tail may be cut, since what would come next was never recorded; a gap is noticed."""
    run = a_life(plan, data.draw)
    names = [recorded.name for recorded in run.history]
    places = [place for place, name in enumerate(names) if name in ("StepEntered", "WaitStarted")]
    assume(places)
    place = data.draw(st.sampled_from(places))
    assume(place < len(names) - 1)
    history = [
        replace(recorded, version=number)
        for number, recorded in enumerate(
            (*run.history[:place], *run.history[place + 1 :]), start=1
        )
    ]
    assert replayed(run, history).verdict == "different"


@over(plans(), st.data())
def test_an_erased_run_says_what_cannot_be_compared(
    plan: ExecutionPlan, data: st.DataObject
) -> None:
    run = a_life(plan, data.draw)
    run.erased()
    again = replayed(run)
    assert again.verdict in ("identical", "erased")
    assert again.differences == ()


def test_another_rule_is_noticed_where_it_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.support.runs.given import given, plan_of

    send = {"type": "sendEmail", "id": "intro", "template_id": "hello", "subject": "Hi"}
    run = given(plan_of(send)).enrolled(0).ticked(0).failed(retryable=True)
    assert replay(run.history, lambda *_: run.materials).verdict == "identical"
    monkeypatch.setattr(deciding, "BACKOFF_MS", 30_000)
    again = replay(run.history, lambda *_: run.materials)
    assert again.differences == (Difference(4, "intro", "retry_tick", 60, 30),)
