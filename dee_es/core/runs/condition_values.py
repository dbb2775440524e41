"""What the conditions of a plan can ask a run for, and how the answers are found in its state."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from dee_es.core import events as e
from dee_es.core.conditions.condition import Condition, Lookup, evaluate, unparse
from dee_es.core.runs.state import RunState
from dee_es.core.values import JsonScalar

_SEEN_AS: Final = {
    "events.hasReply": "email.replied",
    "events.hasOpen": "email.opened",
    "events.hasClick": "email.clicked",
    "events.hasBounce": "email.bounced",
}


class Exit(NamedTuple):
    """An exit condition that holds, with what it saw."""

    condition: str
    outcome: str
    seen: dict[str, JsonScalar]

    def completed(self) -> e.RunCompleted:
        """The event that ends a run by it."""
        personal = e.Seen(self.seen) if self.seen else None
        return e.RunCompleted(self.outcome, self.condition, personal=personal)


def first_exit(exits: Iterable[tuple[Condition, str]], state: RunState) -> Exit | None:
    """The first exit condition, in definition order, that holds for the run now."""
    for condition, outcome in exits:
        seen: dict[str, JsonScalar] = {}
        if holds(condition, state, seen):
            # With the contact's key gone there is nothing left to hide the values with.
            return Exit(unparse(condition), outcome, {} if state.erased else seen)
    return None


def holds(condition: Condition, state: RunState, seen: dict[str, JsonScalar] | None = None) -> bool:
    """Whether the condition holds for the run now; what it read is added to `seen`."""

    def read(lookup: Lookup) -> JsonScalar:
        value = _read(state, lookup)
        if seen is not None:
            seen[lookup.key] = value
        return value

    return evaluate(condition, read)


def _read(state: RunState, lookup: Lookup) -> JsonScalar:
    if lookup.kind in _SEEN_AS:
        kind = _SEEN_AS[lookup.kind]
        if lookup.name is None:
            return any(seen == kind for seen, _ in state.seen)
        return (kind, lookup.name) in state.seen
    if lookup.kind == "call.outcome":
        return state.call_outcomes.get(str(lookup.name))
    if lookup.kind == "contact.unsubscribed":
        return state.unsubscribed
    if lookup.kind == "contact.bounced":
        return state.bounced
    held = state.contact.variables if lookup.kind == "variables" else state.contact.attributes
    value = held.get(str(lookup.name))
    return value if isinstance(value, str | int | float | bool) else None
