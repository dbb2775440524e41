"""The idempotency keys of a run's sends, as part of its state: one for each visit of a step."""

from __future__ import annotations

from collections.abc import Mapping

from dee_es.core import events as e
from dee_es.core.ids import idempotency_key
from dee_es.core.runs.state import RunState


def key_of_visit(state: RunState, step_id: str) -> str:
    """The key of every attempt of the present visit of the step."""
    return idempotency_key(state.run_id, step_id, state.key_tick)


def next_tick(state: RunState, step_id: str, tick: int) -> int:
    """What the key of a visit that begins at `tick` is made of: that tick, or the first one behind
    those of which the step's earlier visits have made theirs."""
    return max(tick, state.key_ticks.get(step_id, -1) + 1)


def tick_of(state: RunState, event: e.StepDispatched) -> int:
    """The tick that the key is made of: in an older log all visits of one tick have that tick."""
    entered = state.entered_tick
    if state.key_tick == entered:
        return entered
    old = event.key == idempotency_key(state.run_id, event.step_id, entered)
    return entered if old else state.key_tick


def taken(state: RunState, step_id: str, tick: int) -> Mapping[str, int]:
    """The last ticks that keys were made of, by step, with this one among them."""
    return {**state.key_ticks, step_id: max(tick, state.key_ticks.get(step_id, 0))}
