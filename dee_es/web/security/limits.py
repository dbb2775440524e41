"""How much a request may bring, and how often somebody may come."""

from __future__ import annotations

import hashlib
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from itertools import accumulate
from typing import Final

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dee_es.core.values import MAX_DEPTH
from dee_es.web.problems import Refused, answer
from dee_es.web.security.scopes import HOOKS, actor_in, header, is_unsafe, media_type
from dee_es.web.settings import KIB, WebSettings

_CLIENTS: Final = 10_000
_ROOMS: Final = ("/login", f"{HOOKS}email", f"{HOOKS}twilio/", f"{HOOKS}unsubscribe/", HOOKS)
"""Where strangers may change something; each is counted apart."""
_BRINGING: Final = (b"content-length", b"transfer-encoding")
"""Headers without which a request has no body (RFC 9112, section 6.3)."""
_MOST_SIGNING_IN: Final = 64 * KIB
_MOST_TOLD: Final = 256 * KIB
"""Most bytes of a webhook: the most that any of them takes."""
# All but brackets: texts whole, so that those in them do not count. Whatever begins to match does; an
# unfinished text takes all that is left, or each of its quotes would be looked at anew.
_REST = re.compile(rb'(?:[^"\[\]{}]++|"(?:[^"\\]++|\\.)*+\\?(?:"|\Z))++', re.DOTALL)
_STEPS: Final = [1 if byte in b"[{" else -1 for byte in range(256)]
"""By how much each bracket changes the depth."""


class Buckets:
    """Tokens for each client: `burst` at once, then so many a minute; the oldest are forgotten."""

    def __init__(
        self, per_minute: int, burst: int, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate = per_minute / 60
        self._burst = burst
        self._now = now
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, client: str) -> float:
        """Take a token; the seconds to wait until there is one, 0 if there was."""
        now = self._now()
        left, then = self._left.pop(client, (float(self._burst), now))
        left = min(self._burst, left + (now - then) * self._rate)
        self._left[client] = (left - 1, now) if left >= 1 else (left, now)
        while len(self._left) > _CLIENTS:
            self._left.popitem(last=False)
        return 0.0 if left >= 1 else (1 - left) / self._rate


class Rates:
    """Bounds how many requests that change something one client may make.

    Behind a proxy strangers share one address. So each room that they may enter has buckets of its
    own, and of webhooks only what was refused is counted there, once that is known: whatever comes
    beside it, a call with the right signature or token is let through. It is bounded alone, by the
    token in its address.
    """

    def __init__(self, app: ASGIApp, settings: WebSettings) -> None:
        self._app = app
        self._buckets = Buckets(settings.unsafe_per_minute, settings.unsafe_burst)
        # Apart, so that made-up addresses make none of the others be forgotten.
        self._tokens = Buckets(settings.unsafe_per_minute, settings.unsafe_burst)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] != "http" or not is_unsafe(scope):
            await self._app(scope, receive, send)
        elif scope["path"].startswith(HOOKS):
            await self._hook(scope, receive, send)
        else:
            wait = self._buckets.wait(_client(scope))
            await (_too_many(scope, wait) if wait else self._app)(scope, receive, send)

    async def _hook(self, scope: Scope, receive: Receive, send: Send) -> None:
        instead: ASGIApp | None = None

        async def counted(message: Message) -> None:
            nonlocal instead
            if message["type"] == "http.response.start" and 400 <= message["status"] < 500:
                wait = self._buckets.wait(_client(scope))
                instead = _too_many(scope, wait) if wait else None
            if instead is None:
                await send(message)

        wait = self._wait_of_token(scope["path"])
        if wait:
            instead = _too_many(scope, wait)
        else:
            await self._app(scope, receive, counted)
        if instead is not None:
            await instead(scope, receive, send)

    def _wait_of_token(self, path: str) -> float:
        if path.count("/") <= HOOKS.count("/"):
            return 0.0  # there is none in it
        digest = hashlib.sha256(path.encode(errors="backslashreplace")).hexdigest()
        return self._tokens.wait(digest)


