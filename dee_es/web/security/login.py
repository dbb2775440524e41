"""Signing in and out."""

from __future__ import annotations

import html
import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping
from posixpath import normpath
from typing import Annotated, Final
from urllib.parse import unquote

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from dee_es.web.problems import Refused
from dee_es.web.routing import VIEWER, page_router
from dee_es.web.security.authentication import Doorkeeper, readable
from dee_es.web.security.scopes import actor_in, is_foreign
from dee_es.web.static_files import static

_REMEMBERED: Final = 10_000
_MOST_FAILURES: Final = 1_000
_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Sign in - dee</title>
<link rel="stylesheet" href="{style}">
</head>
<body class="login">
<main>
<h1>Sign in</h1>
<p role="alert">{said}</p>
<form method="post" action="/login">
<input type="hidden" name="next" value="{next}">
<p><label for="name">Name</label>
<input id="name" name="name" autocomplete="username" required autofocus></p>
<p><label for="password">Password</label>
<input id="password" name="password" type="password" autocomplete="current-password" required></p>
<p><button type="submit">Sign in</button></p>
</form>
</main>
</body>
</html>
"""


class Attempts:
    """Counts wrong passwords, and says when the next may be tried.

    Every kind of key has a limit of its own: many people may share an address, behind a proxy too,
    and somebody who guesses may come from many.
    """

    def __init__(self, window_s: float, now: Callable[[], float] = time.monotonic) -> None:
        self._window_s = window_s
        self._now = now
        self._lock = threading.Lock()
        self._failed: OrderedDict[str, deque[float]] = OrderedDict()

    def wait(self, most: Mapping[str, int]) -> float:
        """Seconds until all of these may try again, so many times each; 0 if they may now."""
        now = self._now()
        with self._lock:
            waits = [0.0]
            for key, limit in most.items():
                failed = self._failed.get(key, deque())
                while failed and now - failed[0] >= self._window_s:
                    failed.popleft()
                if len(failed) >= limit:
                    waits.append(failed[-limit] + self._window_s - now)
            return max(waits)

    def failed(self, keys: Iterable[str]) -> None:
        """Take note of an attempt that is about to be made; `succeeded` takes it back."""
        with self._lock:
            for key in keys:
                found = self._failed.pop(key, None) or deque[float](maxlen=_MOST_FAILURES)
                found.append(self._now())
                self._failed[key] = found
            while len(self._failed) > _REMEMBERED:
                self._failed.popitem(last=False)

    def succeeded(self, keys: Iterable[str]) -> None:
        """The password was right: the last attempt is not held against these. Those before it
        are, or whoever has one password could go on guessing others."""
        with self._lock:
            for key in keys:
                found = self._failed.get(key)
                if found:
                    found.pop()


class Login:
    """Checks passwords, not too many of them, and begins sessions."""

    def __init__(self, doorkeeper: Doorkeeper) -> None:
        self._doorkeeper = doorkeeper
        self._settings = doorkeeper.settings
        self._attempts = Attempts(doorkeeper.settings.login_window_s)
        # Each check of a password takes 64 MiB for a moment.
        self._few = threading.Semaphore(2)

    def sign_in(self, request: Request, name: str, password: str, next: str) -> Response:
        """What the form of the page does."""
        users = self._doorkeeper.users
        if users is None or self._doorkeeper.local:
            return RedirectResponse("/", 303)
        keys = self._keys(request, name)
        wait = self._attempts.wait(keys)
        if wait:
            said = "Too many wrong passwords. Try again later."
            return _page(said, next, 429, {"Retry-After": str(math.ceil(wait))})
        # Counted before it is known: many attempts at once are many attempts.
        self._attempts.failed(keys)
        with self._few, readable():
            user = users.signed_in(name, password)
        if user is None:
            return _page("Name or password is wrong.", next, 403)
        self._attempts.succeeded(keys)
        sessions = self._doorkeeper.sessions
        response = RedirectResponse(_own_path(next), 303)
        response.set_cookie(
            sessions.cookie,
            sessions.begin(user, self._doorkeeper.cookie(request.scope)),
            httponly=True,
            samesite="strict",
            secure=self._settings.secure_cookies,
            path="/",
        )
        return response

    def _keys(self, request: Request, name: str) -> dict[str, int]:
        address = request.client.host if request.client is not None else ""
        most, short = self._settings.login_failures, name[:128]
        return {
            f"both {address} {short}": most,
            f"name {short}": 5 * most,
            f"address {address}": 10 * most,
        }

    def sign_out(self, request: Request) -> Response:
        """What the button of the pages does."""
        cookie = self._doorkeeper.cookie(request.scope)
        if cookie is None:
            raise Refused(409, "NotSignedIn", "there is no session to end")
        sessions = self._doorkeeper.sessions
        sessions.end(cookie)
        response = RedirectResponse("/login", 303)
        response.delete_cookie(
            sessions.cookie, path="/", secure=self._settings.secure_cookies, httponly=True
        )
        return response


def login_router(doorkeeper: Doorkeeper) -> APIRouter:
    """The page, and what its form and the sign-out button do."""
    router = page_router()
    login = Login(doorkeeper)

    @router.get("/login")
    def show(request: Request, next: str = "/") -> Response:
        if actor_in(request.scope) is not None:
            return RedirectResponse(_own_path(next), 303)
        return _page("", _unasked(next) if is_foreign(request.scope) else next)

    @router.post("/login")
    def sign_in(
        request: Request,
        name: Annotated[str, Form()] = "",
        password: Annotated[str, Form()] = "",
        next: Annotated[str, Form()] = "/",
    ) -> Response:
        return login.sign_in(request, name, password, next)

    @router.post("/logout", openapi_extra=VIEWER)
    def sign_out(request: Request) -> Response:
        return login.sign_out(request)

    return router


def _page(
    said: str, next: str, status: int = 200, headers: dict[str, str] | None = None
) -> HTMLResponse:
    shown = _PAGE.format(
        style=html.escape(static("dee.css")),
        said=html.escape(said),
        next=html.escape(_own_path(next), quote=True),
    )
    return HTMLResponse(shown, status, headers)


def _unasked(next: str) -> str:
    """Where a link of another site leads to, without the search of the audit trail that it may
    hold: that would be put on record in the name of who signs in."""
    path = normpath(unquote(next.partition("?")[0]))
    return path if path == "/audit" else next


def _own_path(path: str) -> str:
    """The path, with its query, if it is one of this server, else the start: nobody is sent
    elsewhere."""
    own = path.startswith("/") and not path.startswith(("//", "/\\"))
    return path if own and path.isprintable() and "\\" not in path else "/"
