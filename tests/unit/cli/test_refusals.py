"""Refusals as they are gathered from a run's timeline."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

from dee_es.cli.refusals import Refused, find_refusals
from dee_es.engine.models import TimelineEntry

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


def entry(tick: int, action: str, rule: str | None = None, **fields: Any) -> TimelineEntry:
    until = fields.get("until")
    return TimelineEntry(
        version=tick + 1,
        tick=tick,
        time=EPOCH + timedelta(seconds=tick),
        step_id=fields.get("step", "one"),
        action=action,
        outcome=fields.get("outcome", "why"),
        actor=None,
        reason=None,
        rule=rule,
        until_tick=until,
        until=None if until is None else EPOCH + timedelta(seconds=until),
    )


def found(status: str, *timeline: TimelineEntry, **fields: Any) -> list[Refused]:
    known = {"status": status, "resume_tick": None, "status_reason": None, **fields}
    return find_refusals(timeline, cast(Any, SimpleNamespace(**known)))


ENTERED = entry(0, "step.entered")
HELD = entry(0, "step.deferred", "limits", until=10)


def test_a_step_that_is_held_again_by_the_same_rule_is_one_refusal() -> None:
    again = entry(10, "step.deferred", "limits", until=20, outcome="still")
    (held,) = found("waiting", ENTERED, HELD, again, resume_tick=20)
    assert (held.times, held.since_tick, held.until_tick, held.detail) == (2, 0, 20, "still")
    assert held.standing


def test_another_rule_or_another_visit_is_another_refusal() -> None:
    windows = entry(10, "step.deferred", "windows", until=20)
    assert [each.rule for each in found("waiting", ENTERED, HELD, windows)] == ["limits", "windows"]
    later = entry(30, "step.deferred", "limits", until=40)
    loop = (entry(20, "step.dispatched"), entry(30, "step.entered"), later)
    assert [each.since_tick for each in found("waiting", ENTERED, HELD, *loop)] == [0, 30]


def test_a_hold_that_goes_on_after_a_pause_is_the_one_from_before() -> None:
    goes_on = entry(5, "step.deferred", until=12)
    (held,) = found("waiting", ENTERED, HELD, goes_on, resume_tick=12)
    assert (held.rule, held.detail, held.until_tick, held.times) == ("limits", "why", 12, 1)
    assert held.standing


def test_a_pause_by_a_person_is_no_refusal() -> None:
    assert found("paused", ENTERED, entry(1, "run.paused"), status_reason="on holiday") == []


def test_a_pause_by_a_rule_names_the_step_it_was_at() -> None:
    paused = entry(1, "run.paused", "budget", step=None, outcome="budget: spent")
    (refused,) = found("paused", ENTERED, paused, status_reason="budget: spent")
    assert (refused.step_id, refused.detail, refused.standing) == ("one", "spent", True)


def test_a_failure_by_a_rule_is_told_once() -> None:
    failures = (entry(1, "error.occurred", "windows"), entry(1, "run.failed", "windows"))
    (refused,) = found("failed", ENTERED, *failures, status_reason="windows: why")
    assert (refused.effect, refused.standing) == ("failed", True)
