"""Jobs: how far they are, what came of them, and an end to them."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from fastapi import Query, Response
from pydantic import Field
from starlette.responses import StreamingResponse

from dee_es.engine.models import Answer
from dee_es.web.api.models import Given
from dee_es.web.job_files import MEDIA_TYPES, RefusedPage
from dee_es.web.jobs import JobView
from dee_es.web.problems import Refused
from dee_es.web.routing import OPERATOR, VIEWER, ActorDep, Id, JobsDep, api_router

router: Final = api_router("jobs")


_BINARY: Final = {"type": "string", "format": "binary"}
_FILE: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "The file.",
        "content": {
            kind: {"schema": {} if kind == "application/json" else _BINARY}
            for kind in MEDIA_TYPES.values()
        },
    }
}


class JobList(Answer):
    """The jobs that this server knows, the newest first."""

    jobs: tuple[JobView, ...]


class RefusalQuery(Given):
    """Which refusals of a job."""

    limit: int = Field(100, ge=1, le=1_000)
    cursor: str | None = Field(
        None, pattern=r"^[0-9]{1,15}$", description="`nextCursor` of the page before."
    )


class FileQuery(Given):
    """In which form: as it was asked for, or a report as `json`, as which each can be had."""

    form: Literal["json"] | None = None


@router.get("/jobs", openapi_extra=VIEWER, summary="List jobs")
def list_jobs(jobs: JobsDep) -> JobList:
    """The jobs of this server: those under way and the last hundred. They end with it."""
    return JobList(jobs=tuple(job.view() for job in jobs.all()))


@router.get("/jobs/{job_id}", openapi_extra=VIEWER, summary="One job")
def get_job(jobs: JobsDep, job_id: Id) -> JobView:
    """How far a job is, and what came of it."""
    return jobs.get(job_id).view()


@router.get("/jobs/{job_id}/refusals", openapi_extra=VIEWER, summary="Contacts refused by a job")
def refusals(jobs: JobsDep, job_id: Id, given: Annotated[RefusalQuery, Query()]) -> RefusedPage:
    """The contacts that a job refused so far, in order."""
    return jobs.get(job_id).refusals.page(int(given.cursor or 0), given.limit)


@router.get(
    "/jobs/{job_id}/file",
    openapi_extra=OPERATOR,
    response_class=Response,
    response_model=None,
    responses=_FILE,
    summary="The file that a job made",
)
def file(
    jobs: JobsDep, actor: ActorDep, job_id: Id, given: Annotated[FileQuery, Query()]
) -> Response:
    """What an export or a report came to, for whoever may start such a job."""
    job = jobs.get(job_id)
    if not actor.role.covers(job.role):
        raise Refused(403, "NotAllowed", f"this file needs the role {job.role.value}")
    made = job.made if given.form is None else job.made_json
    if made is None and job.outdated:
        raise Refused(410, "FileGone", "a contact was erased since this was begun; make it again")
    if made is None:
        raise Refused(404, "FileNotFound", "the job has made no file, or not yet")
    # Never shown in place: a report in HTML is not a page of this server.
    headers = {
        "Content-Disposition": f'attachment; filename="{made.name}"',
        "Content-Length": str(made.size),
    }
    return StreamingResponse(made.pieces(), 200, headers, made.media_type)


@router.delete("/jobs/{job_id}", openapi_extra=OPERATOR, status_code=202, summary="End a job early")
def abort(jobs: JobsDep, actor: ActorDep, job_id: Id) -> JobView:
    """Let a job end after the batch under way; what it has done stays done."""
    job = jobs.get(job_id)
    if not actor.role.covers(job.role):
        raise Refused(403, "NotAllowed", f"ending this job needs the role {job.role.value}")
    job.stop.set()
    return job.view()