def _client(scope: Scope) -> str:
    """Whose bucket a request is counted in."""
    actor = actor_in(scope)
    if actor is not None:
        return f"name {actor.name}"
    room = next((each for each in _ROOMS if scope["path"].startswith(each)), "elsewhere")
    return f"address {(scope.get('client') or ('',))[0]} {room}"


def _too_many(scope: Scope, wait: float) -> ASGIApp:
    return answer(
        429,
        "TooManyRequests",
        "too many requests that change something; wait",
        scope["path"],
        headers={"Retry-After": str(int(wait) + 1)},
    )


class Bodies:
    """Reads bodies up to the limit, and refuses what is longer without reading it all.

    What comes to a path of `uploads` as one of the media types there is a file and not read here:
    its handler streams it, and is told to stop at the limit for uploads. JSON nested too deeply is
    refused before a parser sees it; that of a webhook by its handler, once it is believed. Strangers
    may bring little: nobody counts what they send to webhooks.
    """

    def __init__(
        self, app: ASGIApp, settings: WebSettings, uploads: Mapping[str, Collection[str]]
    ) -> None:
        self._app = app
        self._settings = settings
        self._uploads = uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        streamed = media_type(scope) in self._uploads.get(scope["path"], ())
        limit = self._settings.max_upload if streamed else self._most(scope)
        try:
            length = header(scope, b"content-length")
            if length is not None and (not length.isdecimal() or int(length[:20]) > limit):
                raise _too_long(limit)
            if streamed:
                await self._app(
                    scope, _counted(receive, limit, self._settings.body_timeout_s), send
                )
                return
            # Most requests bring nothing, and then there is nothing to wait for.
            brings = any(name in _BRINGING for name, _ in scope["headers"])
            body = await self._read(receive, limit) if brings else b""
            if media_type(scope).endswith("json") and not scope["path"].startswith(HOOKS):
                check_depth(body)
        except Refused as error:
            # The rest of the body is not read, so the connection is of no use any more.
            headers = {"Connection": "close"}
            refused = answer(
                error.status, error.error, error.detail, scope["path"], headers=headers
            )
            await refused(scope, receive, send)
            return
        scope["dee.body"] = body
        await self._app(scope, _again(body, receive), send)

    def _most(self, scope: Scope) -> int:
        if actor_in(scope) is not None:
            return self._settings.max_body
        told = scope["path"].startswith(HOOKS)
        return min(self._settings.max_body, _MOST_TOLD if told else _MOST_SIGNING_IN)

    async def _read(self, receive: Receive, limit: int) -> bytes:
        body = bytearray()
        try:
            with anyio.fail_after(self._settings.body_timeout_s):
                while True:
                    message = await receive()
                    body += message.get("body", b"")
                    if len(body) > limit:
                        raise _too_long(limit)
                    if not message.get("more_body", False):
                        return bytes(body)
        except TimeoutError:
            raise _too_slow() from None


def check_depth(body: bytes) -> None:
    """Refuse JSON nested deeper than anything that can be stored; raises `Refused`."""
    brackets = _REST.sub(b"", body)
    # The document around what is stored has levels of its own.
    most = MAX_DEPTH + 4
    # All in C: what somebody sends is looked at while everybody else waits.
    if max(accumulate(map(_STEPS.__getitem__, brackets)), default=0) > most:
        raise Refused(400, "JsonTooDeep", f"JSON is nested deeper than {most} levels")


def _too_slow() -> Refused:
    return Refused(408, "RequestTimeout", "the body did not arrive in time")


def _too_long(limit: int) -> Refused:
    return Refused(413, "BodyTooLarge", f"the body is longer than {limit:,} bytes")


def _counted(receive: Receive, limit: int, timeout_s: float) -> Receive:
    read = 0

    async def counted() -> Message:
        nonlocal read
        try:
            with anyio.fail_after(timeout_s):
                message = await receive()
        except TimeoutError:
            raise _too_slow() from None
        read += len(message.get("body", b""))
        if read > limit:
            raise _too_long(limit)
        return message

    return counted


def _again(body: bytes, receive: Receive) -> Receive:
    told = False

    async def again() -> Message:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
