"""A contact as its events leave it: who may not be contacted, and what was refused for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
from msgspec.structs import replace

from dee_es.core import events as e
from dee_es.errors import InvalidInput

Listed = tuple[str, str, str]
"""A suppression of one subject: subject, level and scope."""


class ContactState(msgspec.Struct, frozen=True):
    """What later decisions about the contact read. `refused` holds (plan id, suppression) pairs,
    `agreed` the (channel, purpose) pairs that the contact consented to and has not taken back."""

    version: int = 0
    listed: frozenset[Listed] = frozenset()
    refused: frozenset[tuple[str, str]] = frozenset()
    erased: bool = False
    agreed: frozenset[tuple[str, str]] = frozenset()


def evolve(state: ContactState, recorded: e.RecordedEvent) -> ContactState:
    """The state after `recorded`."""
    event = recorded.event
    state = replace(state, version=recorded.version)
    if isinstance(event, e.ContactSuppressed):
        return replace(state, listed=state.listed | _listed(event))
    if isinstance(event, e.ContactUnsuppressed):
        return replace(state, listed=state.listed - _listed(event))
    if isinstance(event, e.ConsentGranted):
        return replace(state, agreed=state.agreed | {(event.channel, event.purpose)})
    if isinstance(event, e.ConsentRevoked):
        return replace(state, agreed=state.agreed - {(event.channel, event.purpose)})
    if isinstance(event, e.ContactErased):
        return replace(state, erased=True)
    if isinstance(event, e.EnrollmentRefused):
        return replace(state, refused=state.refused | {(event.plan_id, event.suppression)})
    return state


def fold(history: Iterable[e.RecordedEvent]) -> ContactState:
    """The state after a whole history."""
    state = ContactState()
    for recorded in history:
        state = evolve(state, recorded)
    return state


def has_done(history: Sequence[e.RecordedEvent], meta: e.Meta, asked: e.Event) -> bool:
    """Whether what `history` has under the id of a command is that very command, which asks for an
    event such as `asked`, whatever has become of the contact since.

    A suppression names only some of the subjects that it lists, and lists only new ones.
    """
    own = [place for place, each in enumerate(history) if each.meta.command_id == meta.command_id]
    was, command = history[own[0]].event, history[own[0]].meta.command
    if isinstance(asked, e.ContactSuppressed) and isinstance(was, e.ContactSuppressed):
        same = _listed(asked) <= fold(history[: own[-1] + 1]).listed
        same = same and (was.level, was.scope) == (asked.level, asked.scope)
    elif isinstance(asked, e.ContactUnsuppressed) and isinstance(was, e.ContactUnsuppressed):
        same = (was.level, was.scope) == (asked.level, asked.scope)
    else:
        same = was == asked
    return same and command == meta.command


def suppress(
    state: ContactState, contact_id: str, subjects: Iterable[str], level: e.Level, scope: str
) -> list[e.Event]:
    """The event that lists those subjects which are not listed yet; none if all are."""
    new = sorted(s for s in subjects if (s, level, scope) not in state.listed)
    return [e.ContactSuppressed(contact_id, level, scope, tuple(new))] if new else []


def unsuppress(state: ContactState, contact_id: str, level: e.Level, scope: str) -> list[e.Event]:
    """The event that lifts a suppression of this contact from every subject it listed; none if
    there is no such suppression. Raises `InvalidInput` for what keeps an erased contact from
    being written to."""
    if state.erased and level == "regulatory":
        raise InvalidInput("contact_id", f"{contact_id!r} was erased, and stays suppressed")
    lifted = sorted(s for s, at, where in state.listed if (at, where) == (level, scope))
    return [e.ContactUnsuppressed(contact_id, level, scope, tuple(lifted))] if lifted else []


def grant(event: e.ConsentGranted, now: int) -> list[e.Event]:
    """The event, of a consent that holds at tick `now`. Raises `InvalidInput` for one that does
    not: it would have the contact reached no more, as if it had taken back what it gave before."""
    if event.expires_tick is not None and event.expires_tick <= now:
        raise InvalidInput("expires_at", "has passed; revoke a consent that was taken back")
    return [event]


def revoke(
    state: ContactState, contact_id: str, channel: str, purpose: str | None
) -> list[e.Event]:
    """The events that take back what the contact agreed to for a purpose; without one, everything
    that it agreed to on the channel, for whatever purpose: who says no means no."""
    if purpose is not None:
        return [e.ConsentRevoked(contact_id, channel, purpose)]
    purposes = sorted(held for at, held in state.agreed if at == channel and held)
    return [e.ConsentRevoked(contact_id, channel, each) for each in ["", *purposes]]


def refuse(state: ContactState, contact_id: str, plan_id: str, suppression: str) -> list[e.Event]:
    """The event that records a refused enrolment, once per plan and suppression."""
    if (plan_id, suppression) in state.refused:
        return []
    return [e.EnrollmentRefused(contact_id, plan_id, "suppression", suppression)]


def erase(
    state: ContactState, contact_id: str, subjects: Iterable[str], key_id: str
) -> list[e.Event]:
    """The events of an erasure: all that the contact is known by stays on the regulatory list, so
    that nobody writes to it again; none if it was erased and is on that list already."""
    events = suppress(state, contact_id, subjects, "regulatory", "")
    return events if state.erased else [*events, e.ContactErased(contact_id, key_id)]


def _listed(event: e.ContactSuppressed | e.ContactUnsuppressed) -> frozenset[Listed]:
    return frozenset((subject, event.level, event.scope) for subject in event.subjects)
