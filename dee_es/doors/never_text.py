"""What a plan asks of a contacts file in vain: numbers, true and false of columns that are text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from dee_es.core.conditions.condition import Condition, Literal, Lookup, claims, unparse
from dee_es.core.plans.plan import ExecutionPlan
from dee_es.core.steps import Branch
from dee_es.doors.contacts_header import Columns, Kind


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
