"""The Runs page's bulk operations, as jobs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Any, Final, Literal, TypeVar

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import Field, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse

from dee_es.engine.models import Answer, BulkChange
from dee_es.errors import EmptyFilter, InvalidInput
from dee_es.web.api import intake, uploads
from dee_es.web.api.csv_options import CsvOptions
from dee_es.web.api.models import Filled, Flag, Given
from dee_es.web.api.plan_reference import REFERENCE, plan_of
from dee_es.web.api.run_filters import RunFilters
from dee_es.web.jobs import Job, Jobs, JobView
from dee_es.web.problems import Refused, not_utf8
from dee_es.web.routing import (
    OPERATOR,
    ActorDep,
    CommandDep,
    EngineDep,
    JobsDep,
    SettingsDep,
    api_router,
    job,
)
from dee_es.web.security.roles import Role
from dee_es.web.security.scopes import media_type

router: Final = api_router("bulk")

_Model = TypeVar("_Model", bound=Given)


class BulkCancel(Given):
    """Runs to cancel, and why. With `dryRun` they are only counted, at once."""

    filters: RunFilters
    reason: Filled
    dry_run: Flag = False


class BulkPause(BulkCancel):
    """Runs to pause, and why."""

    keep: Literal["deadline", "remaining"] = "deadline"


class BulkResume(BulkCancel):
    """Runs to resume, and why; `perTick` of them in each of the coming ticks."""

    per_tick: Annotated[int, Field(strict=True, ge=1, le=1_000_000)] = 100


class BulkRetry(BulkResume):
    """Failed runs to retry, and why; `perTick` of them in each of the coming ticks."""


class Changed(Answer):
    """What became of the runs that matched; `changed` (of `bulk-cancel`: `cancelled`) is 0 in
    a dry run."""

    matched: int
    changed: int | None = None
    cancelled: int | None = None
    errors: int
    dry_run: bool


_ACCEPTED: Final[dict[int | str, dict[str, Any]]] = {
    200: {"model": Changed, "description": "A dry run: what would be changed."},
    202: {"model": JobView, "description": "The job that was started; see `Location`."},
}
FILE_FIELD: Final = "contacts"
"""The field of a form that holds the file."""
_changing: Final = partial(
    router.post,
    openapi_extra=job(OPERATOR),
    status_code=202,
    response_model=None,
    responses=_ACCEPTED,
)
_CSV: Final = {
    "schema": {"type": "string", "format": "binary"},
    "example": "id,email\nc1,a@b.example\n",
}
_BESIDE: Final[dict[str, dict[str, Any]]] = {
    "plan": {"type": "string", "pattern": REFERENCE},
    "batchSize": {"type": "integer", "minimum": 1, "maximum": 100_000},
    "dedupe": {"enum": ["address", "id"]},
    "dryRun": {"type": "boolean"},
    "numbers": {"type": "string"},
    "booleans": {"type": "string"},
}
"""What is said beside a CSV file, but for `variables`."""
_FORM: Final = {
    "schema": {
        "type": "object",
        "required": ["plan", "contacts"],
        "properties": {
            **_BESIDE,
            "contacts": {"type": "string", "format": "binary"},
            "variables": {"type": "object"},
        },
    },
    "encoding": {"contacts": {"contentType": "text/csv"}},
}
_OBJECT: Final = {"application/json": {"schema": {"type": "object"}}}
_BODY: Final = {
    "parameters": [
        {"name": name, "in": "query", "description": "Beside a CSV file.", **how}
        for name, how in (
            *((name, {"schema": schema}) for name, schema in _BESIDE.items()),
            ("variables", {"content": _OBJECT}),
        )
    ],
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"$ref": "#/components/schemas/BulkExecute"},
                "example": {
                    "plan": "welcome",
                    "contacts": [{"id": "contact_123", "email": "jane@example.com"}],
                },
            },
            "text/csv": _CSV,
            "multipart/form-data": _FORM,
        },
    },
}


@router.post(
    "/runs/bulk-execute",
    openapi_extra=job(OPERATOR, **_BODY),
    status_code=202,
    response_model=JobView,
    summary="Enroll many contacts",
)
async def bulk_execute(
    request: Request,
    engine: EngineDep,
    jobs: JobsDep,
    actor: ActorDep,
    command: CommandDep,
    settings: SettingsDep,
) -> Response:
    """Enroll the contacts of a JSON document, or of a CSV file, which is streamed.

    A CSV file is the body itself (`text/csv`), with the rest in the query, or the file `contacts`
    of a form (`multipart/form-data`), with the rest in its other fields: `plan` (`id` or
    `id@version`), `batchSize`, `dedupe` (`address` or `id`), `dryRun`, `numbers` and `booleans`
    (columns, with commas between them), and `variables` as a JSON object; as for `dee enroll`.
    """
    kind = media_type(request.scope)
    if kind in ("text/csv", "multipart/form-data"):
        jobs.check_room()
        values, upload = await _file(request, kind, settings.uploads_at_once)
        release: Callable[[], object] = upload.close
        try:
            given = _parsed(CsvOptions, values)
            plan = await run_in_threadpool(plan_of, given.plan, engine)
        except BaseException:
            upload.close()
            raise
        work = intake.of_csv(engine, plan, upload, given, actor.name, command)
        # Not the body's own digest: a form is written anew around the same file, with other marks.
        digest = hashlib.sha256(given.told().encode() + upload.digest).digest()
    elif kind == "application/json":
        body = _parsed_json(intake.BulkExecute, await request.body())
        plan = await run_in_threadpool(plan_of, body.plan, engine)
        work = intake.of_json(engine, plan, body, actor.name, command)
        digest = hashlib.sha256(await request.body()).digest()
        release = _nothing
    else:
        raise Refused(
            415, "UnsupportedMediaType", "send application/json, text/csv or multipart/form-data"
        )
    made = await run_in_threadpool(
        jobs.start,
        "bulk-execute",
        actor.name,
        Role.OPERATOR,
        work,
        command_id=command,
        digest=b"bulk-execute" + digest,
        release=release,
    )
    return accepted(made)


async def _file(request: Request, kind: str, at_once: int) -> tuple[dict[str, str], uploads.Upload]:
    """The file, and what is said beside it."""
    query = dict(request.query_params)
    for name in query:
        # As of a form: of columns, the first ones would go unread without a word.
        if len(request.query_params.getlist(name)) > 1:
            raise InvalidInput(name, "is there twice")
    if kind == "text/csv":
        _parsed(CsvOptions, query)
        return query, await uploads.received(request, at_once)
    form = await uploads.received_form(request, at_once, FILE_FIELD)
    return {**query, **form.fields}, form.upload


@_changing("/runs/bulk-cancel", summary="Cancel many runs")
def bulk_cancel(
    engine: EngineDep, jobs: JobsDep, actor: ActorDep, command: CommandDep, given: BulkCancel
) -> Response:
    """Cancel all runs that match the filters."""
    return _change("bulk-cancel", given, engine.bulk_cancel, jobs, actor.name, command)


@_changing("/runs/bulk-pause", summary="Pause many runs")
def bulk_pause(
    engine: EngineDep, jobs: JobsDep, actor: ActorDep, command: CommandDep, given: BulkPause
) -> Response:
    """Pause all runs that match the filters and can be paused."""
    pause = partial(engine.bulk_pause, keep=given.keep)
    return _change("bulk-pause", given, pause, jobs, actor.name, command)


@_changing("/runs/bulk-resume", summary="Resume many runs")
def bulk_resume(
    engine: EngineDep, jobs: JobsDep, actor: ActorDep, command: CommandDep, given: BulkResume
) -> Response:
    """Resume all paused runs that match the filters."""
    resume = partial(engine.bulk_resume, per_tick=given.per_tick)
    return _change("bulk-resume", given, resume, jobs, actor.name, command)


@_changing("/runs/bulk-retry", summary="Retry many runs")
def bulk_retry(
    engine: EngineDep, jobs: JobsDep, actor: ActorDep, command: CommandDep, given: BulkRetry
) -> Response:
    """Retry all failed runs that match the filters. Those whose last send may have arrived count as
    errors and stay as they are."""
    retry = partial(engine.bulk_retry, per_tick=given.per_tick)
    return _change("bulk-retry", given, retry, jobs, actor.name, command)


def _change(
    kind: str,
    given: BulkCancel,
    change: Callable[..., BulkChange],
    jobs: Jobs,
    actor: str,
    command: str | None,
) -> Response:
    filters = _filters(given.filters)
    made = partial(
        change,
        filters,
        reason=given.reason,
        actor=actor,
        dry_run=given.dry_run,
        command_id=command,
    )
    if given.dry_run:
        return JSONResponse(_changed(kind, made(), dry_run=True))

    def work(running: Job) -> dict[str, Any]:
        def told(so_far: BulkChange) -> None:
            running.progress(so_far.done)
            running.result = _changed(kind, so_far, dry_run=False)
            running.check()

        return _changed(kind, made(on_progress=told), dry_run=False)

    digest = hashlib.sha256(kind.encode() + given.model_dump_json().encode()).digest()
    return accepted(jobs.start(kind, actor, Role.OPERATOR, work, command_id=command, digest=digest))


def _filters(given: RunFilters) -> dict[str, Any]:
    found = {name: value for name, value in dict(given).items() if value is not None}
    if found.get("status") == []:
        # Taken for no filter, it would let the others match runs of every status.
        raise InvalidInput("filters.status", "must be a status or a list of at least one")
    if not found:
        raise EmptyFilter("give at least one filter; without any it would be about all runs")
    return found


def _changed(kind: str, result: BulkChange, *, dry_run: bool) -> dict[str, Any]:
    name = "cancelled" if kind == "bulk-cancel" else "changed"
    return {
        "matched": result.matched,
        name: result.changed,
        "errors": result.errors,
        "dryRun": dry_run,
        "unchanged": [{"runId": run.run_id, "detail": run.detail} for run in result.unchanged],
    }


def accepted(made: Job) -> Response:
    """What a call that started a job answers."""
    body = made.view().model_dump_json(by_alias=True)
    headers = {"Location": f"/api/v1/jobs/{made.id}"}
    return Response(body, 202, headers, "application/json")


def _parsed(model: type[_Model], values: Mapping[str, Any]) -> _Model:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise RequestValidationError(error.errors(include_input=False)) from None


def _parsed_json(model: type[_Model], body: bytes) -> _Model:
    try:
        return model.model_validate_json(body.decode())
    except UnicodeDecodeError as error:
        raise Refused(400, "BadRequest", not_utf8(error)) from None
    except ValidationError as error:
        raise RequestValidationError(error.errors(include_input=False)) from None


def _nothing() -> None:
    """There is nothing to let go."""
