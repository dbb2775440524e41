"""Cells of a contacts file that are no text: numbers, and true and false.

Nobody can tell from a cell whether `0049` is a number, so only columns that were named are read so.
A refusal names the column and never shows its value, which is personal data.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from dee_es.core.conditions.condition import Condition, Literal, Lookup, claims, unparse
from dee_es.core.plans.plan import ExecutionPlan
from dee_es.core.steps import Branch
from dee_es.core.values import MAX_SAFE_INTEGER, JsonScalar
from dee_es.doors.contacts_header import Columns, Kind
from dee_es.errors import InvalidInput

_NUMBER = re.compile(r"[+-]?[0-9]{1,300}(?:\.[0-9]{1,300})?\Z")
_BOOLEAN: Final = {
    "true": True, "yes": True, "1": True, "false": False, "no": False, "0": False
}  # fmt: skip


def read_as(kind: Kind, title: str, text: str) -> JsonScalar:
    """The value of a cell that is not empty; raises `InvalidInput` naming the column."""
    if kind == "boolean":
        value = _BOOLEAN.get(text.casefold())
        if value is None:
            raise InvalidInput(title, "is none of true, yes, 1, false, no, 0")
        return value
    if _NUMBER.match(text) is None:
        raise InvalidInput(title, "is not a number such as 1200 or 3.5")
    if "." in text:
        return float(text)
    number = int(text)
    if abs(number) > MAX_SAFE_INTEGER:
        raise InvalidInput(title, "is an integer beyond 2^53, which is not exact")
    return number


class NeverText(NamedTuple):
    """Something that a condition of a plan claims of an attribute and no text fulfils."""

    where: str
    claim: str
    attribute: str
    kind: Kind


def never_text(plan: ExecutionPlan, columns: Columns) -> list[NeverText]:
    """What the plan claims of attributes as numbers, or as true and false, that come as text out of
    the file: it is never true, but for `!=`, which always is. Each once, in the plan's order."""
    text = {name for name, _, kind in columns.attributes if kind is None}
    found = [
        NeverText(where, *each)
        for where, condition in _conditions(plan)
        for each in _claimed(condition)
        if each[1] in text
    ]
    return list(dict.fromkeys(found))


def _conditions(plan: ExecutionPlan) -> Iterator[tuple[str, Condition]]:
    for step in plan.steps:
        if isinstance(step, Branch):
            yield from ((f"step {step.id!r}", when) for when, _ in plan.graph.arms(step.id))
    yield from (("an exit condition", when) for when, _ in plan.graph.exits)


def _claimed(condition: Condition) -> Iterator[tuple[str, str, Kind]]:
    for claim in claims(condition):
        sides = (claim, Literal(True)) if isinstance(claim, Lookup) else (claim.left, claim.right)
        for one, other in (sides, sides[::-1]):
            if not (isinstance(one, Lookup) and isinstance(other, Literal)):
                continue
            if one.kind == "contact.attributes" and isinstance(other.value, bool | int | float):
                kind: Kind = "boolean" if isinstance(other.value, bool) else "number"
                yield unparse(claim), str(one.name), kind
