"""Pausing, resuming, retrying, cancelling many runs: first what would be hit, then by hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from fastapi import Form, Request, Response

from dee_es.core.values import check_one_of
from dee_es.core.views import RunStatus
from dee_es.engine.facade import EngineApi
from dee_es.engine.lifecycle import KEEPS
from dee_es.engine.models import RunPage
from dee_es.engine.run_filters import IN_JSON
from dee_es.errors import EmptyFilter
from dee_es.web.api import bulk as api
from dee_es.web.idempotency import command_id_of
from dee_es.web.pages import inputs, rendering
from dee_es.web.pages.jobs import job_page_of
from dee_es.web.pages.runs import TypedFilters
from dee_es.web.problems import Refused
from dee_es.web.routing import OPERATOR, ActorDep, EngineDep, JobsDep, job, page_router

router: Final = page_router()

Verb = Literal["pause", "resume", "retry", "cancel"]
_ROWS: Final = 20
_PAUSABLE: Final = ("pending", "active", "waiting")
_WANTED: Final[dict[Verb, tuple[str, ...]]] = {
    "pause": _PAUSABLE,
    "resume": ("paused",),
    "retry": ("failed",),
    "cancel": tuple(each.value for each in RunStatus if not each.ended),
}


@dataclass(frozen=True, slots=True)
class Target:
    """The runs that would be hit: the filters narrowed to the statuses that the verb can change."""

    filters: dict[str, Any]
    found: RunPage


@router.get("/runs/bulk/{verb}", openapi_extra=OPERATOR)
def preview(request: Request, engine: EngineDep, verb: Verb) -> Response:
    """Exactly how many runs would be hit, and the first of them. Nothing is written."""
    filters = TypedFilters.of(request)
    return rendering.page(
        request,
        engine,
        "bulk.html",
        verb=verb,
        filters=filters,
        found=_target(engine, verb, filters).found,
        wanted=_WANTED[verb],
    )


@router.post("/runs/bulk/{verb}", openapi_extra=job(OPERATOR))
def begin(
    request: Request,
    engine: EngineDep,
    jobs: JobsDep,
    actor: ActorDep,
    verb: Verb,
    key: inputs.Key,
    confirm: Annotated[str, Form(max_length=40)] = "",
    reason: inputs.Text = "",
    keep: Annotated[str, Form(max_length=40)] = "deadline",
    per_tick: Annotated[int, Form(ge=1, le=1_000_000)] = 100,
) -> Response:
    """Begin, if the number that was typed is the number there is now."""
    target = _target(engine, verb, TypedFilters.of(request))
    _confirmed(confirm, reason, target.found.total)
    body: dict[str, Any] = {"filters": target.filters, "reason": inputs.required_reason(reason)}
    command = command_id_of(actor.name, key)
    if verb == "cancel":
        made = api.bulk_cancel(engine, jobs, actor, command, api.BulkCancel(**body))
    elif verb == "pause":
        body["keep"] = check_one_of("keep", keep, KEEPS)
        made = api.bulk_pause(engine, jobs, actor, command, api.BulkPause(**body))
    elif verb == "retry":
        made = api.bulk_retry(engine, jobs, actor, command, api.BulkRetry(**body))
    else:
        body["perTick"] = per_tick
        made = api.bulk_resume(engine, jobs, actor, command, api.BulkResume(**body))
    return job_page_of(made)


def _target(engine: EngineApi, verb: Verb, filters: TypedFilters) -> Target:
    if not filters.any:
        raise EmptyFilter(f"filter the runs first; without any filter it would {verb} them all")
    chosen = filters.read(engine.now().now)
    wanted = [each for each in _WANTED[verb] if each in filters.status or not filters.status]
    if not wanted:
        return Target({}, RunPage(runs=(), total=0))
    chosen["status"] = wanted
    found = engine.list_runs(**chosen, limit=_ROWS)
    given = {IN_JSON[name]: value for name, value in chosen.items() if value is not None}
    return Target(given, found)


def _confirmed(confirm: str, reason: str, total: int) -> None:
    problem = None
    if not total:
        problem = "no run would be changed"
    elif not reason.strip():
        problem = "say why: the reason is recorded with every run"
    elif confirm.strip().replace(",", "") != str(total):
        problem = (
            f"the number typed is not the number of runs, which is {total:,} now. Nothing was done"
        )
    if problem is not None:
        raise Refused(409, "NotConfirmed", problem)
