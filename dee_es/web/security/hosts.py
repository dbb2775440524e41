"""Only requests that were meant for this server: against DNS rebinding and foreign origins."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from dee_es.web.problems import answer
from dee_es.web.security.scopes import HOOKS, header, is_foreign, is_unsafe
from dee_es.web.settings import WebSettings

_LOOPBACK: Final = ("127.0.0.1", "localhost", "[::1]")


def allowed_hosts(settings: WebSettings) -> frozenset[str]:
    """The values that the Host header may have."""
    names = [*settings.allowed_hosts]
    if settings.loopback:
        names += [f"{name}:{settings.port}" for name in _LOOPBACK]
        if settings.port == 80:
            names += _LOOPBACK
    return frozenset(_with_port(names, settings.port))


def _with_port(names: Iterable[str], port: int) -> Iterable[str]:
    for given in names:
        name = given.lower()
        yield name
        if not name.rpartition(":")[2].isdecimal():
            yield f"{name}:{port}"


class Hosts:
    """Refuses, before anything else looks at it, a request whose Host or Origin is not ours.

    A page of somebody else's that resolves its own name to this address sends that name as Host;
    one that calls this address from another origin sends that origin. Under our own referrer
    policy a form says the origin is `null`; then the browser itself has to say that it is ours.
    An image, a frame or the like names no origin: of those the browser says what they are for, and
    all that another site may do is to lead somebody to a page.
    """

    def __init__(self, app: ASGIApp, allowed: frozenset[str], schemes: tuple[str, ...]) -> None:
        self._app = app
        self._allowed = allowed
        self._schemes = schemes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = [(name, value) for name, value in scope["headers"]]
        hosts = [value for name, value in headers if name == b"host"]
        origins = [value for name, value in headers if name == b"origin"]
        if scope["path"].startswith(HOOKS):
            # Whoever sends what is signed may do so from anywhere, and nobody is signed in there.
            origins = []
        host = hosts[0].decode("latin-1").lower() if len(hosts) == 1 else ""
        if host not in self._allowed:
            refused = answer(
                421, "ForeignHost", "this server does not answer to that Host", scope["path"]
            )
            await refused(scope, receive, send)
            return
        own = {f"{scheme}://{host}".encode("latin-1") for scheme in self._schemes}
        if (b"sec-fetch-site", b"same-origin") in headers:
            own.add(b"null")
        if any(origin.lower() not in own for origin in origins) or _reaches_in(scope):
            refused = answer(
                403, "ForeignOrigin", "this server takes no requests of other sites", scope["path"]
            )
            await refused(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _reaches_in(scope: Scope) -> bool:
    """Whether a page of another site asks for something, and does not just lead to a page. What
    changes something has to be meant anyway (`Csrf`)."""
    path: str = scope["path"]
    if path.startswith(HOOKS) or is_unsafe(scope) or not is_foreign(scope):
        return False
    mode, purpose = header(scope, b"sec-fetch-mode"), header(scope, b"sec-fetch-dest")
    return path.startswith("/api/") or (mode, purpose) != ("navigate", "document")
