"""What every event stands on: when and why it came about, and the personal parts it may have."""

from __future__ import annotations

from typing import Any, ClassVar, Final, Literal, get_args

import msgspec

from dee_es.core.values import JsonScalar

Level = Literal["global", "channel", "plan", "regulatory"]
"""How far a suppression reaches; channel and plan have the channel's or plan's name as scope."""
LEVELS: Final[tuple[Level, ...]] = get_args(Level)


class Meta(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """When, by which command and by whom an event came about.

    `tick` is the time of the decision. `recorded_at` is wall time in ms since 1970 UTC, kept for
    information; no decision reads it. `actor` and `reason` are stored in plain text.
    """

    tick: int
    command_id: str
    command: str
    recorded_at: int
    actor: str | None = None
    reason: str | None = None


class Event(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Base of all events. Subclasses with personal data declare its type in a `personal` field."""

    personal_type: ClassVar[Any] = None


class Enrolled(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Personal: the contact as given at enrolment, and the run's variables."""

    email: str | None = None
    phone: str | None = None
    timezone: str | None = None
    attributes: dict[str, Any] = {}
    variables: dict[str, Any] = {}


class Message(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Personal: what was rendered for a send, exactly as it was handed to the channel.

    `gate` is what the policy gate read of the contact itself; it is not part of the message.
    """

    to: str
    subject: str | None = None
    text: str | None = None
    html: str | None = None
    reply_to: str | None = None
    script: dict[str, Any] | None = None
    gate: dict[str, JsonScalar] = {}


class Seen(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Personal: the values a decision read, by the name under which a condition asks for them."""

    values: dict[str, JsonScalar] = {}


class Detail(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Personal: free-form data that came with a channel event or a channel's answer."""

    data: dict[str, Any] = {}


class Pins(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The versions a run decides by, so that a later publication cannot change it.

    `rules` are those of this code that it was enrolled under, see `core/runs/rules.py`.
    """

    templates: dict[str, int] = {}
    scripts: dict[str, int] = {}
    sender: int = 0
    policy: int = 0
    rules: int = 1


class RecordedEvent(msgspec.Struct, frozen=True, gc=False):
    """An event as read back from the log, or as it is about to be committed.

    `position` is its place in the whole log, `ordinal` the number of the run it creates (0 when it
    creates none). `erased` says that personal data was there and its key has been destroyed.
    """

    stream_id: str
    version: int
    name: str
    position: int
    meta: Meta
    event: Event
    ordinal: int = 0
    erased: bool = False
