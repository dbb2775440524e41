"""That a request which changes something was meant by whoever makes it."""

from __future__ import annotations

import hmac
import re
from typing import Final
from urllib.parse import parse_qs

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dee_es.web.problems import answer
from dee_es.web.security.roles import Actor
from dee_es.web.security.scopes import HOOKS, actor_in, header, is_unsafe, media_type

TOKEN_HEADER: Final = "X-CSRF-Token"  # noqa: S105 - a header's name
TOKEN_FIELD: Final = "csrf_token"  # noqa: S105 - a field's name
REQUEST_HEADER: Final = "X-Dee-Request"
"""A header that a page of another site cannot send without being asked; any value will do."""
_MOST_AHEAD: Final = 2_048
_FIRST_FIELD = re.compile(
    rb'--[^\r\n]{1,70}\r\nContent-Disposition: form-data; name="csrf_token"\r\n\r\n'
    rb"([!-~]{1,200})\r\n--"
)
"""How every browser begins a form whose first field is the token."""


class Csrf:
    """Refuses requests that a foreign page could have made in somebody's name.

    With a cookie the session's token is needed, as a header or as a field of a form; in a form with
    a file, which is streamed, it has to be the first field. Without users, and at sign-in, it is
    enough that the browser says the request comes from this very origin, or that it carries
    `X-Dee-Request`. Tokens of programs are sent by no browser by itself.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] == "http" and is_unsafe(scope):
            receive = await _look_ahead(scope, receive)
        if scope["type"] == "http" and is_unsafe(scope) and not _meant(scope):
            refused = answer(
                403,
                "CsrfRefused",
                f"send the session's token as {TOKEN_HEADER} (or, without users, any "
                f"{REQUEST_HEADER} header)",
                scope["path"],
                headers={"Connection": "close"},
            )
            await refused(scope, receive, send)
            return
        await self._app(scope, receive, send)


async def _look_ahead(scope: Scope, receive: Receive) -> Receive:
    """Look for the token at the beginning of a form with a file; the rest is not read here."""
    actor = actor_in(scope)
    if media_type(scope) != "multipart/form-data" or actor is None or actor.csrf is None:
        return receive
    taken: list[Message] = []
    head = b""
    while len(head) < _MOST_AHEAD:
        message = await receive()
        taken.append(message)
        head += message.get("body", b"")
        if _FIRST_FIELD.match(head) or not message.get("more_body", False):
            break
    found = _FIRST_FIELD.match(head)
    if found is not None:
        scope["dee.form_token"] = found[1].decode("ascii")

    async def again() -> Message:
        return taken.pop(0) if taken else await receive()

    return again


def _meant(scope: Scope) -> bool:
    actor = actor_in(scope)
    if scope["path"].startswith(HOOKS) or (actor is not None and actor.how == "token"):
        return True
    if _has_token(scope, actor):
        return True
    if actor is not None and actor.how == "session" and scope["path"] != "/login":
        return False
    # An Origin header is this very origin by now, or the request would not have come this far.
    return (
        header(scope, b"origin") is not None
        or header(scope, b"sec-fetch-site") == "same-origin"
        or header(scope, REQUEST_HEADER.lower().encode()) is not None
    )


def _has_token(scope: Scope, actor: Actor | None) -> bool:
    if actor is None or actor.csrf is None:
        return False
    given = header(scope, TOKEN_HEADER.lower().encode())
    if given is None and media_type(scope) == "application/x-www-form-urlencoded":
        fields = parse_qs(scope.get("dee.body", b"").decode("latin-1"))
        given = fields.get(TOKEN_FIELD, [""])[0]
    if given is None:
        given = scope.get("dee.form_token")
    return given is not None and hmac.compare_digest(given.encode(), actor.csrf.encode())
