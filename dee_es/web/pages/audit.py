"""The audit trail: searched by every filter, verified as a whole, put under checkpoints, proven."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, Final

from fastapi import Request, Response

from dee_es.core.registry import ACTIONS
from dee_es.errors import InvalidInput
from dee_es.web.api import audit as api
from dee_es.web.idempotency import command_id_of
from dee_es.web.pages import inputs, rendering
from dee_es.web.pages.jobs import job_page_of
from dee_es.web.routing import OPERATOR, VIEWER, ActorDep, EngineDep, JobsDep, job, page_router

router: Final = page_router()

_NAMES: Final = ("run", "contact", "plan", "actor", "since", "until", "text")
_SIGNED: Final = "checkpoint.signed"


@router.get("/audit", openapi_extra=VIEWER)
def search(request: Request, engine: EngineDep) -> Response:
    """Entries that match all filters, by time."""
    filters = {name: inputs.given(request, name) for name in _NAMES}
    actions = inputs.all_given(request, "action")
    limit, now = inputs.size(request), engine.now().now
    cursor = inputs.given(request, "cursor")
    found = engine.audit.query(
        filters["run"],
        filters["contact"],
        filters["plan"],
        actions or None,
        filters["actor"],
        inputs.moment("since", filters["since"], now),
        inputs.moment("until", filters["until"], now),
        filters["text"],
        limit,
        cursor,
    )
    base: dict[str, Any] = {**filters, "action": actions, "limit": None if limit == 50 else limit}
    following = {**base, "cursor": found.next_cursor}
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
        following=rendering.address("/audit", following) if found.next_cursor else None,
        checkpoints=engine.audit.query(actions=[_SIGNED], limit=1).total,
    )


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
