"""Runs that old code decided: decided again today, they come out as they did, and mean the same.

One that does not was decided by other rules: those need a number of their own, and the old ones
have to go on (`dee_es/core/runs/rules.py`).
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec.structs import asdict

from dee_es.core import codec
from dee_es.core import commands as c
from dee_es.core import events as e
from dee_es.core.clock import TimeScale
from dee_es.core.gate import read_policy
from dee_es.core.past.replay import replay
from dee_es.core.plans.plan import ExecutionPlan
from dee_es.core.registry import NAMES
from dee_es.core.runs.fold import _FOLDS, fold
from dee_es.core.runs.rules import RULES
from dee_es.engine.queries import row_of
from tests.golden.lives import HERE, LIVES, life_path

EVERY = [(name, rules) for name in LIVES for rules in range(1, RULES + 1)]


def kept(name: str, rules: int) -> dict[str, Any]:
    life: dict[str, Any] = json.loads(life_path(name, rules).read_text("utf-8"))
    return life


def history_of(life: dict[str, Any]) -> list[e.RecordedEvent]:
    found = []
    for version, (name, public, personal) in enumerate(life["events"], start=1):
        event, meta = codec.decode(name, public.encode(), personal.encode(), name)
        ordinal = life["row"]["ordinal"] if version == 1 else 0
        found.append(e.RecordedEvent(life["runId"], version, name, version, meta, event, ordinal))
    return found


def materials_of(life: dict[str, Any]) -> c.Materials:
    return c.Materials(
        ExecutionPlan.from_definition(life["plan"], 1),
        life["templates"],
        life["scripts"],
        None,
        TimeScale(datetime(2025, 1, 1, tzinfo=UTC), 1000),
        None if life["policy"] is None else read_policy(life["policy"]),
    )


def test_every_life_is_kept_under_the_rules_of_every_number() -> None:
    assert {path.name for path in HERE.iterdir()} == {life_path(*each).name for each in EVERY}


@pytest.mark.parametrize("name, rules", EVERY)
def test_a_life_is_decided_as_it_was(name: str, rules: int) -> None:
    life = kept(name, rules)
    history, materials = history_of(life), materials_of(life)
    assert isinstance(history[0].event, e.Start)
    assert history[0].event.pins.rules == rules
    found = replay(history, lambda *_: materials)
    assert (found.differences, found.verdict) == ((), "identical")
    assert found.events == tuple(recorded.event for recorded in history)


@pytest.mark.parametrize("name, rules", EVERY)
def test_a_life_comes_to_what_it_came_to(name: str, rules: int) -> None:
    life = kept(name, rules)
    state = fold(history_of(life))
    assert state is not None
    row = asdict(row_of(state, life["row"]["ordinal"]))
    assert {field: row[field] for field in life["row"]} == life["row"]


def test_the_lives_hold_every_event_that_a_run_can_have() -> None:
    held = {event[0] for each in EVERY for event in kept(*each)["events"]}
    assert held == {NAMES[event] for event in _FOLDS}
