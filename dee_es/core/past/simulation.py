"""A run that goes on in memory: what would happen, decided by the same rules as what does happen.

It starts from nothing or from any state, follows a plan of one's choice, and is given what came
from outside: channel events, commands of people, answers of channels, and what the policy gate
read. Nothing is sent and nothing is written. A send whose answer nobody recorded counts as
delivered, and a gate that was not asked then lets it pass; `assumed` names the steps for which
that was so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace as replace_fields
from typing import Final

from msgspec import Struct, field

from dee_es.core import commands as c
from dee_es.core import events as e
from dee_es.core.gate import Snapshot
from dee_es.core.ids import outcome_id
from dee_es.core.past.recorded_commands import (
    RESULT,
    TICK,
    Verdict,
    command_of,
    outcome_of,
    snapshots_of,
)
from dee_es.core.registry import NAMES
from dee_es.core.runs.run import decide, enroll, evolve
from dee_es.core.runs.state import RunState
from dee_es.errors import InvalidTransition

MAX_EVENTS: Final = 20_000
"""More events than any real run has; a plan that loops without an end is stopped there."""


class Given(Struct, frozen=True):
    """Something from outside. `late` says that what was due in its tick had been done before."""

    command: c.RunCommand
    late: bool

    @property
    def place(self) -> tuple[int, bool]:
        """Its tick, and whether it came after what was due then."""
        return self.command.meta.tick, self.late


class Inputs(Struct, frozen=True):
    """All that a run was told from outside, in order; answers and verdicts by step."""

    given: Sequence[Given] = ()
    answers: Mapping[str, Sequence[c.RecordResult]] = field(default_factory=dict)
    verdicts: Mapping[str, Sequence[Mapping[str, Snapshot]]] = field(default_factory=dict)


def inputs_of(
    materials: c.Materials, state: RunState, history: Sequence[e.RecordedEvent]
) -> Inputs:
    """What the recorded run was told. `state` is the run as it was enrolled."""
    given: list[Given] = []
    answers: dict[str, list[c.RecordResult]] = {}
    verdicts: dict[str, list[Mapping[str, Snapshot]]] = {}
    worked, answered = -1, ""
    for recorded in history[1:]:
        meta, event = recorded.meta, recorded.event
        if meta.command == TICK:
            worked = meta.tick
            if isinstance(event, Verdict) and event.reads:
                step = getattr(event, "step_id", None) or ""
                verdicts.setdefault(step, []).append(snapshots_of(materials, state, event, meta))
        elif meta.command == RESULT:
            # Only the first event of an answer says what it was; the others follow from it.
            answer = None if meta.command_id == answered else outcome_of(meta, event, "", 0)
            answered = meta.command_id
            if answer is not None and not getattr(event, "late", False):
                answers.setdefault(getattr(event, "step_id", ""), []).append(answer)
        elif meta.command_id != answered:
            answered = meta.command_id
            command = command_of(materials, state, [recorded])
            if command is not None:
                given.append(Given(command, late=worked == meta.tick))
    return Inputs(given, answers, verdicts)


class Simulation:
    """One run in memory. `events` are those it made, `state` what they lead to."""

    def __init__(
        self, materials: c.Materials, state: RunState | None = None, inputs: Inputs | None = None
    ) -> None:
        inputs = inputs or Inputs()
        self.materials = materials
        self.events: list[e.RecordedEvent] = []
        self.assumed: set[str] = set()
        self.refused: list[c.RunCommand] = []
        self._state = state
        self._given = list(inputs.given)
        self._answers = {step: list(each) for step, each in inputs.answers.items()}
        self._verdicts = {step: list(each) for step, each in inputs.verdicts.items()}

    @property
    def state(self) -> RunState:
        """The run as it stands; it must have been enrolled."""
        assert self._state is not None, "a simulation begins with a state or an enrolment"
        return self._state

    def enroll(self, command: c.Enroll) -> None:
        """Begin with a new run."""
        self._record(command.run_id, enroll(self.materials, command), command.meta)

    def give(self, command: c.RunCommand) -> bool:
        """Tell it something; False if its status does not allow that, and nothing follows."""
        try:
            events = decide(self.materials, self.state, command)
        except InvalidTransition:
            self.refused.append(command)
            return False
        self._record(self.state.run_id, events, command.meta)
        return True

    def go_on(self, until: int | None = None) -> bool:
        """Do the next thing that is due or was given, up to and including tick `until`.

        False if nothing is left to do, or if it is a plan that never ends.
        """
        if len(self.events) > MAX_EVENTS:
            return False
        if self.state.intent is not None:
            # It began in the middle of a send.
            self._answer()
            return True
        due = self.state.due_tick
        now = self.state.last_tick
        due = None if due is None else max(due, now)
        if self._given and (due is None or self._given[0].place <= (due, False)):
            if until is not None and self._given[0].command.meta.tick > until:
                return False
            return self.give(self._given.pop(0).command) or bool(self._given) or due is not None
        if due is None or (until is not None and due > until):
            return False
        return self._tick(due)

    def run(self, until: int | None = None) -> None:
        """Go on until nothing is left to do."""
        while self.go_on(until):
            pass

    def _tick(self, tick: int) -> bool:
        meta = e.Meta(tick, f"tick_{tick}", TICK, 0)
        told = self._verdicts.get(self._about_to_send(tick) or "")
        snapshots = told[0] if told else {}
        materials = self.materials if told else replace_fields(self.materials, policy=None)
        events = decide(materials, self.state, c.Advance(meta, snapshots))
        # A run that is put back to what it waited for asked nobody anew.
        if told and any(isinstance(event, Verdict) and event.reads for event in events):
            told.pop(0)
        self._record(self.state.run_id, events, meta)
        if self.state.intent is not None:
            self._answer()
        return bool(events)

    def _about_to_send(self, tick: int) -> str | None:
        state = self.state
        if state.resends and state.resends[0].due_tick <= tick:
            return state.resends[0].step_id
        return state.current_step or self.materials.plan.graph.entry

    def _answer(self) -> None:
        """What the channel said of the message that goes out."""
        intent = self.state.intent
        assert intent is not None
        known = self._answers.get(intent.step_id)
        meta = e.Meta(self.state.last_tick, outcome_id(intent.key, intent.attempt), RESULT, 0)
        if known:
            told = known.pop(0)
            answer = c.RecordResult(
                meta,
                intent.key,
                intent.attempt,
                told.status,
                told.message_id,
                told.error,
                told.retryable,
                told.detail,
                told.ours,
            )
        else:
            self.assumed.add(intent.step_id)
            answer = c.RecordResult(meta, intent.key, intent.attempt, "delivered")
        self._record(self.state.run_id, decide(self.materials, self.state, answer), meta)

    def _record(self, run_id: str, events: Sequence[e.Event], meta: e.Meta) -> None:
        for event in events:
            version = 1 if self._state is None else self._state.version + 1
            recorded = e.RecordedEvent(run_id, version, NAMES[type(event)], 0, meta, event)
            self._state = evolve(self._state, recorded)
            self.events.append(recorded)
