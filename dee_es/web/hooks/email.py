"""Email events in one plain form, for whatever stands between a provider and this server.

{"events": [{"type": "email.bounced", "bounce": "hard", "runId": "run_...", "stepId": "intro"}]}
"""

from __future__ import annotations

import hashlib
from typing import Any, Final, Literal

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import Field, ValidationError

from dee_es.core.ids import length_prefixed
from dee_es.engine.models import ChannelEvent
from dee_es.errors import DeeError, InvalidInput, MasterKeyRotated, UnknownEventVersion
from dee_es.web.api.channel_events import Ingested
from dee_es.web.api.models import EntryFault, Flag, Given, GivenId, UtcTime
from dee_es.web.hooks.requests import not_set_up, raw_body
from dee_es.web.hooks.signatures import verified
from dee_es.web.problems import Refused, in_json
from dee_es.web.routing import EngineDep, SettingsDep, hook_router
from dee_es.web.security.limits import check_depth
from dee_es.web.security.scopes import media_type

router: Final = hook_router()

MOST_BYTES: Final = 256 * 1024
MOST_EVENTS: Final = 1_000
_ONLY: Final = {
    "bounce": "email.bounced",
    "auto_reply": "email.replied",
    "url": "email.clicked",
}
"""Fields that belong to one type of event."""
_FOR_ANOTHER: Final = (MasterKeyRotated, UnknownEventVersion)
"""What keeps this process from taking an event in, and not the one that takes its place."""


class EmailEvent(Given):
    """What happened to a message: of a run and maybe its step, or of a contact.

    `bounce` is needed for `email.bounced`; `autoReply` says of a reply that a machine sent it;
    `url` is the link that was clicked; `messageId` is the engine's own.
    """

    type: Literal[
        "email.delivered",
        "email.bounced",
        "email.complained",
        "email.replied",
        "email.opened",
        "email.clicked",
        "email.unsubscribed",
    ]
    contact_id: GivenId | None = None
    run_id: GivenId | None = None
    step_id: GivenId | None = None
    message_id: GivenId | None = None
    bounce: Literal["hard", "soft"] | None = None
    auto_reply: Flag | None = None
    url: str | None = Field(None, min_length=1, max_length=2_000)
    occurred_at: UtcTime | None = None


class EmailEvents(Given):
    """One or more events, those of one contact in the order in which they happened."""

    events: list[EmailEvent] = Field(min_length=1, max_length=MOST_EVENTS)


@router.post("/email")
def email_events(request: Request, engine: EngineDep, settings: SettingsDep) -> Ingested:
    """Take in what happened to messages. What was told under this webhook-id before is known."""
    hooks, body = settings.hooks, raw_body(request)
    if not hooks.webhook_keys:
        raise not_set_up()
    if len(body) > MOST_BYTES:
        raise Refused(413, "BodyTooLarge", f"the body is longer than {MOST_BYTES:,} bytes")
    webhook_id = verified(hooks.webhook_keys, request.scope, body, hooks.now())
    if media_type(request.scope) != "application/json":
        raise Refused(415, "UnsupportedMediaType", "send application/json")
    check_depth(body)
    events = _events(webhook_id, body)
    faults: list[EntryFault] = []
    left: list[DeeError] = []

    def on_error(number: int, error: DeeError) -> None:
        faults.append(EntryFault.of(number, error))
        if isinstance(error, _FOR_ANOTHER):
            left.append(error)

    found = engine.ingest_events(events, on_error=on_error)
    if left:
        # Told again until it is answered otherwise; what was taken in is known by then.
        raise left[0]
    return Ingested(
        accepted=found.accepted, known=found.known, errors=found.errors, faults=tuple(faults)
    )


def _events(webhook_id: str, body: bytes) -> list[ChannelEvent]:
    """The events of a body that was believed. Raises `RequestValidationError`, `InvalidInput`."""
    try:
        given = EmailEvents.model_validate_json(body)
    except ValidationError as error:
        raise RequestValidationError(error.errors(include_input=False)) from None
    return [_event(webhook_id, number, each) for number, each in enumerate(given.events)]


def _event(webhook_id: str, number: int, given: EmailEvent) -> ChannelEvent:
    where = f"events.{number}"
    for name, kind in _ONLY.items():
        if getattr(given, name) is not None and given.type != kind:
            raise InvalidInput(f"{where}.{in_json(name)}", f"is for {kind} only")
    if given.type == "email.bounced" and given.bounce is None:
        raise InvalidInput(f"{where}.bounce", "is missing; it is hard or soft")
    if given.contact_id is None and given.run_id is None:
        raise InvalidInput(f"{where}.contactId", "is missing; or give a runId")
    data: dict[str, Any] = {
        "kind": given.bounce,
        "autoReply": given.auto_reply,
        "url": given.url,
        "message_id": given.message_id,
    }
    return ChannelEvent(
        given.type,
        given.contact_id,
        given.run_id,
        given.step_id,
        {name: value for name, value in data.items() if value is not None},
        given.occurred_at,
        _event_id(webhook_id, number),
    )


def _event_id(webhook_id: str, number: int) -> str:
    """The same for the same place in the same message, so that what is told twice counts once."""
    parts = length_prefixed([webhook_id.encode(), str(number).encode()])
    return f"webhook-{hashlib.sha256(parts).hexdigest()[:48]}"
