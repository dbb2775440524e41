"""The Runs page: runs as resources."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from fastapi import Query, Response
from pydantic import Field

from dee_es.core.views import RunStatus
from dee_es.engine.models import Answer, ExecutionRun, RunPage
from dee_es.web.api.models import Filled, Given, GivenId, Text, UtcTime, Values
from dee_es.web.api.plan_reference import PlanGiven, plan_of
from dee_es.web.api.run_filters import CountQuery, RunQuery
from dee_es.web.routing import (
    OPERATOR,
    VIEWER,
    ActorDep,
    CommandDep,
    EngineDep,
    Id,
    api_router,
)

router: Final = api_router("runs")


class RunCounts(Answer):
    """How many runs have each status, exactly, at one moment."""

    counts: dict[RunStatus, int]


class ContactGiven(Given):
    """Who a run is for. `id` is opaque and stays readable for ever: it must not be an address."""

    id: GivenId
    email: str | None = None
    phone: str | None = None
    timezone: str | None = None
    attributes: Values = Field(default_factory=dict)


class Execute(Given):
    """A run to start. `plan` is `id` or `id@version` of a published plan, or a plan itself."""

    plan: PlanGiven
    contact: ContactGiven
    variables: Values = Field(default_factory=dict)
    start_at: UtcTime | None = None


class Reason(Given):
    """Why; recorded in plain text, so it must not hold personal data."""

    reason: Filled


class OptionalReason(Given):
    """Why, if anybody cares to say."""

    reason: Text | None = None


class PauseGiven(OptionalReason):
    """`keep` says what becomes of a wait: its deadline stays, or the time that remains."""

    keep: Literal["deadline", "remaining"] = "deadline"


class Resolve(Reason):
    """How a send whose outcome is unknown is settled."""

    outcome: Literal["delivered", "failed", "resend"]


@router.get("/runs", openapi_extra=VIEWER, response_model=RunPage, summary="List runs")
def list_runs(engine: EngineDep, given: Annotated[RunQuery, Query()]) -> Response:
    """Runs that match all filters given, newest first; `total` is exact."""
    found = engine.list_runs(**{**dict(given), "status": given.status or None})
    # Written here, in the thread that found it: this is the call that pollers make most.
    return Response(found.model_dump_json(by_alias=True), media_type="application/json")


@router.get("/runs/counts", openapi_extra=VIEWER, summary="Count runs by status")
def count_runs(engine: EngineDep, given: Annotated[CountQuery, Query()]) -> RunCounts:
    """How many runs that match all filters given have each status."""
    return RunCounts(counts=engine.count_runs(**dict(given)))


@router.post("/runs", openapi_extra=OPERATOR, status_code=201, summary="Start a run")
def execute(
    engine: EngineDep, actor: ActorDep, command: CommandDep, given: Execute, response: Response
) -> ExecutionRun:
    """Start a run of a plan for a contact, now or at `startAt`. A plan that equals no published
    version is published."""
    run = engine.execute(
        plan_of(given.plan, engine),
        given.contact.model_dump(),
        given.variables,
        given.start_at,
        actor=actor.name,
        command_id=command,
    )
    response.headers["Location"] = f"/api/v1/runs/{run.id}"
    return run


@router.get("/runs/{run_id}", openapi_extra=VIEWER, summary="One run")
def get_run(engine: EngineDep, run_id: Id) -> ExecutionRun:
    """One run as it stands."""
    return engine.get_run(run_id)


@router.post("/runs/{run_id}/pause", openapi_extra=OPERATOR, summary="Pause a run")
def pause(
    engine: EngineDep,
    actor: ActorDep,
    command: CommandDep,
    run_id: Id,
    given: PauseGiven | None = None,
) -> ExecutionRun:
    """Stop a run until it is resumed."""
    asked = given or PauseGiven()
    return engine.pause_run(run_id, asked.reason, actor.name, asked.keep, command_id=command)


@router.post("/runs/{run_id}/resume", openapi_extra=OPERATOR, summary="Resume a run")
def resume(
    engine: EngineDep,
    actor: ActorDep,
    command: CommandDep,
    run_id: Id,
    given: OptionalReason | None = None,
) -> ExecutionRun:
    """Let a paused run go on from the next tick."""
    reason = None if given is None else given.reason
    return engine.resume_run(run_id, reason, actor.name, command_id=command)


@router.post("/runs/{run_id}/cancel", openapi_extra=OPERATOR, summary="Cancel a run")
def cancel(
    engine: EngineDep, actor: ActorDep, command: CommandDep, run_id: Id, given: Reason
) -> ExecutionRun:
    """End a run; the reason is recorded in the audit log."""
    return engine.cancel_run(run_id, given.reason, actor.name, command_id=command)


@router.post("/runs/{run_id}/retry", openapi_extra=OPERATOR, summary="Retry a failed run")
def retry(
    engine: EngineDep, actor: ActorDep, command: CommandDep, run_id: Id, given: Reason
) -> ExecutionRun:
    """Let a failed run enter its step again; refused while a send's outcome is unknown."""
    return engine.retry_run(run_id, given.reason, actor.name, command_id=command)


@router.post("/runs/{run_id}/resolve", openapi_extra=OPERATOR, summary="Settle a send")
def resolve(
    engine: EngineDep, actor: ActorDep, command: CommandDep, run_id: Id, given: Resolve
) -> ExecutionRun:
    """Settle a send whose outcome is unknown."""
    return engine.resolve_step(
        run_id, given.outcome, reason=given.reason, actor=actor.name, command_id=command
    )
