"""What the checks read from a request, before there is a request object."""

from __future__ import annotations

from typing import Final

from starlette.types import Scope

from dee_es.web.security.roles import Actor

SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
HOOKS: Final = "/hooks/"
"""Under it nobody is signed in: a webhook checks the signature of what it is told."""
_PUBLIC: Final = ("/static/", HOOKS)


def header(scope: Scope, name: bytes) -> str | None:
    """A header's value if it is there exactly once."""
    found = [value for key, value in scope["headers"] if key == name]
    return found[0].decode("latin-1") if len(found) == 1 else None


def media_type(scope: Scope) -> str:
    """The media type of the body, without its parameters."""
    return (header(scope, b"content-type") or "").partition(";")[0].strip().lower()


def is_foreign(scope: Scope) -> bool:
    """Whether a browser says that it makes the request for a page of another site."""
    return header(scope, b"sec-fetch-site") in ("cross-site", "same-site")


def is_unsafe(scope: Scope) -> bool:
    """Whether the request may change something."""
    return scope["method"] not in SAFE


def is_public(scope: Scope) -> bool:
    """Whether somebody who is not signed in may ask for it."""
    path: str = scope["path"]
    return path in ("/login", "/favicon.ico") or path.startswith(_PUBLIC)


def actor_in(scope: Scope) -> Actor | None:
    """Who makes the request, as the sign-in check found it."""
    found = scope.get("dee.actor")
    return found if isinstance(found, Actor) else None
