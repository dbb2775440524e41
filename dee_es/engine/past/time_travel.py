"""A run as it stood at any moment of its past, and what changed between two of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any, Final, Literal

from dee_es.core import events as e
from dee_es.core.clock import TimeScale, require_utc
from dee_es.core.past.replay import differing
from dee_es.core.registry import REGISTRY
from dee_es.core.runs.run import evolve
from dee_es.core.runs.state import RunState
from dee_es.core.values import check_count
from dee_es.engine.models import Answer, ExecutionRun
from dee_es.engine.queries import execution_run, row_of
from dee_es.errors import InvalidInput


class Waiting(Answer):
    """What a run waits for: its start, a wait step, another attempt, a rule of the policy, or the
    outcome of a call; until when, and for a rule which one and why."""

    what: Literal["start", "wait", "retry", "defer", "pending"]
    until_tick: int
    until: datetime
    rule: str | None = None
    reason: str | None = None


class SeenEvent(Answer):
    """A channel event that conditions can ask for; `step` is None if it named none."""

    type: str
    step: str | None


class RunContext(Answer):
    """Everything that a decision about the run reads beside its status.

    `contact` is empty if the contact was erased. `sending` is the step whose message is under way,
    `attempt` the number of its attempts, `previous_step` the last step and its result.
    """

    contact: dict[str, Any]
    variables: dict[str, Any]
    seen: tuple[SeenEvent, ...]
    call_outcomes: dict[str, str]
    unsubscribed: bool
    bounced: bool
    previous_step: tuple[str, str] | None
    attempt: int
    sending: str | None
    unknown: str | None
    to_go_out_again: dict[str, int]
    erased: bool


class RunAt(Answer):
    """A run as it stood after the event `version`, the last one up to the moment asked for."""

    run: ExecutionRun
    version: int
    tick: int
    time: datetime
    event: str
    context: RunContext
    waiting: Waiting | None


class Change(Answer):
    """A field that differs between two versions, with the last event that changed it."""

    field: str
    before: Any
    after: Any
    version: int
    event: str
    step: str | None
    tick: int

    @property
    def kind(self) -> Literal["time", "text", "value"]:
        """Whether the values are times, texts of the engine's with times in them, or neither: what
        a contact or a variable holds is never rewritten."""
        return _KINDS.get(self.field, "value")


_KINDS: Final[dict[str, Literal["time", "text"]]] = {
    "startedAt": "time",
    "completedAt": "time",
    "waiting.until": "time",
    "statusReason": "text",
    "waiting.reason": "text",
}


def states(history: Sequence[e.RecordedEvent]) -> Iterator[RunState]:
    """The run after each of its events."""
    state: RunState | None = None
    for recorded in history:
        state = evolve(state, recorded)
        yield state


def version_at(
    history: Sequence[e.RecordedEvent],
    scale: TimeScale,
    version: int | None,
    tick: int | None,
    time: datetime | None,
) -> int:
    """The version that a moment means: exactly one of the three is given.

    A tick or a time means the last event up to and including it; one that lies ahead means the
    present. Raises `InvalidInput` naming what is out of range.
    """
    if sum(given is not None for given in (version, tick, time)) != 1:
        raise InvalidInput("version, tick, time", "give exactly one of them")
    last, first = len(history), history[0].meta.tick
    if version is not None:
        return check_count("version", version, last)
    name = "tick" if tick is not None else "time"
    if tick is None:
        tick = scale.tick_at(require_utc("time", time))
    else:
        check_count("tick", tick, least=0)
    found = sum(recorded.meta.tick <= tick for recorded in history)
    if not found:
        began = scale.time(first).isoformat().replace("+00:00", "Z")
        raise InvalidInput(name, f"the run began at tick {first} ({began}); it is before that")
    return found


def run_at(
    history: Sequence[e.RecordedEvent], version: int, ordinal: int, scale: TimeScale
) -> RunAt:
    """The run after its event `version`."""
    *_, state = states(history[:version])
    return shown_at(state, history[version - 1], ordinal, scale)


def shown_at(state: RunState, recorded: e.RecordedEvent, ordinal: int, scale: TimeScale) -> RunAt:
    """A state that the event led to, for people and programs."""
    return RunAt(
        run=execution_run(row_of(state, ordinal), dict(state.contact.variables), scale),
        version=recorded.version,
        tick=recorded.meta.tick,
        time=scale.time(recorded.meta.tick),
        event=REGISTRY[recorded.name].action,
        context=context_of(state),
        waiting=waiting_of(state, scale),
    )


def context_of(state: RunState) -> RunContext:
    """What decisions about the run read."""
    person = state.contact
    fields = {"email": person.email, "phone": person.phone, "timezone": person.timezone}
    contact = {name: value for name, value in fields.items() if value is not None}
    return RunContext(
        contact={**contact, "attributes": dict(person.attributes)} if not state.erased else {},
        variables=dict(person.variables),
        seen=tuple(SeenEvent(type=kind, step=step or None) for kind, step in sorted(state.seen)),
        call_outcomes=dict(state.call_outcomes),
        unsubscribed=state.unsubscribed,
        bounced=state.bounced,
        previous_step=state.previous_step,
        attempt=state.attempt,
        sending=None if state.intent is None else state.intent.step_id,
        unknown=None if state.unknown is None else state.unknown.step_id,
        to_go_out_again={each.step_id: each.due_tick for each in state.resends},
        erased=state.erased,
    )


def waiting_of(state: RunState, scale: TimeScale) -> Waiting | None:
    """What the run waits for; a pause keeps it, an end forgets it."""
    if not state.hold:
        return None
    rule, reason = state.held_by if state.hold == "defer" else ("", "")
    return Waiting(
        what=state.hold,
        until_tick=state.hold_until,
        until=scale.time(state.hold_until),
        rule=rule or None,
        reason=reason or None,
    )


def changes(
    history: Sequence[e.RecordedEvent],
    first: int,
    last: int,
    ordinal: int,
    scale: TimeScale,
) -> list[Change]:
    """What differs between two versions, and the last event that changed each field."""
    shown: list[Mapping[str, Any]] = []
    for state, recorded in zip(states(history), history, strict=True):
        if first <= recorded.version <= last:
            shown.append(_comparable(shown_at(state, recorded, ordinal, scale)))
    by: dict[str, int] = {}
    for place, (before, after) in enumerate(pairwise(shown), start=first):
        for field, _, _ in differing(before, after):
            by[field] = place  # the index of the event in `history`
    found = []
    for field, before, after in differing(shown[0], shown[-1]):
        recorded = history[by[field]]
        found.append(
            Change(
                field=field,
                before=before,
                after=after,
                version=recorded.version,
                event=REGISTRY[recorded.name].action,
                step=getattr(recorded.event, "step_id", None),
                tick=recorded.meta.tick,
            )
        )
    return found


def _comparable(at: RunAt) -> Mapping[str, Any]:
    shown = at.model_dump(mode="json", by_alias=True)
    run = shown.pop("run")
    # These move with every event and tell nothing.
    for name in ("version", "currentTick"):
        del run[name]
    return {**run, "context": shown["context"], "waiting": shown["waiting"] or {}}
