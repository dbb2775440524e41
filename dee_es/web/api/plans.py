"""Plans: published, looked at, checked, and in numbers."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import Body, Query
from pydantic import Field

from dee_es.core.plans.plan import ExecutionPlan, load_plan, missing_references
from dee_es.core.runs.rendering import unrenderable
from dee_es.engine.facade import EngineApi
from dee_es.engine.insights import FunnelStep
from dee_es.engine.models import Answer
from dee_es.errors import PlanValidationError
from dee_es.web.api.models import Given, Numbered, Values
from dee_es.web.problems import Fault
from dee_es.web.routing import (
    OPERATOR,
    VIEWER,
    ActorDep,
    CommandDep,
    EngineDep,
    Id,
    api_router,
)

router: Final = api_router("plans")

_EXAMPLE: Final = {
    "id": "welcome",
    "name": "Welcome",
    "steps": [
        {"id": "hello", "type": "send_email", "templateId": "hello", "subject": "Hello"},
        {"id": "pause", "type": "wait", "duration": {"days": 3}},
        {"id": "done", "type": "end", "outcome": "finished"},
    ],
}
PlanBody = Annotated[dict[str, Any], Body(examples=[_EXAMPLE])]


class PlanView(Answer):
    """A published plan; steps and transitions as in a plan file."""

    id: str
    name: str
    version: int
    reenroll: str
    steps: list[Values]
    transitions: Values
    exit_conditions: list[Values]
    metadata: Values


class PlanList(Answer):
    """The latest version of every plan, by id."""

    plans: tuple[PlanView, ...]


class Checked(Answer):
    """Whether a plan could be published as it is; `faults` lists everything that is wrong."""

    valid: bool
    faults: tuple[Fault, ...]


class Version(Given):
    """A version of a plan; the latest, or all, if none is given."""

    version: Annotated[Numbered, Field(le=2**31)] | None = None


def plan_view(plan: ExecutionPlan) -> PlanView:
    """A plan as JSON values."""
    return PlanView.model_validate({**plan.definition(), "version": plan.version})


@router.get("/plans", openapi_extra=VIEWER, summary="List plans")
def list_plans(engine: EngineDep) -> PlanList:
    """The latest version of every plan, by id."""
    return PlanList(plans=tuple(plan_view(plan) for plan in engine.list_plans()))


@router.post("/plans", openapi_extra=OPERATOR, summary="Publish a plan")
def publish(engine: EngineDep, actor: ActorDep, command: CommandDep, given: PlanBody) -> PlanView:
    """Publish a plan; one that equals the latest version returns that. Runs that are there keep the
    version they began with."""
    plan = engine.publish_plan(load_plan(given), actor=actor.name, command_id=command)
    return plan_view(plan)


@router.post("/plans/validate", openapi_extra=VIEWER, summary="Check a plan")
def validate(engine: EngineDep, given: PlanBody) -> Checked:
    """Check a plan, and that what it refers to is published. Nothing is written."""
    try:
        plan = load_plan(given)
        faults = [*_missing(plan, engine), *map(Fault.of, unrenderable(plan))]
    except PlanValidationError as error:
        faults = [Fault.of(each) for each in error.faults]
    return Checked(valid=not faults, faults=tuple(faults))


@router.get("/plans/{plan_id}", openapi_extra=VIEWER, summary="One plan")
def get_plan(engine: EngineDep, plan_id: Id, given: Annotated[Version, Query()]) -> PlanView:
    """A published plan, by default its latest version."""
    return plan_view(engine.get_plan(plan_id, given.version))


@router.get("/plans/{plan_id}/versions", openapi_extra=VIEWER, summary="All versions of a plan")
def versions(engine: EngineDep, plan_id: Id) -> PlanList:
    """All versions of a plan, the latest first."""
    latest = engine.get_plan(plan_id)
    older = [engine.get_plan(plan_id, version) for version in range(latest.version - 1, 0, -1)]
    return PlanList(plans=tuple(plan_view(plan) for plan in (latest, *older)))


@router.get("/plans/{plan_id}/funnel", openapi_extra=VIEWER, summary="A plan in numbers")
def funnel(engine: EngineDep, plan_id: Id, given: Annotated[Version, Query()]) -> list[FunnelStep]:
    """What became of every visit of every step, of one version or of all."""
    return engine.step_funnel(plan_id, given.version)


def _missing(plan: ExecutionPlan, engine: EngineApi) -> list[Fault]:
    found = missing_references(
        plan, engine.list_definitions("template"), engine.list_definitions("script")
    )
    return [Fault.of(each) for each in found]
