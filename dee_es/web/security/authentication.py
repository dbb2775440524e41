"""Who makes a request: the only user there is, the holder of a token, or who has signed in."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from urllib.parse import quote

from starlette.requests import cookie_parser
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from dee_es.errors import InvalidInput
from dee_es.web.problems import Refused, answer
from dee_es.web.security.roles import Actor, Role
from dee_es.web.security.scopes import HOOKS, header, is_public
from dee_es.web.security.sessions import Sessions
from dee_es.web.security.users import Users, nobodys_password
from dee_es.web.settings import WebSettings

_log: Final = logging.getLogger("dee_es.web")
_QUERY: Final = "!$&'()*+,-./:;=?@_~%"
"""What stands for itself in a query; `%` because it is encoded already."""


@contextmanager
def readable() -> Iterator[None]:
    """Raises `Refused` if the file of users cannot be read; only the log says where and why."""
    try:
        yield
    except (InvalidInput, OSError) as error:
        _log.error("users_unreadable", extra={"problem": str(error)})
        raise Refused(
            503, "UsersUnreadable", "nobody can come in now: the log of this server says why"
        ) from None


class Doorkeeper:
    """Knows everybody who may come in.

    Without users and tokens that is whoever reaches the server, taken for the operating system's
    user, which only a loopback address without further names allows: it is for a machine that
    nobody else uses. Raises `InvalidInput` for anything else before it is served.
    """

    def __init__(self, settings: WebSettings) -> None:
        self.settings = settings
        self.users = None if settings.users_file is None else Users(settings.users_file)
        self.sessions = Sessions(settings)
        self._local = Actor(settings.local_actor, Role.ADMIN, "local", secrets.token_urlsafe(32))
        # Decided once: a file that is emptied while this runs must not open the door.
        self.local = self.users is None or self.users.known().empty
        open_to_others = settings.allowed_hosts or settings.trusted_proxies
        if self.local and (open_to_others or not settings.loopback):
            raise InvalidInput(
                "host",
                "nobody could sign in: add users with `dee serve user add NAME --role ROLE`, or "
                "serve on 127.0.0.1 without --allowed-host and --trusted-proxy",
            )
        if not self.local:
            nobodys_password()
        if not settings.loopback and not settings.allowed_hosts:
            raise InvalidInput("allowed-host", "name the host under which others reach this server")

    def actor(self, scope: Scope) -> Actor | None:
        """Who makes the request; None if nobody can tell. Raises `Refused` as `readable` does."""
        if scope["path"].startswith(HOOKS):
            return None
        if self.local or self.users is None:
            return self._local
        with readable():
            authorization = header(scope, b"authorization")
            if authorization is not None:
                kind, _, token = authorization.partition(" ")
                found = self.users.bearer(token.strip()) if kind.lower() == "bearer" else None
                return None if found is None else Actor(found.name, found.role, "token")
            return self._of_session(scope, self.users)

    def _of_session(self, scope: Scope, users: Users) -> Actor | None:
        cookie = self.cookie(scope)
        session = None if cookie is None else self.sessions.find(cookie)
        if session is None:
            return None
        # Asked anew each time: a role taken away, or another password, counts at once.
        user = users.known().users.get(session.name)
        if user is None or user.password != session.password:
            return None
        return Actor(user.name, user.role, "session", session.csrf)

    def cookie(self, scope: Scope) -> str | None:
        """The id in the browser's cookie."""
        # As browsers see it: one cookie of others that is none by the book spoils no other.
        return cookie_parser(header(scope, b"cookie") or "").get(self.sessions.cookie)


class Authentication:
    """Finds out who makes a request, and refuses nobody's wherever somebody has to be known."""

    def __init__(self, app: ASGIApp, doorkeeper: Doorkeeper) -> None:
        self._app = app
        self._doorkeeper = doorkeeper

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            scope["dee.actor"] = actor = self._doorkeeper.actor(scope)
        except Refused as error:
            refused = answer(error.status, error.error, error.detail, scope["path"])
            await refused(scope, receive, send)
            return
        if actor is not None or is_public(scope):
            await self._app(scope, receive, send)
            return
        await _signed_out(scope)(scope, receive, send)


def _signed_out(scope: Scope) -> ASGIApp:
    path: str = scope["path"]
    wants_page = "text/html" in (header(scope, b"accept") or "")
    if scope["method"] == "GET" and wants_page and not path.startswith("/api/"):
        return RedirectResponse(f"/login?next={quote(_address(scope))}", 303)
    return answer(
        401,
        "NotSignedIn",
        "sign in, or send a token as `Authorization: Bearer ...`",
        path,
        headers={"WWW-Authenticate": 'Bearer realm="dee"', "Connection": "close"},
    )


def _address(scope: Scope) -> str:
    """The path and the query that were asked for, encoded as in an address bar."""
    query: bytes = scope["query_string"]
    asked = f"?{quote(query, safe=_QUERY)}" if query else ""
    return quote(scope["path"]) + asked
