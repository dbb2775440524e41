"""Plans: the picture, the numbers of each step, and versions beside one another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from fastapi import Request, Response

from dee_es.core.plans.plan import ExecutionPlan
from dee_es.engine.insights import FunnelStep
from dee_es.web.pages import inputs, rendering
from dee_es.web.pages.drawing import describe, draw
from dee_es.web.pages.side_by_side import side_by_side
from dee_es.web.routing import VIEWER, EngineDep, Id, page_router

router: Final = page_router()

_SHARES: Final = ("sent", "skipped", "deferred", "failed", "exited", "in_progress")
BAR: Final = 240
"""How long the bar of the step with the most visits is, in pixels."""


@dataclass(frozen=True, slots=True)
class Share:
    """A part of a step's bar."""

    name: str
    count: int
    x: float
    width: float


@dataclass(frozen=True, slots=True)
class FunnelRow:
    """A step in numbers, and its bar."""

    step: str
    below: str
    entered: int
    shares: tuple[Share, ...]
    reasons: tuple[tuple[str, str, int], ...]


@router.get("/plans", openapi_extra=VIEWER)
def plans(request: Request, engine: EngineDep) -> Response:
    """The latest version of every plan, with its number of runs."""
    found = engine.list_plans()
    counts = {plan.id: sum(engine.count_runs(plan_id=plan.id).values()) for plan in found}
    return rendering.page(request, engine, "plans.html", plans=found, counts=counts)


@router.get("/plans/{plan_id}", openapi_extra=VIEWER)
def plan(request: Request, engine: EngineDep, plan_id: Id) -> Response:
    """A version of a plan, beside another one if that is asked for."""
    latest = engine.get_plan(plan_id)
    most = latest.version
    version = inputs.number(request, "version", most, least=1, most=most)
    shown = latest if version == most else engine.get_plan(plan_id, version)
    other = inputs.number(request, "beside", max(version - 1, 0), least=0, most=most)
    behind = rendering.unless_level(request, engine, "step_funnel")
    if behind is not None:
        return behind
    compared = None
    if other and other != version:
        compared = side_by_side(engine.get_plan(plan_id, other).definition(), shown.definition())
    return rendering.page(
        request,
        engine,
        "plan.html",
        plan=shown,
        latest=most,
        other=other,
        compared=compared,
        drawing=draw(shown),
        funnel=funnel_rows(shown, engine.step_funnel(plan_id, version)),
        bar=BAR,
        total=sum(engine.count_runs(plan_id=plan_id).values()),
    )


def funnel_rows(plan: ExecutionPlan, numbers: Sequence[FunnelStep]) -> list[FunnelRow]:
    """Every step of the plan in its order, those that no run has entered too."""
    known = {each.step_id: each for each in numbers}
    most = max((each.entered for each in numbers), default=0)
    rows = []
    for step in plan.steps:
        found = known.get(step.id) or FunnelStep(plan_version=plan.version, step_id=step.id)
        reasons = tuple(
            (_words(state), reason, count)
            for state, by in found.reasons.items()
            for reason, count in by.items()
        )
        _, below = describe(step)
        rows.append(FunnelRow(step.id, below, found.entered, _shares(found, most), reasons))
    return rows


def _shares(found: FunnelStep, most: int) -> tuple[Share, ...]:
    shares, x = [], 0.0
    for name in _SHARES:
        count: int = getattr(found, name)
        width = BAR * count / most if most else 0.0
        shares.append(Share(_words(name), count, round(x, 2), round(width, 2)))
        x += width
    return tuple(shares)


def _words(name: str) -> str:
    return name.replace("_", " ")
