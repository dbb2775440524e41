"""What concerns a contact rather than one of its runs: suppression, consent, erasure, refusals."""

from __future__ import annotations

from dee_es.core.events.base import Event, Level


class ContactSuppressed(Event, frozen=True, omit_defaults=True):
    """No message may go to these subjects: contact ids and keyed digests of addresses."""

    contact_id: str
    level: Level
    scope: str = ""
    subjects: tuple[str, ...] = ()


class ContactUnsuppressed(Event, frozen=True, omit_defaults=True):
    """The suppression with the same level and scope is lifted from these subjects."""

    contact_id: str
    level: Level
    scope: str = ""
    subjects: tuple[str, ...] = ()


class ConsentGranted(Event, frozen=True, omit_defaults=True):
    """The contact agreed to a channel, for a purpose if one is named, until `expires_tick`."""

    contact_id: str
    channel: str
    purpose: str = ""
    expires_tick: int | None = None
    source: str | None = None


class ConsentRevoked(Event, frozen=True, omit_defaults=True):
    """The contact took its consent back."""

    contact_id: str
    channel: str
    purpose: str = ""


class ContactErased(Event, frozen=True, omit_defaults=True):
    """The contact's personal data is to be unreadable for ever: its key is destroyed, its open runs
    end. `key_id` (hex) names the key."""

    contact_id: str
    key_id: str = ""


class EnrollmentRefused(Event, frozen=True, omit_defaults=True):
    """A suppressed contact was not enrolled; recorded once per plan and suppression."""

    contact_id: str
    plan_id: str
    rule: str
    suppression: str
