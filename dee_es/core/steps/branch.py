"""The step that chooses a way."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from dee_es.core.steps.base import Id, PlanPart, StepBase, Text


class Arm(PlanPart):
    """One way out of a branch: taken if `when` holds and no arm before it did."""

    when: Text
    goto: Id


class Branch(StepBase):
    """Go to the first of `conditions` that holds; the last is `default`, which always does."""

    type: Literal["branch"] = "branch"
    conditions: tuple[Arm, ...] = Field(min_length=1)

    @property
    def gotos(self) -> tuple[str, ...]:
        return tuple(arm.goto for arm in self.conditions)
