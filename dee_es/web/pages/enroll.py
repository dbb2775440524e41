"""Enrolling contacts out of a file: first what would become of each, then by hand."""

from __future__ import annotations

from contextlib import closing
from itertools import islice
from typing import Annotated, Any, Final

from fastapi import Path, Request, Response
from starlette.concurrency import run_in_threadpool

from dee_es.doors.contacts_csv import CsvContact, CsvRow, read_contacts
from dee_es.doors.contacts_header import DELIMITER_NAMES
from dee_es.doors.never_text import never_text
from dee_es.engine.facade import EngineApi
from dee_es.web.api import bulk as api
from dee_es.web.api import intake, uploads
from dee_es.web.api.csv_options import CsvOptions
from dee_es.web.api.plan_reference import plan_of
from dee_es.web.held import HeldFile
from dee_es.web.idempotency import command_id_of
from dee_es.web.jobs import Jobs
from dee_es.web.pages import inputs, rendering, typed
from dee_es.web.pages.jobs import job_page_of, job_shown
from dee_es.web.problems import Refused
from dee_es.web.routing import (
    OPERATOR,
    ActorDep,
    EngineDep,
    HeldDep,
    JobsDep,
    SettingsDep,
    job,
    page_router,
)
from dee_es.web.security.roles import Role
from dee_es.web.security.scopes import media_type

router: Final = page_router()

_ROWS: Final = 20
_ASKED: Final = ("plan", "dedupe", "numbers", "booleans")
HeldId = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{16,64}$")]


@router.get("/enroll", openapi_extra=OPERATOR)
def ask(request: Request, engine: EngineDep) -> Response:
    """Where a file is chosen."""
    plans = engine.plan_ids()
    chosen = inputs.given(request, "plan")
    return rendering.page(request, engine, "enroll.html", plans=plans, chosen=chosen)


@router.post("/enroll", openapi_extra=job(OPERATOR))
async def send(
    request: Request,
    engine: EngineDep,
    jobs: JobsDep,
    files: HeldDep,
    actor: ActorDep,
    settings: SettingsDep,
) -> Response:
    """Take the file in, and begin to find out what would become of its contacts."""
    if media_type(request.scope) != "multipart/form-data":
        raise Refused(415, "UnsupportedMediaType", "send multipart/form-data")
    jobs.check_room()
    form = await uploads.received_form(request, settings.uploads_at_once, api.FILE_FIELD)
    given = {name: text for name, text in form.fields.items() if name in _ASKED}
    typed.keep(request.scope, given)
    try:
        held = await run_in_threadpool(_look, engine, jobs, actor.name, given, form.upload)
    except BaseException:
        form.upload.close()
        raise
    files.hold(held)
    return rendering.see(f"/enroll/{held.id}")


@router.get("/enroll/{held_id}", openapi_extra=OPERATOR)
def preview(
    request: Request,
    engine: EngineDep,
    jobs: JobsDep,
    files: HeldDep,
    actor: ActorDep,
    held_id: HeldId,
) -> Response:
    """The first rows, and what a dry run says. Nothing is written."""
    held = files.get(held_id, actor.name)
    return rendering.page(
        request,
        engine,
        "enroll_preview.html",
        held=held,
        contacts=[each for each in held.rows if isinstance(each, CsvContact)],
        **job_shown(jobs.get(held.job_id)),
    )


@router.post("/enroll/{held_id}", openapi_extra=job(OPERATOR))
def begin(
    engine: EngineDep,
    jobs: JobsDep,
    files: HeldDep,
    actor: ActorDep,
    held_id: HeldId,
    key: inputs.Key,
) -> Response:
    """Enroll the contacts of the file."""
    held = files.get(held_id, actor.name)
    options = held.options.model_copy(update={"dry_run": False})
    command = command_id_of(actor.name, key)
    made = _start(engine, jobs, actor.name, options, held.upload, command)
    return job_page_of(api.accepted(jobs.get(made)))


def _look(
    engine: EngineApi, jobs: Jobs, actor: str, given: dict[str, Any], upload: uploads.Upload
) -> HeldFile:
    """Read the beginning of the file, which has to be one of contacts, and start a dry run."""
    options = inputs.checked(CsvOptions, {**given, "dryRun": True})
    file, _ = upload.reading()
    with file, closing(read_contacts(file, options.kinds)) as contacts:
        rows: list[CsvRow] = list(islice(contacts, _ROWS))
    separators = DELIMITER_NAMES[contacts.columns.delimiter]
    in_vain = never_text(plan_of(options.plan, engine), contacts.columns)
    made = _start(engine, jobs, actor, options, upload, None)
    return HeldFile(upload, options, actor, made, rows, in_vain, separators)


def _start(
    engine: EngineApi,
    jobs: Jobs,
    actor: str,
    options: CsvOptions,
    upload: uploads.Upload,
    command: str | None,
) -> str:
    plan = plan_of(options.plan, engine)
    # The file is held on for as long as the work needs it, whatever becomes of the page.
    own = upload.shared()
    work = intake.of_csv(engine, plan, own, options, actor, command)
    kind = "enroll, dry run" if options.dry_run else "enroll"
    digest = kind.encode() + upload.digest + options.model_dump_json().encode()
    return jobs.start(
        kind, actor, Role.OPERATOR, work, command_id=command, digest=digest, release=own.close
    ).id
