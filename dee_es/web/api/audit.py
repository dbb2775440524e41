"""The audit trail, and whether the log is what was written."""

from __future__ import annotations

import hashlib
import os
from typing import Annotated, Any, Final

from fastapi import Query, Response
from pydantic import Field

from dee_es.engine.auditing.entries import AuditLogEntry, AuditPage
from dee_es.engine.auditing.signing import SignedCheckpoint
from dee_es.engine.auditing.verdicts import LogVerdict
from dee_es.engine.past.time_travel import RunContext
from dee_es.web.api.bulk import accepted
from dee_es.web.api.models import Given, GivenId, Numbered, Purpose, UtcTime, plain, shown
from dee_es.web.jobs import Job, JobView
from dee_es.web.routing import (
    OPERATOR,
    VIEWER,
    ActorDep,
    CommandDep,
    EngineDep,
    Id,
    JobsDep,
    api_router,
    job,
)
from dee_es.web.security.roles import Role

router: Final = api_router("audit")

_EVERY: Final = 5_000
_SIGNED: Final = ("checkpoint.signed",)


class Paging(Given):
    """Which page of entries."""

    limit: int = Field(100, ge=1, le=1_000)
    cursor: str | None = Field(None, max_length=1_000)


class AuditQuery(Paging):
    """The filters of the audit trail; `text` is looked for in reasons, without regard to case."""

    run_id: GivenId | None = None
    contact_id: GivenId | None = None
    plan_id: GivenId | None = None
    actions: list[str] = Field(default_factory=list, max_length=100)
    actor: str | None = Field(None, min_length=1, max_length=1_000)
    since: UtcTime | None = Field(None, description="Inclusive; ISO 8601 with a zone.")
    until: UtcTime | None = Field(None, description="Exclusive; ISO 8601 with a zone.")
    text: str | None = Field(None, min_length=1, max_length=1_000)
    purpose: Purpose = None


class Verification(Given):
    """How many of the server's processes share the work, at most one for each of its
    processors."""

    workers: Annotated[int, Field(strict=True, ge=1, le=1_000)] = 1


class Visit(Given):
    """A step of a run, and which of its visits: the last one by default."""

    step_id: GivenId
    visit: Numbered | None = None


@router.get("/audit", openapi_extra=VIEWER, summary="Search the audit trail")
def query(engine: EngineDep, actor: ActorDep, given: Annotated[AuditQuery, Query()]) -> AuditPage:
    """Entries that match all filters given, by time; `total` is exact. Unless it is about one run
    or one contact, the log says who asked."""
    return engine.audit.query(
        given.run_id,
        given.contact_id,
        given.plan_id,
        list(given.actions) or None,
        given.actor,
        given.since,
        given.until,
        given.text,
        given.limit,
        given.cursor,
        asked_by=actor.name,
        purpose=given.purpose,
    )


@router.get("/audit/runs/{run_id}", openapi_extra=VIEWER, summary="All entries of a run")
def by_run(engine: EngineDep, run_id: Id) -> list[AuditLogEntry]:
    """All entries of a run, in order."""
    return engine.audit.get_by_run(run_id)


@router.get("/audit/runs/{run_id}/context", openapi_extra=VIEWER, summary="What a step read")
def context(engine: EngineDep, run_id: Id, given: Annotated[Visit, Query()]) -> RunContext:
    """What the decision of a step read."""
    return engine.audit.get_context_at(run_id, given.step_id, visit=given.visit)


@router.post(
    "/audit/verify",
    openapi_extra=job(OPERATOR),
    status_code=202,
    response_model=JobView,
    summary="Verify the whole log",
)
def verify(
    engine: EngineDep,
    jobs: JobsDep,
    actor: ActorDep,
    command: CommandDep,
    given: Verification | None = None,
) -> Response:
    """Check every chain and the order of the whole log, as a job."""
    asked = given or Verification()
    workers = min(asked.workers, os.cpu_count() or 1)

    def work(running: Job) -> dict[str, Any]:
        total = engine.metrics().position

        def told(position: int) -> None:
            running.progress(position, max(total, position))
            running.check()

        return plain(LogVerdict, engine.verify_log(told, workers=workers))

    digest = hashlib.sha256(f"verify {asked.model_dump_json()}".encode()).digest()
    return accepted(
        jobs.start(
            "audit-verify", actor.name, Role.OPERATOR, work, command_id=command, digest=digest
        )
    )


@router.post(
    "/audit/checkpoint",
    openapi_extra=OPERATOR,
    response_model=shown(SignedCheckpoint),
    summary="Sign a checkpoint",
)
def checkpoint(engine: EngineDep, actor: ActorDep, command: CommandDep) -> SignedCheckpoint:
    """Put the log as it stands under a signed root and keep that outside the database."""
    return engine.audit.checkpoint(actor.name, command_id=command)


@router.get("/audit/checkpoints", openapi_extra=VIEWER, summary="Checkpoints that were signed")
def checkpoints(engine: EngineDep, actor: ActorDep, given: Annotated[Paging, Query()]) -> AuditPage:
    """The entries that record checkpoints: `output` holds size, root, note and places."""
    return engine.audit.query(
        actions=_SIGNED, limit=given.limit, cursor=given.cursor, asked_by=actor.name
    )
