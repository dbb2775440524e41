"""The URLs under which Twilio calls back: `<callback_url>/<kind>/<token>`.

What is behind the base is all that a request is told apart by. So it does not matter what a proxy
makes of host, scheme and prefix: the URL that Twilio signed is the one that was made here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, cast
from urllib.parse import urlsplit

from dee_es.adapters.channels.twilio.script import every_step
from dee_es.adapters.channels.twilio.tokens import KINDS, CallRef, Kind, Place, Token, seal, unseal
from dee_es.core.messages.script import MAX_NESTING, MAX_STEPS

RETRIES: Final = "#rc=4&rp=ct,rt,5xx"
"""Twilio's connection override, which is no part of a request: try again up to four times when it
gets no connection, no answer in time, or a 5xx. Without it an event is told once, heard or not."""

_ROUTE = re.compile(r"(?:.*/)?(?P<kind>[a-z]+)/(?P<token>[A-Za-z0-9_.-]{1,4000})\Z")


class CallbackUrls:
    """Makes and reads callback URLs under one base and one secret."""

    def __init__(self, base: str, secret: str) -> None:
        self._base = base.rstrip("/")
        self._secret = secret

    def __repr__(self) -> str:
        return f"CallbackUrls({self._base!r})"

    def make(self, kind: Kind, call: CallRef, place: Place | None = None) -> str:
        """The URL, without the request to try again."""
        return self._public(kind, seal(self._secret, kind, Token(call, place or Place())))

    def longest(self, call: CallRef, script: Mapping[str, Any]) -> int:
        """Characters of the longest URL that a call with this script can need."""
        deepest = (MAX_STEPS, "0" * 32) * MAX_NESTING + (MAX_STEPS,)
        gathered = {
            step["name"]: "0" * step["maxDigits"]
            for step in every_step(script)
            if step["type"] == "gather"
        }
        return len(self.make("gather", call, Place(deepest, 5, gathered)) + RETRIES)

    def read(self, url: str) -> tuple[Kind, str, str] | None:
        """Kind, token and public form of a URL that was asked for; None if it is not ours."""
        try:
            parts = urlsplit(url)
        except ValueError:
            return None
        route = _ROUTE.match(parts.path)
        if route is None or route["kind"] not in KINDS:
            return None
        kind = cast(Kind, route["kind"])
        public = self._public(kind, route["token"])
        return kind, route["token"], f"{public}?{parts.query}" if parts.query else public

    def token(self, kind: Kind, text: str) -> Token | None:
        """What the URL says; None if we did not say it."""
        return unseal(self._secret, kind, text)

    def _public(self, kind: Kind, text: str) -> str:
        return f"{self._base}/{kind}/{text}"
