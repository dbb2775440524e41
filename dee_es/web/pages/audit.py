"""The audit trail: searched, verified, put under checkpoints, proven, given out, reported on."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Final, get_args

from fastapi import Form, Request, Response

from dee_es.core.registry import ACTIONS
from dee_es.engine.auditing.entries import AuditPage
from dee_es.engine.facade import EngineApi
from dee_es.errors import InvalidInput
from dee_es.web.api import audit as api
from dee_es.web.api import evidence
from dee_es.web.idempotency import command_id_of
from dee_es.web.pages import inputs, rendering
from dee_es.web.pages.jobs import job_page_of
from dee_es.web.routing import OPERATOR, VIEWER, ActorDep, EngineDep, JobsDep, job, page_router
from dee_es.web.security.scopes import is_foreign

router: Final = page_router()

_NAMES: Final = ("run", "contact", "plan", "actor", "since", "until", "text")
_TIMES: Final = ("since", "until")
_SIGNED: Final = "checkpoint.signed"
Short = Annotated[str, Form(max_length=200)]


@router.get("/audit", openapi_extra=VIEWER)
def search(request: Request, engine: EngineDep, actor: ActorDep) -> Response:
    """Entries that match all filters, by time; nothing is looked for before somebody asks, since
    a search across runs and contacts is put on record, and a link of another site asks nothing."""
    filters = {name: inputs.given(request, name) for name in _NAMES}
    actions = inputs.all_given(request, "action")
    limit = inputs.size(request)
    cursor = inputs.given(request, "cursor")
    named = any(name != "done" for name in request.query_params)
    asked = named and not is_foreign(request.scope)
    times: dict[str, datetime | None] = {}
    if asked:
        now = engine.now().now
        times = {name: inputs.moment(name, filters[name], now) for name in _TIMES}
    base: dict[str, Any] = {
        **filters,
        **{name: inputs.lasting(filters[name], moment) for name, moment in times.items()},
        "action": actions,
        "limit": None if limit == 50 else limit,
        "search": "1",
    }
    behind = rendering.unless_level(request, engine, "audit_trail") if asked else None
    if behind is not None:
        return behind
    found = _found(request, engine, actor.name, filters, times, actions, limit) if asked else None
    following = None if found is None else found.next_cursor
    return rendering.page(
        request,
        engine,
        "audit.html",
        found=found,
        filters=filters,
        actions=actions,
        known_actions=sorted(ACTIONS),
        limit=limit,
        sizes=inputs.SIZES,
        first=rendering.address("/audit", base) if cursor is not None else None,
        following=rendering.address("/audit", {**base, "cursor": following}) if following else None,
        formats=get_args(evidence.Export.model_fields["format"].annotation),
    )


def _found(
    request: Request,
    engine: EngineApi,
    actor: str,
    filters: Mapping[str, str | None],
    times: Mapping[str, datetime | None],
    actions: list[str],
    limit: int,
) -> AuditPage:
    return engine.audit.query(
        filters["run"],
        filters["contact"],
        filters["plan"],
        actions or None,
        filters["actor"],
        times["since"],
        times["until"],
        filters["text"],
        limit,
        inputs.given(request, "cursor"),
        asked_by=actor,
    )


@router.post("/audit/export", openapi_extra=job(OPERATOR))
def export(
    engine: EngineDep,
    jobs: JobsDep,
    actor: ActorDep,
    key: inputs.Key,
    run: Short = "",
    contact: Short = "",
    since: Short = "",
    until: Short = "",
    format: Short = "zip",
    personal: Short = "",
    reason: inputs.Text = "",
) -> Response:
    """Give out entries as a file; the log records who asked for what."""
    now = engine.now().now
    given: dict[str, Any] = {
        "runId": inputs.optional(run),
        "contactId": inputs.optional(contact),
        "since": inputs.moment("since", inputs.optional(since), now),
        "until": inputs.moment("until", inputs.optional(until), now),
        "format": format,
        "personalData": personal == "yes",
        "reason": inputs.required_reason(reason),
    }
    asked = inputs.checked(evidence.Export, given)
    command = command_id_of(actor.name, key)
    return job_page_of(evidence.export(engine, jobs, actor, command, asked))


@router.get("/report", openapi_extra=VIEWER)
def reports(request: Request, engine: EngineDep, jobs: JobsDep) -> Response:
    """Where a compliance report is asked for."""
    made = [each.view() for each in jobs.all() if each.kind == "report"]
    return rendering.page(
        request,
        engine,
        "report.html",
        jobs=made,
        parts=get_args(evidence.Part),
        formats=("html", "pdf", "md", "json"),
    )


@router.post("/report", openapi_extra=job(OPERATOR))
def report(
    engine: EngineDep,
    jobs: JobsDep,
    actor: ActorDep,
    key: inputs.Key,
    since: Short = "",
    until: Short = "",
    zone: Short = "UTC",
    format: Short = "html",
    include: Annotated[list[str], Form()] = [],  # noqa: B006 - never changed, and None is no list
    reason: inputs.Text = "",
) -> Response:
    """Make a compliance report of a period, as a job."""
    now = engine.now().now
    given: dict[str, Any] = {
        "since": inputs.moment("since", inputs.optional(since), now),
        "until": inputs.moment("until", inputs.optional(until), now) or now,
        "zone": zone.strip() or "UTC",
        "format": format,
        "include": include or None,
        "reason": inputs.optional(reason),
    }
    asked = inputs.checked(evidence.Report, given)
    command = command_id_of(actor.name, key)
    return job_page_of(evidence.report(engine, jobs, actor, command, asked))


@router.post("/audit/verify", openapi_extra=job(OPERATOR))
def verify(engine: EngineDep, jobs: JobsDep, actor: ActorDep, key: inputs.Key) -> Response:
    """Check every chain and the order of the whole log, as a job."""
    return job_page_of(api.verify(engine, jobs, actor, command_id_of(actor.name, key)))


@router.post("/audit/checkpoint", openapi_extra=OPERATOR)
def checkpoint(engine: EngineDep, actor: ActorDep, key: inputs.Key) -> Response:
    """Put the log as it stands under a signed root, and keep that outside the database."""
    engine.audit.checkpoint(actor.name, command_id=command_id_of(actor.name, key))
    return rendering.see("/audit", {"action": _SIGNED, "done": "checkpoint"})


@router.get("/audit/proof", openapi_extra=VIEWER)
def proof(request: Request, engine: EngineDep) -> Response:
    """The proof that an entry is in the log of the last checkpoint, as a file."""
    stream = inputs.given(request, "stream")
    if stream is None:
        raise InvalidInput("stream", "name a run or another stream")
    entry = inputs.number(request, "entry", 1, least=1, most=2**53)
    found = engine.audit.prove(stream, entry)
    headers = {"Content-Disposition": 'attachment; filename="dee-proof.json"'}
    body = json.dumps(dataclasses.asdict(found), indent=1) + "\n"
    return Response(body, 200, headers, "application/json")
