"""The rows beside the log that say who may not be contacted, and who agreed to what."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from dee_es.core import events as e
from dee_es.core.contact_state import ContactState, Listed
from dee_es.core.gate import SuppressionFact
from dee_es.ports import Consent, EventStore, Suppression


def suppression_facts(
    store: EventStore, subjects: Sequence[tuple[str, ...]]
) -> list[tuple[SuppressionFact, ...]]:
    """What stands on the suppression list about each of these contacts."""
    wanted = sorted({subject for each in subjects for subject in each})
    listed: dict[str, list[SuppressionFact]] = {}
    for found in store.suppressions(wanted):
        fact = SuppressionFact(found.level, found.scope)
        listed.setdefault(found.subject, []).append(fact)
    if not listed:
        return [()] * len(subjects)
    return [
        tuple(sorted({fact for s in each for fact in listed.get(s, ())}, key=str))
        for each in subjects
    ]


def on_the_list(
    state: ContactState, contact_id: str, standing: Iterable[Suppression]
) -> ContactState:
    """The state without what is not on the list on this contact's account: a list that was made
    before each contact had its own row knew the last one only. It has to be put there again."""
    own = {as_listed(each) for each in standing if each.contact_id == contact_id}
    return replace(state, listed=state.listed & own)


def as_listed(entry: Suppression) -> Listed:
    """An entry of the list as the contact's own stream has it."""
    return entry.subject, entry.level, entry.scope


def listed_by(events: Iterable[e.Event]) -> tuple[Suppression, ...]:
    """What these events put on the suppression list."""
    return tuple(
        Suppression(subject, event.level, event.scope, event.contact_id)
        for event in events
        if isinstance(event, e.ContactSuppressed)
        for subject in event.subjects
    )


def lifted_by(events: Iterable[e.Event]) -> tuple[Suppression, ...]:
    """What these events take off it."""
    return tuple(
        Suppression(subject, event.level, event.scope, event.contact_id)
        for event in events
        if isinstance(event, e.ContactUnsuppressed)
        for subject in event.subjects
    )


def consents_of(events: Iterable[e.Event], tick: int) -> tuple[Consent, ...]:
    """What these events, recorded at a tick, say about consent."""
    found = []
    for event in events:
        if isinstance(event, e.ConsentGranted | e.ConsentRevoked):
            key = consent_key(event.channel, event.purpose)
            if isinstance(event, e.ConsentGranted):
                ends = event.expires_tick
                found.append(Consent(event.contact_id, key, "granted", tick, ends))
            else:
                found.append(Consent(event.contact_id, key, "revoked", tick, None))
    return tuple(found)


def consent_key(channel: str, purpose: str | None) -> str:
    """How consent to a channel is filed: by the channel, and by the purpose if there is one."""
    return f"{channel}:{purpose}" if purpose else channel
