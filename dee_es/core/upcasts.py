"""Lifts stored payloads of old event versions to the current one, a step at a time.

To change an event's shape: raise its schema in `registry`, keep the old shape and the step from it
here, and add a golden file of the new one (`python -m tests.golden.write`). A field that `decide`
fills is a change of the rules, too (`runs/rules.py`): runs of older rules are decided without it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Final, Literal

from msgspec import Struct

from dee_es.core.events import Detail, Event
from dee_es.core.registry import REGISTRY, Entry
from dee_es.errors import UnknownEventVersion

Payload = dict[str, Any]


def _as_it_was(payload: Payload) -> Payload:
    return payload


class Upcast(Struct, frozen=True):
    """One step from a schema to the next: pure, and without the payload's context.

    `former` is the shape before it, kept for the description of what is stored. `data` and
    `personal` lift the plain and the personal part, each as decoded from JSON.
    """

    former: type[Event]
    data: Callable[[Payload], Payload] = _as_it_was
    personal: Callable[[Payload], Payload] = _as_it_was


class ClockStarted(Event, frozen=True, omit_defaults=True):
    """As it was in schema 1; the name is part of what is described."""

    epoch_ms: int
    resolution_ms: int
    kind: Literal["system", "manual"]


class StepRetried(Event, frozen=True, omit_defaults=True):
    """As it was in schema 1."""

    personal_type: ClassVar[Any] = Detail
    step_id: str
    error: str
    attempt: int
    retry_tick: int
    resend: bool = False
    personal: Detail | None = None


class RunResumed(Event, frozen=True, omit_defaults=True):
    """As it was in schema 1."""

    acts_at: int
    shift: int = 0


UPCASTS: Final[dict[tuple[str, int], Upcast]] = {
    # Personal data was always encrypted. A schema of its own although old payloads can be read as
    # they are: older code would take a database without encryption for one with it.
    ("ClockStarted", 1): Upcast(ClockStarted),
    # Older code would count an attempt that is not counted, and end a run that goes on.
    ("StepRetried", 1): Upcast(StepRetried),
    # Older code would go on by the policy that had paused the run.
    ("RunResumed", 1): Upcast(RunResumed),
}
"""(event name, schema) -> the step to schema + 1."""


def shape(name: str, schema: int) -> type[Event]:
    """The class of a known event in a schema that it has or had."""
    entry = REGISTRY[name]
    return entry.cls if schema == entry.schema else UPCASTS[name, schema].former


def current_entry(name: str, schema: int, where: object) -> Entry:
    """The registry's entry for a stored name and schema.

    Raises `UnknownEventVersion`, naming `where`, for a name that is not in the table or a schema
    newer than this code.
    """
    entry = REGISTRY.get(name)
    if entry is None:
        raise UnknownEventVersion(
            f"{where}: no event named {name!r} is known; newer code wrote it, or it is forged"
        )
    if not 1 <= schema <= entry.schema:
        raise UnknownEventVersion(
            f"{where}: {name} has schema {schema}, known up to {entry.schema}; upgrade dee-es"
        )
    return entry


def lift(name: str, schema: int, data: Payload) -> Payload:
    """Apply every step from `schema` to the current one."""
    for version in range(schema, REGISTRY[name].schema):
        data = UPCASTS[name, version].data(data)
    return data


def lift_personal(name: str, schema: int, personal: Payload) -> Payload:
    """The same for the personal part."""
    for version in range(schema, REGISTRY[name].schema):
        personal = UPCASTS[name, version].personal(personal)
    return personal
