"""One run as a file, out of this database and into it."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Final

from fastapi import Query, Request, Response
from pydantic import StringConstraints
from starlette.concurrency import run_in_threadpool

from dee_es.engine.facade import EngineApi
from dee_es.engine.models import Answer
from dee_es.errors import UnknownEventVersion
from dee_es.web.api import uploads
from dee_es.web.api.bulk import accepted
from dee_es.web.api.models import Flag, Given, Text
from dee_es.web.idempotency import reused
from dee_es.web.jobs import Job, JobView
from dee_es.web.problems import Refused
from dee_es.web.routing import (
    ADMIN,
    ActorDep,
    CommandDep,
    EngineDep,
    Id,
    JobsDep,
    SettingsDep,
    api_router,
    job,
    unkept,
)
from dee_es.web.security.roles import Role
from dee_es.web.security.scopes import media_type

router: Final = api_router("runs")

MEDIA_TYPE: Final = "application/octet-stream"
"""As what a run file comes in."""
_BODY: Final = {
    "requestBody": {
        "required": True,
        "content": {MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}},
    }
}


class RunExport(Given):
    """With `personalData` the file holds the key to the contact's data, and has to be kept like
    that data; `target` says where it will go to."""

    personal_data: Flag = True
    target: Annotated[str, StringConstraints(max_length=10_000)] = ""
    reason: Text | None = None


class ImportReason(Given):
    """Why it is brought here."""

    reason: Text | None = None


class ImportedRun(Answer):
    """The run that was taken in, or was there already."""

    run_id: str


@router.post(
    "/runs/{run_id}/export",
    openapi_extra=job(ADMIN),
    status_code=202,
    response_model=JobView,
    summary="Export a run as a file",
)
def export_run(
    engine: EngineDep,
    jobs: JobsDep,
    actor: ActorDep,
    command: CommandDep,
    run_id: Id,
    given: RunExport | None = None,
) -> Response:
    """Give out a run with its chain and the definitions it decided by (`dee-run/1`); get the file
    from the job once it is done. It is recorded in the log who asked for it, and its SHA-256."""
    asked = given or RunExport()

    def work(running: Job) -> dict[str, Any]:
        content = engine.export_run(run_id, actor=actor.name, **dict(asked))
        running.make_file(run_id.replace(":", "-"), "json").write(content)
        digest = hashlib.sha256(content).hexdigest()
        return {"runId": run_id, "size": len(content), "digest": digest}

    kind = "run-export"
    digest = hashlib.sha256(f"{kind} {run_id} {asked.model_dump_json()}".encode()).digest()
    return accepted(
        jobs.start(kind, actor.name, Role.ADMIN, work, command_id=command, digest=digest)
    )


@router.post("/runs/import", openapi_extra=unkept(ADMIN, **_BODY), summary="Import a run")
async def import_run(
    request: Request,
    engine: EngineDep,
    actor: ActorDep,
    command: CommandDep,
    settings: SettingsDep,
    given: Annotated[ImportReason, Query()],
) -> ImportedRun:
    """Take in a run from a file, which is streamed. Meant for a scratch database of the same epoch
    and resolution: the run never acts there by itself. One that is there already stays so.
    It is recorded in the log who brought it, and the SHA-256 of the file."""
    if media_type(request.scope) != MEDIA_TYPE:
        raise Refused(415, "UnsupportedMediaType", f"send the file as {MEDIA_TYPE}")
    upload = await uploads.received(request, settings.uploads_at_once)
    try:
        return await run_in_threadpool(_take_in, engine, upload, actor.name, command, given.reason)
    finally:
        upload.close()


def _take_in(
    engine: EngineApi,
    upload: uploads.Upload,
    actor: str,
    command: str | None,
    reason: str | None,
) -> ImportedRun:
    # The same file twice adds nothing, so that no answer has to be kept.
    asked = b"run-import" + upload.digest + (reason or "").encode()
    if command is not None and not engine.idempotency.same(command, asked):
        raise reused()
    file, _ = upload.reading()
    with file:
        content = file.read()
    try:
        run_id = engine.import_run(content, reason=reason, actor=actor, command_id=command)
    except UnknownEventVersion as error:
        # It is the file that is newer than this program, and nothing is wrong with the log here.
        raise Refused(422, "UnknownEventVersion", str(error)) from None
    return ImportedRun(run_id=run_id)
