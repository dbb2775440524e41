"""What a channel event says: its data, read once, as one word that may stand in plain text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

CALL_OUTCOMES: Final = ("answered", "voicemail", "no_answer", "busy", "failed", "declined")
_UNTOLD: Final = {"call.completed": "answered", "call.failed": "failed"}


def meaning(type_: str, data: Mapping[str, Any]) -> str | None:
    """What the event's data add to its type; None if nothing.

    A bounce is `hard` (also when nobody says so) or `soft`; a reply that a machine sent, such as an
    out-of-office note, is `auto`. A call is over with `call.completed` (whose `outcome` says how),
    `call.voicemail` or `call.failed`, and they mean its outcome; the events before only tell how it
    goes on.
    """
    if type_ == "email.bounced":
        return "hard" if data.get("kind", "hard") == "hard" else "soft"
    if type_ == "email.replied":
        return "auto" if data.get("autoReply") is True else None
    if type_ == "call.voicemail":
        return "voicemail"
    if type_ in _UNTOLD:
        given = data.get("outcome")
        return given if given in CALL_OUTCOMES else _UNTOLD[type_]
    return None


def call_outcome(type_: str, kind: str | None) -> str | None:
    """The outcome that a call event of this meaning reports, None if it reports none."""
    return kind if type_.startswith("call.") else None


def ends_runs(type_: str, kind: str | None) -> str | None:
    """Why the event ends all runs of its contact, None if it does not."""
    if type_ == "email.unsubscribed":
        return "unsubscribed"
    if type_ == "email.complained":
        return "complained"
    if type_ == "email.bounced" and kind == "hard":
        return "undeliverable"
    return None
