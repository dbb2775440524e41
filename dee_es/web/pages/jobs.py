"""Long work under way: how far it is, what came of it, and a way to end it."""

from __future__ import annotations

from typing import Any, Final

from fastapi import Request, Response

from dee_es.web.api import jobs as api
from dee_es.web.jobs import Job, JobView
from dee_es.web.pages import rendering
from dee_es.web.routing import OPERATOR, VIEWER, ActorDep, EngineDep, Id, JobsDep, page_router

router: Final = page_router()

_REFUSALS: Final = 100


def job_page_of(made: Response) -> Response:
    """Go on to the page of a job that was started."""
    return rendering.see(f"/jobs/{made.headers['location'].rpartition('/')[2]}")


@router.get("/jobs", openapi_extra=VIEWER)
def jobs(request: Request, engine: EngineDep, jobs: JobsDep) -> Response:
    """The jobs of this server, newest first."""
    return rendering.page(request, engine, "jobs.html", jobs=[each.view() for each in jobs.all()])


@router.get("/jobs/{job_id}", openapi_extra=VIEWER)
def job(request: Request, engine: EngineDep, jobs: JobsDep, job_id: Id) -> Response:
    """One job. A page that shows it already is given the part that moves."""
    shown = job_shown(jobs.get(job_id))
    if rendering.by_htmx(request):
        return rendering.bare(request, "_job.html", now=None, **shown)
    return rendering.page(request, engine, "job.html", **shown)


@router.post("/jobs/{job_id}/stop", openapi_extra=OPERATOR)
def stop(jobs: JobsDep, actor: ActorDep, job_id: Id) -> Response:
    """Let a job end after the batch under way."""
    api.abort(jobs, actor, job_id)
    return rendering.see(f"/jobs/{job_id}", {"done": "stopping"})


def job_shown(found: Job) -> dict[str, Any]:
    """What the part of a page that shows a job is given."""
    view = found.view()
    return {
        "job": view,
        "facts": _facts(view),
        "refusals": found.refusals.page(0, _REFUSALS).refusals if view.refusals else (),
        "needs": found.role.value,
    }


def _facts(view: JobView) -> list[tuple[str, object]]:
    """What came of it so far, a line each."""
    return [
        (_words(name), value)
        for name, value in (view.result or {}).items()
        if value is not None and value != []
    ]


def _words(name: str) -> str:
    """`firstBadEntry` as `first bad entry`."""
    return "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in name)
