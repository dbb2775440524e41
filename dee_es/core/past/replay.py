"""A run decided again from its own log, and compared event by event, field by field.

The commands are found in the events, go through the same `decide` as ever, and what it says now is
held against what was recorded then. After a difference the replay goes on from what was recorded,
so that each difference stands for itself and names its own step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import asdict

from dee_es.core import commands as c
from dee_es.core import events as e
from dee_es.core.past.recorded_commands import ERASE, command_of, enrollment_of
from dee_es.core.registry import NAMES
from dee_es.core.runs.run import decide, enroll, evolve
from dee_es.core.runs.state import RunState
from dee_es.errors import DeeError

MaterialsOf = Callable[[str, int, e.Pins], c.Materials]
"""Gives the definitions of a plan's version under some pins."""


class Difference(NamedTuple):
    """What a replay says otherwise than the log does.

    `version` is the entry's place in the run, `step` the step it is about. `field` is the path of
    the field that differs; `event` where another event follows, or one more or less.
    """

    version: int
    step: str | None
    field: str
    expected: Any
    actual: Any


class Replayed(NamedTuple):
    """A replay: what was decided again, and how that differs from what was recorded.

    `erased` are the differences that nothing can be concluded from, since what the decisions read
    has been erased.
    """

    events: tuple[e.Event, ...]
    differences: tuple[Difference, ...]
    erased: tuple[Difference, ...]

    @property
    def verdict(self) -> str:
        """`different`, `erased` where something could not be compared, else `identical`."""
        if self.differences:
            return "different"
        return "erased" if self.erased else "identical"


def replay(history: Sequence[e.RecordedEvent], materials_of: MaterialsOf) -> Replayed:
    """Decide the whole history again. `history` is a run's complete stream."""
    decided: list[e.Event] = []
    found: list[Difference] = []
    state: RunState | None = None
    incomplete = any(recorded.erased for recorded in history)
    place = 0
    while place < len(history):
        segment = _segment(history, place)
        again, fault = _decide_again(state, segment, materials_of)
        # One command may be decided several times in a tick, each time for what is left to do.
        count = len(again) if 0 < len(again) <= len(segment) else len(segment)
        differences = list(_compare(segment[:count], again, state, fault))
        if differences:
            count = len(segment)
            if len(again) != count and not fault:
                differences = list(_compare(segment, again, state, fault))
        found += differences
        decided += again
        for recorded in segment[:count]:
            # Decisions were made before the erasure; only its own event ends a run by it.
            state = evolve(state, _unerased(recorded))
        place += count
    if incomplete:
        return Replayed(tuple(decided), (), tuple(found))
    return Replayed(tuple(decided), tuple(found), ())


def _segment(history: Sequence[e.RecordedEvent], place: int) -> Sequence[e.RecordedEvent]:
    """The events from `place` on that one command recorded at one tick."""
    first = history[place].meta
    end = place + 1
    while end < len(history) and _same_command(history[end].meta, first):
        end += 1
    return history[place:end]


def _same_command(one: e.Meta, other: e.Meta) -> bool:
    return (
        one.command_id == other.command_id
        and one.tick == other.tick
        and one.command == other.command
    )


def _decide_again(
    state: RunState | None, segment: Sequence[e.RecordedEvent], materials_of: MaterialsOf
) -> tuple[list[e.Event], str | None]:
    """What the segment's command leads to now, or why it leads to nothing."""
    first = segment[0]
    if state is None:
        enrolling = enrollment_of(first)
        if enrolling is None or not isinstance(first.event, e.Start):
            return [], "a run begins with its enrolment"
        start = first.event
        materials = materials_of(start.plan_id, start.plan_version, start.pins)
        return _guarded(lambda: enroll(materials, enrolling))
    materials = materials_of(state.plan_id, state.plan_version, state.pins)
    if first.meta.command == ERASE:
        # Which rule an erasure ended runs by has changed, and what it read may be gone with it.
        return [each.event for each in segment], None
    command: c.RunCommand | None = None

    def again() -> list[e.Event]:
        nonlocal command
        command = command_of(materials, state, segment)
        return [] if command is None else decide(materials, state, command)

    events, fault = _guarded(again)
    if fault is None and command is None:
        fault = f"no {first.meta.command!r} command leads to it"
    return events, fault


def _guarded(make: Callable[[], list[e.Event]]) -> tuple[list[e.Event], str | None]:
    try:
        return make(), None
    except DeeError as error:
        return [], f"{type(error).__name__}: {error}"
    except (ArithmeticError, AssertionError, LookupError, TypeError, ValueError) as error:
        # A log that was decided by other rules can lead to a state that these rules never reach,
        # and a definition that was never checked here can hold anything.
        return [], f"{type(error).__name__}: {error}"


def _unerased(recorded: e.RecordedEvent) -> e.RecordedEvent:
    return msgspec.structs.replace(recorded, erased=False) if recorded.erased else recorded


# --- comparing ------------------------------------------------------------------------------------


def _compare(
    recorded: Sequence[e.RecordedEvent],
    again: Sequence[e.Event],
    state: RunState | None,
    fault: str | None,
) -> Iterator[Difference]:
    current = None if state is None else state.current_step
    after = 0 if state is None else state.version
    for number, (one, other) in enumerate(zip(recorded, again, strict=False)):
        if one.event == other:
            continue
        step = getattr(one.event, "step_id", None) or current
        if type(one.event) is not type(other):
            yield Difference(after + number + 1, step, "event", one.name, NAMES[type(other)])
            return
        yield from _fields(one, other, step)
    if len(recorded) > len(again):
        missing = recorded[len(again)]
        step = getattr(missing.event, "step_id", None) or current
        yield Difference(missing.version, step, "event", missing.name, fault)
    elif len(again) > len(recorded):
        extra = again[len(recorded)]
        step = getattr(extra, "step_id", None) or current
        yield Difference(after + len(recorded) + 1, step, "event", None, NAMES[type(extra)])


def _fields(recorded: e.RecordedEvent, other: e.Event, step: str | None) -> Iterator[Difference]:
    expected = _plain(recorded.event)
    actual = _plain(other)
    if recorded.erased:
        expected.pop("personal", None)
        actual.pop("personal", None)
    for path, one, two in differing(expected, actual):
        yield Difference(recorded.version, step, path, one, two)


def _plain(event: e.Event) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(asdict(event))
    return plain


def differing(one: Any, other: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """The paths at which two plain values differ, with both values."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for name in [*one, *(name for name in other if name not in one)]:
            below = f"{path}.{name}" if path else str(name)
            yield from differing(one.get(name), other.get(name), below)
    elif one != other or type(one) is not type(other):
        yield path, one, other
