"""Headers of every response, and a last net for what no handler caught."""

from __future__ import annotations

import logging
import time
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dee_es.web.problems import answer
from dee_es.web.security.scopes import HOOKS, actor_in

_log: Final = logging.getLogger("dee_es.web")

CONTENT_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS: Final = {
    "Content-Security-Policy": CONTENT_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_RESOURCE_POLICY: Final = "Cross-Origin-Resource-Policy"
_OPEN: Final = f"{HOOKS}open/"
"""The images of messages, which say for themselves that other sites may show them."""


class SecureHeaders:
    """Adds the headers; what says nothing about caches is kept out of every one.

    Whoever is known is told how long the answer took (`Server-Timing`, in ms); a stranger could
    learn from it what a refusal was about.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        begun, since = False, time.perf_counter()

        async def secured(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    if name == _RESOURCE_POLICY and scope["path"].startswith(_OPEN):
                        headers.setdefault(name, value)
                    else:
                        headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
                if actor_in(scope) is not None:
                    took = (time.perf_counter() - since) * 1000
                    headers["Server-Timing"] = f"app;dur={took:.1f}"
            await send(message)

        try:
            await self._app(scope, receive, secured)
        except Exception as error:
            if not begun:
                _log.error("request_failed", extra={"error": type(error).__name__})
                failed = answer(
                    500, "InternalError", "the server failed at this request", scope["path"]
                )
                await failed(scope, receive, secured)
