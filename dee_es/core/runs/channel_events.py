"""Which channel events there are, what each says in one word that may stand in plain text, and what
follows from it for its contact."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from dee_es.core.channels import ChannelName
from dee_es.core.events import Level
from dee_es.core.values import check_map
from dee_es.errors import InvalidInput

UNDELIVERABLE: Final = "undeliverable"
"""Why a bounce ends runs: the contact's address cannot be reached."""
SUPPRESSED: Final = "contact.suppressed"
"""What a run is told when a person suppresses its contact; no channel tells it."""
CALL_OUTCOMES: Final = ("answered", "voicemail", "no_answer", "busy", "failed", "declined")
_Data = Mapping[str, Any]


class _Type(NamedTuple):
    """What an event of a type is about, and what it means by its data.

    `ends` says why it ends all runs of its contact, `suppresses` at which level it suppresses it;
    where `only_if` is given, neither unless that is what it means. An event that means `void`
    counts as none.
    """

    channel: ChannelName
    means: Callable[[_Data], str | None] = lambda _: None
    ends: str | None = None
    suppresses: Level | None = None
    only_if: str | None = None
    void: str | None = None


def _bounce(data: _Data) -> str:
    return "hard" if data.get("kind", "hard") == "hard" else "soft"


def _reply(data: _Data) -> str | None:
    return "auto" if data.get("autoReply") is True else None


def _call_over(untold: str) -> Callable[[_Data], str]:
    def outcome(data: _Data) -> str:
        given = data.get("outcome")
        return given if given in CALL_OUTCOMES else untold

    return outcome


_TYPES: Final = {
    "email.delivered": _Type("email"),
    "email.bounced": _Type("email", _bounce, UNDELIVERABLE, "channel", only_if="hard"),
    "email.opened": _Type("email"),
    "email.clicked": _Type("email"),
    "email.replied": _Type("email", _reply, void="auto"),
    "email.unsubscribed": _Type("email", ends="unsubscribed", suppresses="global"),
    "email.complained": _Type("email", ends="complained", suppresses="regulatory"),
    "call.initiated": _Type("voice"),
    "call.ringing": _Type("voice"),
    "call.answered": _Type("voice"),
    "call.voicemail": _Type("voice", lambda _: "voicemail"),
    "call.completed": _Type("voice", _call_over("answered")),
    "call.failed": _Type("voice", _call_over("failed")),
    "call.recorded": _Type("voice"),
}
"""Old logs are read by this table, too, and go on meaning what they did (see `rules`)."""
_UNKNOWN: Final = _Type("email")
"""How a log of newer code is read, which may have more types."""
EVENT_TYPES: Final = frozenset(_TYPES)


def meaning(type_: str, data: _Data) -> str | None:
    """What the event's data add to its type; None if nothing.

    A bounce is `hard` (also when nobody says so) or `soft`; a reply that a machine sent, such as an
    out-of-office note, is `auto`. A call is over with `call.completed` (whose `outcome` says how),
    `call.voicemail` or `call.failed`, and they mean its outcome; the events before only tell how it
    goes on.
    """
    return _of(type_).means(data)


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
    told = type_ in ("call.completed", "call.failed")
    if told and given.get("outcome", "answered") not in CALL_OUTCOMES:
        raise InvalidInput("data.outcome", f"must be one of {', '.join(CALL_OUTCOMES)}")
    return given


def channel_of(type_: str) -> ChannelName:
    """The channel that events of the type come from."""
    return _of(type_).channel


def call_outcome(type_: str, kind: str | None) -> str | None:
    """The outcome that a call event of this meaning reports, None if it reports none."""
    return kind if channel_of(type_) == "voice" else None


def counts(type_: str, kind: str | None) -> bool:
    """Whether it says that anything happened: a machine's reply is no reply."""
    return kind is None or kind != _of(type_).void


def ends_runs(type_: str, kind: str | None) -> str | None:
    """Why the event ends all runs of its contact, None if it does not."""
    known = _of(type_)
    return known.ends if known.only_if in (None, kind) else None


def suppression(type_: str, kind: str | None) -> tuple[Level, str] | None:
    """The suppression of its contact that the event brings about by itself, level and scope; None
    if it brings none about."""
    known = _of(type_)
    if known.suppresses is None or known.only_if not in (None, kind):
        return None
    return known.suppresses, known.channel if known.suppresses == "channel" else ""


def _of(type_: str) -> _Type:
    return _TYPES.get(type_, _UNKNOWN)
