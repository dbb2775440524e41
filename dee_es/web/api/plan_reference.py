"""A plan in a request: published, by `id` or `id@version`, or written out."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from pydantic import Field, StringConstraints

from dee_es.core.plans.plan import ExecutionPlan, load_plan
from dee_es.engine.facade import EngineApi
from dee_es.errors import InvalidInput

REFERENCE: Final = r"^[A-Za-z0-9._:-]{1,128}(@[1-9][0-9]{0,8})?$"
"""An id, or an id and a version."""

PlanGiven = Annotated[
    Annotated[str, StringConstraints(pattern=REFERENCE)] | dict[str, Any],
    Field(description="`id` or `id@version` of a published plan, or a whole plan."),
]


def plan_of(given: str | dict[str, Any], engine: EngineApi) -> ExecutionPlan:
    """The plan that is meant. Raises `PlanNotFound`, `PlanValidationError`, `InvalidInput`."""
    if not isinstance(given, str):
        return load_plan(given)
    if re.fullmatch(REFERENCE, given) is None:
        raise InvalidInput("plan", "must be ID or ID@VERSION")
    plan_id, _, version = given.partition("@")
    return engine.get_plan(plan_id, int(version) if version else None)
