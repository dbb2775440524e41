"""Projections: how each stands, what could not be folded, and rebuilding or verifying them."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import Form, Request, Response

from dee_es.web.api import projections as api
from dee_es.web.pages import inputs, rendering
from dee_es.web.pages.acting import ActDep
from dee_es.web.pages.jobs import job_page_of
from dee_es.web.routing import (
    ADMIN,
    OPERATOR,
    VIEWER,
    EngineDep,
    JobsDep,
    job,
    page_router,
)

router: Final = page_router()


@router.get("/projections", openapi_extra=VIEWER)
def projections(request: Request, engine: EngineDep, jobs: JobsDep) -> Response:
    """How every projection stands. Nothing is caught up for it, so that lag can be seen."""
    asked = api.Looked(count=inputs.given(request, "count") == "yes")
    under_way = [each.view() for each in jobs.all() if not each.state.ended]
    return rendering.page(
        request,
        engine,
        "projections.html",
        standing=api.status(engine, asked),
        jobs=[each for each in under_way if each.kind.startswith(("rebuild", "verify", "retry"))],
    )


@router.post("/projections/{name}/rebuild", openapi_extra=job(ADMIN))
def rebuild(
    act: ActDep,
    jobs: JobsDep,
    name: api.Name,
    throttle: Annotated[float, Form(ge=0.05, le=1.0)] = 1.0,
) -> Response:
    """Build a projection anew beside the one that serves, compare, and swap."""
    asked = api.Rebuild(throttle=throttle)
    return job_page_of(api.rebuild(act.engine, jobs, act.actor, act.command, name, asked))


@router.post("/projections/{name}/verify", openapi_extra=job(OPERATOR))
def verify(act: ActDep, jobs: JobsDep, name: api.Name) -> Response:
    """Fold the whole log anew and compare; nothing live changes."""
    return job_page_of(api.verify(act.engine, jobs, act.actor, act.command, name, None))


@router.post("/projections/{name}/retry", openapi_extra=job(OPERATOR))
def retry(
    act: ActDep,
    jobs: JobsDep,
    name: api.Name,
    stream: Annotated[str, Form(max_length=300)] = "",
) -> Response:
    """Fold what is parked again, all of a projection or one stream."""
    asked = inputs.checked(api.Retry, {"streamId": inputs.optional(stream)})
    return job_page_of(api.retry(act.engine, jobs, act.actor, act.command, name, asked))
