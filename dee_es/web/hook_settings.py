"""What the webhooks are told when the server starts."""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from dee_es.engine.links import Links
from dee_es.errors import InvalidInput

PREFIX: Final = "whsec_"
LEAST_KEY: Final = 24
"""Fewest bytes of a secret."""


class CallReply(Protocol):
    """What to answer to a callback about a call."""

    @property
    def status(self) -> int: ...

    @property
    def content_type(self) -> str: ...

    @property
    def body(self) -> bytes: ...


class CallEvents(Protocol):
    """Answers callbacks about calls, with what they tell recorded; `bootstrap` makes it."""

    def answer(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes
    ) -> CallReply: ...


@dataclass(frozen=True, slots=True)
class HookSettings:
    """What is set up; the addresses of what is not are not there.

    `webhook_keys` are the secrets that email webhooks may be signed with, `links` reads the links
    in messages, `calls` takes callbacks about calls. `now` tells the wall time in seconds.
    """

    webhook_keys: tuple[bytes, ...] = field(default=(), repr=False)
    links: Links | None = None
    calls: CallEvents | None = None
    now: Callable[[], float] = time.time


def webhook_keys(secrets: str | None) -> tuple[bytes, ...]:
    """The keys of `DEE_WEBHOOK_SECRET`: separated by spaces, each `whsec_` and base64 as in
    Standard Webhooks, or plain text. Raises `InvalidInput`."""
    keys = tuple(_key(secret) for secret in (secrets or "").split())
    if any(len(key) < LEAST_KEY for key in keys):
        raise InvalidInput("webhook_secret", f"needs {LEAST_KEY} bytes or more")
    return keys


def _key(secret: str) -> bytes:
    if not secret.startswith(PREFIX):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidInput("webhook_secret", f"must be base64 behind {PREFIX}") from None
