"""What somebody typed into a form that was refused, so that the form comes back with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import parse_qs

from starlette.types import Scope

from dee_es.web.security.scopes import actor_in, is_unsafe, media_type

_TYPED: Final = "dee.typed"
_FIELDS: Final = "dee.typed_fields"
_OWN: Final = frozenset({"csrf_token", "key", "confirm", "password"})
"""Fields that are never given back: each page has its own, and what is confirmed or secret is
typed anew."""


class Form:
    """How a form begins: empty, or as it was typed with the `problem` that it was refused for."""

    def __init__(
        self, values: Mapping[str, Sequence[str]] | None = None, problem: str | None = None
    ) -> None:
        self.values = values or {}
        self.problem = problem

    def get(self, name: str, otherwise: str = "") -> str:
        """The value of a field; `otherwise` if the form was not sent."""
        if self.problem is None:
            return otherwise
        return next(iter(self.values.get(name, ())), "")

    def has(self, name: str, value: str) -> bool:
        """Whether a box, or one of several, was ticked."""
        return value in self.values.get(name, ())


class Typed:
    """The form that was sent to `path`; `taken` once a page has put it among its own."""

    def __init__(self, path: str, form: Form) -> None:
        self._path = path
        self._form = form
        self.taken = False

    def at(self, path: str) -> Form:
        """How the form that is sent to the path begins."""
        if path != self._path:
            return Form()
        self.taken = True
        return self._form


def keep(scope: Scope, fields: Mapping[str, str]) -> None:
    """Keep the fields of a form that is streamed, and that nobody else has read therefore."""
    scope[_FIELDS] = {name: [value] for name, value in fields.items()}


def fields_of(scope: Scope) -> dict[str, list[str]] | None:
    """What was typed into the form of a request; None unless somebody known has sent one."""
    if not is_unsafe(scope) or actor_in(scope) is None:
        return None
    found: dict[str, list[str]] | None = scope.get(_FIELDS)
    if media_type(scope) == "application/x-www-form-urlencoded":
        found = parse_qs(scope.get("dee.body", b"").decode("utf-8", "replace"))
    return found and {name: values for name, values in found.items() if name not in _OWN}


def put(scope: Scope, typed: Typed) -> None:
    """Have the page that is asked for begin its form with it."""
    scope[_TYPED] = typed


def typed_in(scope: Scope) -> Typed:
    """What a page is to begin its form with."""
    found = scope.get(_TYPED)
    return found if isinstance(found, Typed) else Typed("", Form())
