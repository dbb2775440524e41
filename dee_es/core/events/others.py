"""Definitions that were published, what concerns a contact, and the system's own events."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from dee_es.core.events.base import Event, Level


class Published(Event, frozen=True, omit_defaults=True):
    """A new version of a definition; the version is the event's version in its stream."""

    definition: dict[str, Any]
    metadata: dict[str, Any] = msgspec.field(default_factory=dict)


class PlanPublished(Published, frozen=True, omit_defaults=True):
    """A version of a plan."""


class TemplatePublished(Published, frozen=True, omit_defaults=True):
    """A version of a message template."""


class ScriptPublished(Published, frozen=True, omit_defaults=True):
    """A version of a call script."""


class SenderPublished(Published, frozen=True, omit_defaults=True):
    """A version of a sender."""


class PolicyPublished(Published, frozen=True, omit_defaults=True):
    """A version of a policy."""


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


class CheckpointSigned(Event, frozen=True, omit_defaults=True):
    """The first `size` entries of the log were put under a signed root, and that was kept in
    `places` outside the database.

    `edge` is the right edge of the Merkle tree of that size, in hex, from which the next one goes
    on; `note` is the checkpoint as it was signed.
    """

    size: int
    root: str
    edge: tuple[str, ...]
    note: str
    places: tuple[str, ...] = ()


class ClockStarted(Event, frozen=True, omit_defaults=True):
    """What a database is made with and keeps: its time (epoch in ms since 1970 UTC, resolution in
    ms, system or manual clock), and whether personal data is encrypted or stored in plain."""

    epoch_ms: int
    resolution_ms: int
    kind: Literal["system", "manual"]
    personal_data: Literal["encrypted", "off"] = "encrypted"
