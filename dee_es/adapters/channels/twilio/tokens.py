"""Signed tokens: what a callback has to know about its call, inside of the callback's URL.

Nothing is kept between two requests of one call, and a callback that comes before the answer to
our own request, or after that answer was lost, still finds its run.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args

Kind = Literal["status", "voice", "gather", "recording"]
"""What a URL is for: progress of the call, its first document, an answer, a recording."""

KINDS: Final[frozenset[str]] = frozenset(get_args(Kind))
_MAC_BYTES: Final = 16

Path = tuple[int | str | None, ...]
"""A place in a script: the index of a step, then for each branch on the way down the digits of the
case (None: the default) and an index again. Empty: before the greeting."""


@dataclass(frozen=True, slots=True)
class CallRef:
    """The attempt that a call belongs to, in the engine's own names."""

    run_id: str
    step_id: str
    key: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where in its script a call stands: a path, and which try of a gather it is.

    `gathered` holds the digits that a branch may still ask for.
    """

    path: Path = ()
    attempt: int = 1
    gathered: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Token:
    """What a callback's URL says."""

    call: CallRef
    place: Place = Place()


def seal(secret: str, kind: Kind, token: Token) -> str:
    """The token as text that needs no escaping in a URL."""
    call, place = token.call, token.place
    held = [call.run_id, call.step_id, call.key, call.attempt]
    held += [list(place.path), place.attempt, dict(place.gathered)]
    payload = json.dumps(held, separators=(",", ":"), sort_keys=True).encode()
    return f"{_text(payload)}.{_text(_mac(secret, kind, payload))}"


def unseal(secret: str, kind: Kind, text: str) -> Token | None:
    """The token, None if it was not sealed under this secret for this kind of URL."""
    body, _, mac = text.partition(".")
    payload, given = _bytes(body), _bytes(mac)
    if not hmac.compare_digest(given, _mac(secret, kind, payload)):
        return None
    held: list[Any] = json.loads(payload)
    return Token(CallRef(*held[:4]), Place(tuple(held[4]), held[5], held[6]))


def _mac(secret: str, kind: str, payload: bytes) -> bytes:
    # The kind is part of what is signed: a token of one URL is of no use in another.
    signed = b"dee-es twilio 1 " + kind.encode() + b" " + payload
    return hmac.digest(secret.encode(), signed, hashlib.sha256)[:_MAC_BYTES]


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError:
        return b""
