"""A run stepped through, forwards and backwards, and what would happen if something were different.

Everything goes on in memory: nothing is sent and nothing is written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from msgspec.structs import replace

from dee_es.core import commands as c
from dee_es.core import events as e
from dee_es.core.clock import TimeScale
from dee_es.core.past.replay import MaterialsOf
from dee_es.core.past.simulation import Simulation
from dee_es.core.registry import REGISTRY
from dee_es.core.runs.channel_events import EVENT_TYPES, check_data
from dee_es.core.runs.state import RunState
from dee_es.core.values import check_count, check_value
from dee_es.engine.past.time_travel import RunAt, RunContext, context_of, shown_at, states
from dee_es.errors import InvalidInput

WHAT_IF_EVENTS: Final = 500
"""Events after which a "what if" stops, so that a plan that loops comes to an end."""


@dataclass(frozen=True, slots=True)
class DebugStep:
    """The next thing that happened: its place, its step, and what was known before it.

    `type` is the kind of the step (`send_email`, `wait`, ...), None for an event of the run as
    a whole; `event` is the audit action.
    """

    version: int
    tick: int
    time: datetime
    event: str
    step_id: str | None
    type: str | None
    context: RunContext | None


@dataclass(frozen=True, slots=True)
class Supposed:
    """Something that would happen."""

    tick: int
    time: datetime
    event: str
    step_id: str | None
    outcome: str | None


@dataclass(frozen=True, slots=True)
class WhatIf:
    """What would happen, and how the run would stand then.

    `assumed` names the steps whose messages count as delivered, since nobody knows. `complete` is
    false if it would go on for longer than is shown.
    """

    events: tuple[Supposed, ...]
    status: str
    outcome: str | None
    assumed: tuple[str, ...]
    complete: bool


class DebugSession:
    """One run, at any of its versions. Version 0 is before its enrolment."""

    def __init__(
        self,
        history: Sequence[e.RecordedEvent],
        materials_of: MaterialsOf,
        ordinal: int,
        scale: TimeScale,
        outcome_of: Callable[[e.Event], str | None],
    ) -> None:
        self._history = history
        self._states = list(states(history))
        self._materials_of = materials_of
        self._ordinal = ordinal
        self._scale = scale
        self._outcome_of = outcome_of
        self.version = 0

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self._history[0].stream_id

    @property
    def last_version(self) -> int:
        """The number of events there are."""
        return len(self._history)

    def has_next(self) -> bool:
        """Whether anything happened after this version."""
        return self.version < self.last_version

    def peek(self) -> DebugStep:
        """What happened next, without going there; raises `InvalidInput` at the end."""
        if not self.has_next():
            raise InvalidInput("version", f"{self.version} is the last; nothing happened after it")
        return self._step(self.version + 1)

    def step_forward(self) -> DebugStep:
        """Go on by one event, and say which; raises `InvalidInput` at the end."""
        step = self.peek()
        self.version += 1
        return step

    def step_back(self) -> DebugStep:
        """Go back by one event, and say which is undone; raises `InvalidInput` at the beginning."""
        if self.version == 0:
            raise InvalidInput("version", "0 is the beginning; nothing happened before it")
        self.version -= 1
        return self._step(self.version + 1)

    def goto(self, version: int) -> None:
        """Go to any version, 0 for the beginning; raises `InvalidInput` for one there is not."""
        self.version = check_count("version", version, self.last_version, least=0)

    def at(self) -> RunAt:
        """The run as it stands here; raises `InvalidInput` before its enrolment."""
        return shown_at(self._state(), self._history[self.version - 1], self._ordinal, self._scale)

    def context(self) -> RunContext:
        """What a decision would read here; raises `InvalidInput` before the run's enrolment."""
        return context_of(self._state())

    # --- what if ----------------------------------------------------------------------------------

    def what_if_event(
        self, type: str, data: Mapping[str, Any] | None = None, step_id: str | None = None
    ) -> WhatIf:
        """What would happen if this channel event came in here, in the tick of this version."""
        if type not in EVENT_TYPES:
            raise InvalidInput("type", f"must be one of {', '.join(sorted(EVENT_TYPES))}")
        given = check_data(type, dict(data or {}))
        state = self._state()
        simulation = self._simulation(state)
        meta = e.Meta(state.last_tick, "what_if", "ingest", 0)
        detail = e.Detail(given) if given else None
        event = c.ReceiveEvent(meta, type, "what_if", state.last_tick, step_id, detail)
        simulation.give(event)
        return self._gone_on(simulation)

    def what_if_variable(self, name: str, value: Any) -> WhatIf:
        """What would happen from here if the run's variable had this value."""
        check_value(name, value)
        state = self._state()
        contact = replace(state.contact, variables={**state.contact.variables, name: value})
        return self._gone_on(self._simulation(replace(state, contact=contact)))

    def what_next(self) -> WhatIf:
        """What would happen from here if nothing came in any more."""
        return self._gone_on(self._simulation(self._state()))

    def _simulation(self, state: RunState) -> Simulation:
        materials = self._materials_of(state.plan_id, state.plan_version, state.pins)
        return Simulation(materials, state)

    def _gone_on(self, simulation: Simulation) -> WhatIf:
        going = True
        while going and len(simulation.events) < WHAT_IF_EVENTS:
            going = simulation.go_on()
        state = simulation.state
        return WhatIf(
            tuple(self._supposed(recorded) for recorded in simulation.events),
            state.status.value,
            state.outcome,
            tuple(sorted(simulation.assumed)),
            not going,
        )

    # --- showing ----------------------------------------------------------------------------------

    def _state(self) -> RunState:
        if self.version == 0:
            raise InvalidInput("version", "0 is before the run was enrolled; go on first")
        return self._states[self.version - 1]

    def _step(self, version: int) -> DebugStep:
        recorded = self._history[version - 1]
        before = self._states[version - 2] if version > 1 else None
        step_id = getattr(recorded.event, "step_id", None)
        return DebugStep(
            version,
            recorded.meta.tick,
            self._scale.time(recorded.meta.tick),
            REGISTRY[recorded.name].action,
            step_id,
            None if step_id is None else self._type_of(self._states[version - 1], step_id),
            None if before is None else context_of(before),
        )

    def _type_of(self, state: RunState, step_id: str) -> str | None:
        plan = self._materials_of(state.plan_id, state.plan_version, state.pins).plan
        return next((step.type for step in plan.steps if step.id == step_id), None)

    def _supposed(self, recorded: e.RecordedEvent) -> Supposed:
        return Supposed(
            recorded.meta.tick,
            self._scale.time(recorded.meta.tick),
            REGISTRY[recorded.name].action,
            getattr(recorded.event, "step_id", None),
            self._outcome_of(recorded.event),
        )
