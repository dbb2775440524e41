"""HEAD where there is a GET: the same answer without its body (RFC 9110, section 9.3.2)."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dee_es.web.security.scopes import HOOKS


def takes_head(path: str) -> bool:
    """Whether what can be had at an address can be asked for by HEAD. A link of a message cannot:
    programs that look where it leads would count as people who followed it."""
    return not path.startswith(HOOKS)


class Heads:
    """Has HEAD answered as GET is, and keeps the body back."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http" or scope["method"] != "HEAD" or not takes_head(scope["path"]):
            await self._app(scope, receive, send)
            return

        async def without_body(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        await self._app({**scope, "method": "GET"}, receive, without_body)
