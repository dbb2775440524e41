"""All runs decided again from the log, as a job."""

from __future__ import annotations

import hashlib
import os
from typing import Annotated, Any, Final

from fastapi import Response
from pydantic import Field

from dee_es.engine.past.replay_results import Divergence, ReplaySummary
from dee_es.web.api.bulk import accepted
from dee_es.web.api.models import Given, shown
from dee_es.web.api.run_filters import RunFilters
from dee_es.web.jobs import Job, JobView
from dee_es.web.routing import (
    OPERATOR,
    ActorDep,
    CommandDep,
    EngineDep,
    JobsDep,
    api_router,
    job,
)
from dee_es.web.security.roles import Role

router: Final = api_router("bulk")


class BulkReplay(Given):
    """Which runs to decide again, all by default, and how many of the server's processes share the
    work, at most one for each of its processors."""

    filters: RunFilters = Field(default_factory=RunFilters)
    workers: Annotated[int, Field(strict=True, ge=1, le=1_000)] = 1


@router.post(
    "/runs/bulk-replay",
    openapi_extra=job(OPERATOR),
    status_code=202,
    response_model=JobView,
    summary="Decide many runs again",
)
def bulk_replay(
    engine: EngineDep,
    jobs: JobsDep,
    actor: ActorDep,
    command: CommandDep,
    given: BulkReplay | None = None,
) -> Response:
    """Replay all runs that match the filters, and compare; nothing is written or sent. The job's
    result counts the runs by what came of them, and its file (JSON, one a line) has the first
    difference of each run that has one."""
    asked = given or BulkReplay()
    filters = {name: value for name, value in dict(asked.filters).items() if value != []}
    workers = min(asked.workers, os.cpu_count() or 1)

    def work(running: Job) -> dict[str, Any]:
        total = engine.list_runs(limit=1, **filters).total
        file = running.make_file("divergences", "jsonl")

        def told(so_far: ReplaySummary) -> None:
            running.progress(so_far.runs, max(total, so_far.runs))
            running.result = _summed(so_far)
            running.check()

        def diverged(found: Divergence) -> None:
            line = shown(Divergence).model_validate(found, from_attributes=True)
            file.write(line.model_dump_json(by_alias=True).encode() + b"\n")

        return _summed(
            engine.replay_all(**filters, workers=workers, on_progress=told, on_divergence=diverged)
        )

    kind = "bulk-replay"
    digest = hashlib.sha256(f"{kind} {asked.model_dump_json()}".encode()).digest()
    return accepted(
        jobs.start(kind, actor.name, Role.OPERATOR, work, command_id=command, digest=digest)
    )


def _summed(summary: ReplaySummary) -> dict[str, Any]:
    return {
        "runs": summary.runs,
        "events": summary.events,
        "identical": summary.identical,
        "different": summary.different,
        "erased": summary.erased,
        "unreadable": summary.unreadable,
        "causes": dict(summary.causes.most_common()),
    }
