"""Conditions of branches and exits: parsed to a small tree, never run as code.

Reading is strict and total: whatever the data holds, a condition is true or false and nothing is
converted.

* Only the boolean true is true. Text, numbers and null are not, however they look.
* `==` between different types is false, and `1 == true` too; integers and fractions compare as
  numbers. Two lists or two maps are never equal. `!=` is always the opposite of `==`.
* `<`, `<=`, `>` and `>=` hold only between two numbers or two texts (ordered by code point).
* A value that is missing is null.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Any, Final

from dee_es.core.conditions.parser import MAX_DEPTH, MAX_LENGTH, ConditionError, parse
from dee_es.core.conditions.tree import (
    And,
    Compare,
    Condition,
    Default,
    Literal,
    Lookup,
    LookupKind,
    Not,
    Operator,
    Or,
    unparse,
)
from dee_es.core.values import JsonScalar, JsonValue

__all__ = [
    "MAX_DEPTH",
    "MAX_LENGTH",
    "And",
    "Compare",
    "Condition",
    "ConditionError",
    "Default",
    "Literal",
    "Lookup",
    "LookupKind",
    "Not",
    "Operator",
    "Or",
    "claims",
    "evaluate",
    "lookups",
    "parse",
    "unparse",
]

Read = Callable[[Lookup], JsonScalar]
"""Answers what a lookup stands for; None for what is missing."""

_ORDER: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def evaluate(condition: Condition, read: Read) -> bool:
    """Whether the condition holds for what `read` answers.

    Goes from left to right and stops as soon as the result is known, so `read` may not be asked
    for every one of `lookups(condition)`.
    """
    match condition:
        case Default():
            return True
        case Literal() | Lookup():
            return _value(condition, read) is True
        case Compare(symbol, left, right):
            return _compare(symbol, _value(left, read), _value(right, read))
        case Not(term):
            return not evaluate(term, read)
        case And(terms):
            return all(evaluate(term, read) for term in terms)
        case Or(terms):
            return any(evaluate(term, read) for term in terms)


def lookups(condition: Condition) -> tuple[Lookup, ...]:
    """All that the condition may read, in order of appearance, repetitions included."""
    return tuple(_lookups(condition))


def claims(condition: Condition) -> Iterator[Compare | Lookup]:
    """What the condition joins by `and`, `or` and `not`: comparisons, and values that stand alone;
    in order of appearance."""
    match condition:
        case Compare() | Lookup():
            yield condition
        case Not(term):
            yield from claims(term)
        case And(terms) | Or(terms):
            for term in terms:
                yield from claims(term)
        case _:
            return


def _lookups(condition: Condition) -> Iterator[Lookup]:
    match condition:
        case Lookup():
            yield condition
        case Compare(_, left, right):
            yield from _lookups(left)
            yield from _lookups(right)
        case Not(term):
            yield from _lookups(term)
        case And(terms) | Or(terms):
            for term in terms:
                yield from _lookups(term)
        case _:
            return


def _value(node: Literal | Lookup, read: Read) -> JsonScalar:
    return node.value if isinstance(node, Literal) else read(node)


def _compare(symbol: Operator, left: JsonValue, right: JsonValue) -> bool:
    kind = _kind(left)
    same_kind = kind is not None and kind == _kind(right)
    if symbol == "==":
        return same_kind and left == right
    if symbol == "!=":
        return not (same_kind and left == right)
    return same_kind and kind in ("number", "text") and _ORDER[symbol](left, right)


def _kind(value: JsonValue) -> str | None:
    """The type a value compares as; None for lists and maps, which compare with nothing."""
    if value is None:
        return "null"
    # Asked before numbers: in Python a bool is an int.
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, float)):
        return "number"
    return "text" if isinstance(value, str) else None
