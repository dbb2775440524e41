"""Plans: made from Python with `create_plan`, from YAML or JSON with `load_plan`.

Both go the same way: the builders write the very shape that a file holds, and that shape is read,
checked as a whole and turned into an immutable `ExecutionPlan`.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence

from dee_es.core.plans.checks import check_draft
from dee_es.core.plans.model import (
    MAX_STEPS,
    Edge,
    ExecutionPlan,
    ExitCondition,
    Explicit,
    Linear,
)
from dee_es.core.plans.reading import read_draft
from dee_es.core.steps import SendEmail, SendVoice, StepBase
from dee_es.errors import PlanFault, PlanValidationError

__all__ = [
    "MAX_STEPS",
    "Edge",
    "ExecutionPlan",
    "ExitCondition",
    "Explicit",
    "Linear",
    "create_plan",
    "load_plan",
    "missing_references",
]


def create_plan(
    *,
    id: str,
    name: str,
    steps: Sequence[Mapping[str, object] | StepBase],
    transitions: Mapping[str, object] | Linear | Explicit | None = None,
    exit_conditions: Sequence[Mapping[str, object] | ExitCondition] = (),
    metadata: Mapping[str, object] | None = None,
    reenroll: str = "after_end",
) -> ExecutionPlan:
    """An immutable plan, version 0 until it is published.

    `steps` and `transitions` come from the builders of the same names; transitions are linear
    unless given. `reenroll` is "after_end" or "never". The order of the steps is the definition
    order, and the first step is where runs begin. A run completes where an end step is entered,
    or, in a plan without end steps, after the last step of its way, then with outcome None.

    Raises `PlanValidationError`, which lists every fault at once.
    """
    return load_plan(
        {
            "id": id,
            "name": name,
            "steps": steps,
            "transitions": transitions,
            "exitConditions": exit_conditions,
            "metadata": {} if metadata is None else metadata,
            "reenroll": reenroll,
        }
    )


def load_plan(data: Mapping[str, object]) -> ExecutionPlan:
    """The plan that a YAML or JSON document describes, in camelCase or in snake_case.

    Raises `PlanValidationError`, which lists every fault at once, each with the id of its step
    and a remedy. Faults come in definition order, those of the plan as a whole first.
    """
    draft = read_draft(data)
    faults = draft.faults + check_draft(draft)
    if faults:
        order: dict[str | None, int] = {None: -1}
        for place, outline in enumerate(draft.outlines):
            order.setdefault(outline.id, place)
        faults.sort(key=lambda fault: order.get(fault.step_id, len(order)))
        raise PlanValidationError(draft.plan_id, faults)
    return ExecutionPlan.model_validate(draft.values)


def missing_references(
    plan: ExecutionPlan, templates: Container[str], scripts: Container[str]
) -> list[PlanFault]:
    """The steps whose template or call script is not among the published ones, as faults."""
    faults: list[PlanFault] = []
    for step in plan.steps:
        if isinstance(step, SendEmail) and step.template_id not in templates:
            problem = f"the template {step.template_id!r} is not published"
            faults.append(PlanFault(step.id, problem, "publish it first with publish_template"))
        elif isinstance(step, SendVoice) and step.script_id not in scripts:
            problem = f"the call script {step.script_id!r} is not published"
            faults.append(PlanFault(step.id, problem, "publish it first with publish_script"))
    return faults
