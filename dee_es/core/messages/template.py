"""Message templates: a small strict dialect of Handlebars, read and rendered as data.

No maintained Handlebars library for Python both refuses missing values and keeps templates away
from Python's own objects, so this module has its own reader for the part that messages need (the
syntax is listed in `template_parser`).

* Only maps, lists and scalars can be reached, and only by key or position.
* A missing value, or null, is an error that names the path. In `#if` and `#unless` it is false.
* False are, as in Handlebars: false, 0, "", the empty list, and what is missing.
* Inside `#each` the item is `this`; every other name means what it means outside, so no item can
  hide or be replaced by something of the contact's.
* Equal templates and data give equal text: `true`, `false`, integers in decimal, and fractions by
  the shortest digits that mean the same number.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Final

from dee_es.core.messages.template_parser import (
    MAX_NESTING,
    MAX_SOURCE,
    Each,
    If,
    Node,
    Path,
    Template,
    TemplateError,
    Value,
    parse,
)
from dee_es.core.values import MAX_SAFE_INTEGER, JsonValue

__all__ = [
    "MAX_NESTING",
    "MAX_OUTPUT_BYTES",
    "MAX_SOURCE",
    "MAX_WORK",
    "Template",
    "TemplateError",
    "message_scope",
    "parse",
    "paths",
    "render",
]

MAX_OUTPUT_BYTES: Final = 200 * 1024
"""Largest rendered text, in bytes of UTF-8."""
MAX_WORK: Final = 200_000
"""Most pieces one rendering may visit: nested lists can take for ever without writing anything."""

_MISSING: Final = object()
_SPECIAL = re.compile("[&<>\"'`=]")
# Handlebars' own set: the last two matter in attributes that were written without quotes.
_ENTITIES: Final = {
    "&": "&amp;",
    "<": "&lt;",
    ">": "&gt;",
    '"': "&quot;",
    "'": "&#x27;",
    "`": "&#x60;",
    "=": "&#x3D;",
}


def render(template: Template, scope: Mapping[str, object], *, escape: bool) -> str:
    """The text of `template` for the values in `scope`.

    `escape` makes values safe inside HTML, except those in three braces. Raises `TemplateError`,
    which names paths and never values.
    """
    renderer = _Renderer(scope, escape)
    renderer.write(template.nodes, None)
    text = "".join(renderer.out)
    if not text.isascii() and len(text.encode("utf-8", "surrogatepass")) > MAX_OUTPUT_BYTES:
        raise TemplateError(1, 1, f"the result is larger than {MAX_OUTPUT_BYTES} bytes")
    return text


def paths(template: Template) -> tuple[str, ...]:
    """The paths that are looked up in the scope, each once, in order of appearance.

    Those inside conditions are among them, those of list items (`this`) are not.
    """
    found: dict[str, None] = {}
    _collect(template.nodes, found)
    return tuple(found)


def message_scope(
    contact: Mapping[str, JsonValue],
    variables: Mapping[str, JsonValue],
    attributes: Mapping[str, JsonValue],
    sender: Mapping[str, JsonValue],
    previous_step: Mapping[str, JsonValue] | None,
    run: Mapping[str, JsonValue],
    unsubscribe_url: str | None,
) -> Mapping[str, object]:
    """What a message may speak of.

    The roots `contact`, `sender`, `previousStep`, `run` and `unsubscribeUrl` come first; any other
    name is looked up in the run's variables, then in the contact's attributes. `contact` holds
    the fields (id, email, phone, timezone), which win over attributes of the same name; attributes
    are also reached as `contact.attributes.NAME`, as in conditions.
    """
    roots: dict[str, object] = {
        "contact": {**attributes, "attributes": attributes, **contact},
        "sender": sender,
        "previousStep": previous_step,
        "run": run,
        "unsubscribeUrl": unsubscribe_url,
    }
    return {**attributes, **variables, **roots}


class _Item:
    """The item that `this` means inside `#each`."""

    __slots__ = ("index", "last", "value")

    def __init__(self, value: object, index: int, last: bool) -> None:
        self.value, self.index, self.last = value, index, last


class _Renderer:
    """One rendering: what was written so far, and how much was spent on it."""

    def __init__(self, scope: Mapping[str, object], escape: bool) -> None:
        self.scope, self.escape = scope, escape
        self.out: list[str] = []
        self.size = self.work = 0

    def write(self, nodes: tuple[Node, ...], item: _Item | None) -> None:
        for node in nodes:
            if type(node) is str:
                self._put(node, None)
            elif type(node) is Value:
                self._put(self._value(node, item), node.path)
            elif type(node) is If:
                self._spend(node.path)
                holds = _is_true(_look_up(node.path, self.scope, item)) is not node.negate
                self.write(node.body if holds else node.otherwise, item)
            elif type(node) is Each:
                self._each(node, item)

    def _each(self, node: Each, outer: _Item | None) -> None:
        self._spend(node.path)
        items = _look_up(node.path, self.scope, outer)
        if items is _MISSING:
            raise _missing(node.path)
        # Not maps: their order does not survive the log, where keys are sorted.
        if not isinstance(items, (list, tuple)):
            raise _error(node.path, f"{node.path.source} is {_described(items)}, not a list")
        if not items:
            self.write(node.otherwise, outer)
        for index, value in enumerate(items):
            self._spend(node.path)
            self.write(node.body, _Item(value, index, index == len(items) - 1))

    def _value(self, node: Value, item: _Item | None) -> str:
        value = _look_up(node.path, self.scope, item)
        if value is _MISSING:
            raise _missing(node.path)
        text = _text(value)
        if text is None:
            problem = f"{node.path.source} is {_described(value)}, not something to print"
            raise _error(node.path, problem)
        if self.escape and not node.raw and _SPECIAL.search(text):
            return _SPECIAL.sub(lambda match: _ENTITIES[match.group()], text)
        return text

    def _put(self, text: str, path: Path | None) -> None:
        self._spend(path)
        self.size += len(text)
        if self.size > MAX_OUTPUT_BYTES:
            raise _error(path, f"the result is larger than {MAX_OUTPUT_BYTES} bytes")
        self.out.append(text)

    def _spend(self, path: Path | None) -> None:
        self.work += 1
        if self.work > MAX_WORK:
            raise _error(path, f"the template takes more than {MAX_WORK} pieces to render")


def _look_up(path: Path, scope: Mapping[str, object], item: _Item | None) -> object:
    """The value at `path`; null counts as missing."""
    value: object = scope
    if path.root != "scope":
        if item is None:
            raise AssertionError("the parser lets item words stand only inside #each")
        if path.root == "@index":
            return item.index
        if path.root == "@first":
            return item.index == 0
        if path.root == "@last":
            return item.last
        value = item.value
    for segment in path.segments:
        if isinstance(value, Mapping):
            if segment not in value:
                return _MISSING
            value = value[segment]
        elif isinstance(value, (list, tuple)):
            # Nine digits: no list is longer, and a number of any length could be written here.
            if not (segment.isascii() and segment.isdigit() and len(segment) <= 9):
                return _MISSING
            if int(segment) >= len(value):
                return _MISSING
            value = value[int(segment)]
        else:
            return _MISSING
    return _MISSING if value is None else value


def _is_true(value: object) -> bool:
    if value is _MISSING or value is False:
        return False
    if isinstance(value, (str, int, float, list, tuple)):
        return bool(value)
    return True


def _text(value: object) -> str | None:
    """A scalar as text; None for what is no JSON scalar."""
    if type(value) is str:
        return value
    if value is True or value is False:
        return "true" if value else "false"
    if type(value) is int and abs(value) <= MAX_SAFE_INTEGER:
        return str(value)
    if type(value) is float and math.isfinite(value):
        return repr(value)
    return None


def _described(value: object) -> str:
    if isinstance(value, Mapping):
        return "a map"
    if isinstance(value, (list, tuple)):
        return "a list"
    if isinstance(value, (str, bool)):
        return "text" if isinstance(value, str) else "a boolean"
    return "a number" if _text(value) is not None else "not a JSON value"


def _error(path: Path | None, problem: str) -> TemplateError:
    return TemplateError(path.line, path.column, problem) if path else TemplateError(1, 1, problem)


def _missing(path: Path) -> TemplateError:
    return _error(path, f"there is no value for {path.source}")


def _collect(nodes: tuple[Node, ...], found: dict[str, None]) -> None:
    for node in nodes:
        if isinstance(node, str):
            continue
        if node.path.root == "scope":
            found[node.path.source] = None
        if isinstance(node, (If, Each)):
            _collect(node.body, found)
            _collect(node.otherwise, found)
