"""Headers of every response, and a last net for what no handler caught."""

from __future__ import annotations

import logging
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dee_es.web.problems import answer
from dee_es.web.security.scopes import HOOKS

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
    """Adds the headers; everything but static files is kept out of every cache."""

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
        begun = False

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
