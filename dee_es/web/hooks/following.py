"""What following a signed link means: a channel event, recorded once."""

from __future__ import annotations

import secrets
from typing import Any, Final

from dee_es.engine.facade import EngineApi
from dee_es.engine.links import Link, Purpose
from dee_es.errors import UNREADABLE, InvalidInput, RunNotFound
from dee_es.web.settings import WebSettings

_TYPES: Final[dict[Purpose, str]] = {
    "unsubscribe": "email.unsubscribed",
    "open": "email.opened",
    "click": "email.clicked",
}
_CLOSED: Final = frozenset({"global", "regulatory"})


def link_in(settings: WebSettings, purpose: Purpose, token: str) -> Link | None:
    """What a token says; None if it is not one of ours, or of another purpose."""
    links = settings.hooks.links
    return None if links is None else links.read(purpose, token)


def unsubscribe(engine: EngineApi, link: Link) -> None:
    """Suppress the contact and end its runs; however often, it is recorded once.

    Somebody who was taken off the list since then, and says it again, is heard again.
    """
    event_id = link.event_id("unsubscribe")
    if record(engine, "unsubscribe", link, event_id):
        return
    if not _is_closed(engine, link.contact_id):
        record(engine, "unsubscribe", link, f"{event_id}.{secrets.token_hex(4)}")


def _is_closed(engine: EngineApi, contact_id: str) -> bool:
    try:
        standing = engine.contact_at(contact_id).suppressions
    except UNREADABLE:
        # A run of it cannot be read. To be heard once more does no harm.
        return False
    return not _CLOSED.isdisjoint(standing)


def record(engine: EngineApi, purpose: Purpose, link: Link, event_id: str) -> bool:
    """Take in the event; false if it was known.

    Who unsubscribes does so although the run has left the log, or cannot be read. What else is told
    of such a run is not recorded: without it, it would be told of the contact's other runs. Raises
    `DeeError`.
    """
    data: dict[str, Any] = {} if link.target is None else {"url": link.target}
    if link.message_id is not None:
        data["message_id"] = link.message_id
    try:
        return engine.ingest_event(
            _TYPES[purpose], link.contact_id, link.run_id, link.step_id, data, None, event_id
        )
    except (RunNotFound, InvalidInput, *UNREADABLE):
        if link.run_id is None or purpose != "unsubscribe":
            raise
        return engine.ingest_event(
            _TYPES[purpose], link.contact_id, None, link.step_id, data, None, event_id
        )
