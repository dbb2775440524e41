"""The tree a condition is parsed to, and its canonical text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from typing import Literal as OneOf

from msgspec import Struct

from dee_es.core.values import JsonScalar

LookupKind = OneOf[
    "events.hasReply",
    "events.hasOpen",
    "events.hasClick",
    "events.hasBounce",
    "call.outcome",
    "contact.unsubscribed",
    "contact.bounced",
    "contact.attributes",
    "variables",
]
Operator = OneOf["==", "!=", "<", "<=", ">", ">="]

_NAMES_A_STEP: Final = frozenset(
    {"events.hasReply", "events.hasOpen", "events.hasClick", "events.hasBounce", "call.outcome"}
)
_NEEDS_ESCAPE = re.compile(r'["\\\x00-\x1f\x7f]')


@dataclass(frozen=True, slots=True, eq=False)
class Literal:
    """A constant: text, a number, true, false or null."""

    value: JsonScalar

    # Python holds 1, 1.0 and True to be equal; as literals of a condition they are not.
    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Literal):
            return NotImplemented
        return type(self.value) is type(other.value) and self.value == other.value

    def __hash__(self) -> int:
        return hash((type(self.value), self.value))


class Lookup(Struct, frozen=True):
    """Something the condition reads.

    `name` is a step id for `events.*` and `call.outcome`, and the name of the value for
    `contact.attributes` and `variables`. It is None for `events.*(any)`, and for
    `contact.unsubscribed` and `contact.bounced`, which stand alone.
    """

    kind: LookupKind
    name: str | None = None

    @property
    def step_id(self) -> str | None:
        """The step this reads about, or None if it is not about one particular step."""
        return self.name if self.kind in _NAMES_A_STEP else None

    @property
    def key(self) -> str:
        """The canonical text, such as `events.hasReply("intro")`; stable, fit to be recorded."""
        if self.kind in _NAMES_A_STEP:
            return f"{self.kind}({'any' if self.name is None else quote(self.name)})"
        return self.kind if self.name is None else f"{self.kind}.{self.name}"


class Compare(Struct, frozen=True):
    """Two values and an operator between them."""

    operator: Operator
    left: Literal | Lookup
    right: Literal | Lookup


class Not(Struct, frozen=True):
    """True exactly when its term is not."""

    term: Condition


class And(Struct, frozen=True):
    """True when all of its two or more terms are."""

    terms: tuple[Condition, ...]


class Or(Struct, frozen=True):
    """True when any of its two or more terms is."""

    terms: tuple[Condition, ...]


class Default(Struct, frozen=True):
    """`default`: always true; it is the whole condition, never a part of one."""


Condition = Literal | Lookup | Compare | Not | And | Or | Default


def unparse(condition: Condition) -> str:
    """The canonical text of a condition; parsing it gives an equal tree."""
    match condition:
        case Default():
            return "default"
        case Literal(value):
            return _literal(value)
        case Lookup():
            return condition.key
        case Compare(operator, left, right):
            return f"{unparse(left)} {operator} {unparse(right)}"
        case Not(term):
            return f"not {_inside(term, And, Or)}"
        case And(terms):
            return " and ".join(_inside(term, And, Or) for term in terms)
        case Or(terms):
            return " or ".join(_inside(term, Or) for term in terms)


def quote(text: str) -> str:
    """`text` as a string literal in double quotes."""
    return f'"{_NEEDS_ESCAPE.sub(_escape, text)}"'


def _inside(term: Condition, *looser: type[And] | type[Or]) -> str:
    text = unparse(term)
    return f"({text})" if isinstance(term, looser) else text


def _literal(value: JsonScalar) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return quote(value) if isinstance(value, str) else repr(value)


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    return f"\\{character}" if character in '"\\' else f"\\u{ord(character):04x}"
