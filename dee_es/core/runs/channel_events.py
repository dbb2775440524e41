"""What a channel event says: its data, read once, as one word that may stand in plain text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from dee_es.core.values import check_map
from dee_es.errors import InvalidInput

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


def check_data(type_: str, data: object) -> dict[str, Any]:
    """The data of an event as it comes in.

    Raises `InvalidInput` naming what no log can hold, and a word that `meaning` would not know: a
    bounce said to be `permanent` must not count as a soft one.
    """
    given = check_map("data", data)
    if type_ == "email.bounced" and given.get("kind", "hard") not in ("hard", "soft"):
        raise InvalidInput("data.kind", "must be hard or soft")
    if type_ == "email.replied" and not isinstance(given.get("autoReply", False), bool):
        raise InvalidInput("data.autoReply", "must be true or false")
    if type_ in _UNTOLD and given.get("outcome", "answered") not in CALL_OUTCOMES:
        raise InvalidInput("data.outcome", f"must be one of {', '.join(CALL_OUTCOMES)}")
    return given


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
