"""Ended runs taken out of the log into verified files, and whether these still are what they were.

Nobody names a place of his own: archives go to that of the engine's settings, or to one that the
server was told of when it was started.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Final

from fastapi import Response
from pydantic import Field

from dee_es.engine.retention.models import Archive, ArchiveResult, ArchiveVerdict
from dee_es.errors import InvalidInput
from dee_es.web.api.bulk import accepted
from dee_es.web.api.models import Flag, Given, Text, UtcTime, listed, plain
from dee_es.web.jobs import Job, JobView
from dee_es.web.routing import (
    ADMIN,
    OPERATOR,
    VIEWER,
    ActorDep,
    CommandDep,
    EngineDep,
    JobsDep,
    SettingsDep,
    api_router,
    job,
)
from dee_es.web.security.roles import Role
from dee_es.web.settings import WebSettings

router: Final = api_router("audit")

Place = Annotated[str, Field(min_length=1, max_length=2_000)]


class ArchiveGiven(Given):
    """Which runs: those that ended before a time. `place` is one of those that the server was told
    of, by default that of the settings; `dryRun` only counts."""

    before: UtcTime = Field(description="Exclusive; ISO 8601 with a zone.")
    place: Place | None = None
    reason: Text | None = None
    dry_run: Flag = False


class ArchivesGiven(Given):
    """Where the archives were moved to, one of the places that the server was told of; without it
    each is read where it was written."""

    place: Place | None = None


@router.post(
    "/audit/archive",
    openapi_extra=job(ADMIN),
    status_code=202,
    response_model=JobView,
    summary="Archive ended runs",
)
def archive(
    engine: EngineDep,
    jobs: JobsDep,
    actor: ActorDep,
    command: CommandDep,
    settings: SettingsDep,
    given: ArchiveGiven,
) -> Response:
    """Take runs that ended before a time out of the log, into files that are read back before
    anything leaves, as a job. Ended early, what was archived stays so, and the same call goes on.
    """
    _check(settings, given.place)

    def work(running: Job) -> dict[str, Any]:
        def told(so_far: ArchiveResult) -> None:
            running.progress(so_far.runs + so_far.held)
            running.result = plain(ArchiveResult, so_far)
            running.check()

        return plain(
            ArchiveResult,
            engine.audit.archive(
                given.before,
                place=given.place,
                reason=given.reason,
                actor=actor.name,
                dry_run=given.dry_run,
                on_progress=told,
                command_id=command,
            ),
        )

    digest = hashlib.sha256(f"archive {given.model_dump_json()}".encode()).digest()
    return accepted(
        jobs.start("archive", actor.name, Role.ADMIN, work, command_id=command, digest=digest)
    )


@router.get(
    "/audit/archives",
    openapi_extra=VIEWER,
    response_model=listed(Archive),
    summary="List archives",
)
def archives(engine: EngineDep) -> list[Archive]:
    """All archives that were written, in order."""
    return engine.audit.archives()


@router.post(
    "/audit/archives/verify",
    openapi_extra=job(OPERATOR),
    status_code=202,
    response_model=JobView,
    summary="Verify archives",
)
def verify(
    engine: EngineDep,
    jobs: JobsDep,
    actor: ActorDep,
    command: CommandDep,
    settings: SettingsDep,
    given: ArchivesGiven | None = None,
) -> Response:
    """Read every archive and compare it with what the log says of it, as a job. The result counts
    the runs and entries that were looked at, and has a verdict of each archive."""
    asked = given or ArchivesGiven()
    _check(settings, asked.place)

    def work(running: Job) -> dict[str, Any]:
        total = sum(each.runs for each in engine.audit.archives())
        looked_at: dict[str, Any] = {"runs": 0, "entries": 0}

        def told(so_far: ArchiveResult) -> None:
            running.progress(so_far.runs, total)
            looked_at.update(runs=so_far.runs, entries=so_far.entries)
            running.result = dict(looked_at)
            running.check()

        verdicts = engine.audit.verify_archives(asked.place, told)
        return {**looked_at, "verdicts": [plain(ArchiveVerdict, each) for each in verdicts]}

    kind = "archives-verify"
    digest = hashlib.sha256(f"{kind} {asked.model_dump_json()}".encode()).digest()
    return accepted(
        jobs.start(kind, actor.name, Role.OPERATOR, work, command_id=command, digest=digest)
    )


def _check(settings: WebSettings, place: str | None) -> None:
    if place is not None and place not in settings.archive_places:
        # What was sent is not repeated: a URL may hold a password.
        raise InvalidInput(
            "place", "is none that this server archives to: dee serve --archive-place adds one"
        )
