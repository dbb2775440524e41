"""Projections: how they stand, rebuilt and verified as jobs."""

from __future__ import annotations

import hashlib
from typing import Annotated, Final

from fastapi import Path, Response
from pydantic import BaseModel, Field

from dee_es.engine.facade import EngineApi
from dee_es.engine.models import Answer
from dee_es.engine.projecting.models import ParkedStream, ProjectionStatus, RebuildProgress
from dee_es.web.api.bulk import accepted
from dee_es.web.api.models import Flag, Given
from dee_es.web.jobs import Job, JobView
from dee_es.web.problems import Refused
from dee_es.web.routing import (
    ADMIN,
    OPERATOR,
    VIEWER,
    ActorDep,
    CommandDep,
    EngineDep,
    JobsDep,
    api_router,
    job,
)
from dee_es.web.security.roles import Role

router: Final = api_router("projections")

Name = Annotated[str, Path(pattern=r"^[a-z_]{1,64}$")]
Share = Annotated[float, Field(ge=0.05, le=1.0)]


class Standing(Answer):
    """How every projection stands, and the streams that could not be folded."""

    projections: tuple[ProjectionStatus, ...]
    parked: tuple[ParkedStream, ...]


class Throttle(Given):
    """`throttle` is the share of the time to work, up to 1."""

    throttle: Share = 1.0


class Rebuild(Throttle):
    """`compare` with what serves; `accept` differences all the same; `restart` from the beginning
    rather than where a rebuild was broken off."""

    compare: Flag = True
    accept: Flag = False
    restart: Flag = False


@router.get("/projections", openapi_extra=VIEWER, summary="How projections stand")
def status(engine: EngineDep) -> Standing:
    """How every projection stands. Nothing is caught up for it, so that lag can be seen."""
    return Standing(projections=engine.projections.status(), parked=engine.projections.parked())


@router.post(
    "/projections/{name}/rebuild",
    openapi_extra=job(ADMIN),
    status_code=202,
    response_model=JobView,
    summary="Rebuild a projection",
)
def rebuild(
    engine: EngineDep,
    jobs: JobsDep,
    actor: ActorDep,
    command: CommandDep,
    name: Name,
    given: Rebuild | None = None,
) -> Response:
    """Build a projection anew beside the one that serves, compare, and swap, as a job. Ended
    early, it goes on where it was when it is started again."""
    asked = given or Rebuild()
    _known(engine, name)

    def work(running: Job) -> BaseModel:
        return engine.projections.rebuild(
            name,
            throttle=asked.throttle,
            compare=asked.compare,
            accept=asked.accept,
            restart=asked.restart,
            on_progress=lambda told: _tell(running, told),
        )

    digest = hashlib.sha256(f"rebuild {name} {asked.model_dump_json()}".encode()).digest()
    return accepted(
        jobs.start(
            f"rebuild {name}", actor.name, Role.ADMIN, work, command_id=command, digest=digest
        )
    )


@router.post(
    "/projections/{name}/verify",
    openapi_extra=job(OPERATOR),
    status_code=202,
    response_model=JobView,
    summary="Verify a projection",
)
def verify(
    engine: EngineDep,
    jobs: JobsDep,
    actor: ActorDep,
    command: CommandDep,
    name: Name,
    given: Throttle | None = None,
) -> Response:
    """Fold the whole log anew beside the live table and compare, as a job; nothing live changes."""
    asked = given or Throttle()
    _known(engine, name)

    def work(running: Job) -> BaseModel:
        return engine.projections.verify(
            name, throttle=asked.throttle, on_progress=lambda told: _tell(running, told)
        )

    digest = hashlib.sha256(f"verify {name} {asked.model_dump_json()}".encode()).digest()
    return accepted(
        jobs.start(
            f"verify {name}", actor.name, Role.OPERATOR, work, command_id=command, digest=digest
        )
    )


def _known(engine: EngineApi, name: str) -> None:
    if name not in engine.projections.names:
        known = ", ".join(engine.projections.names)
        raise Refused(404, "ProjectionNotFound", f"there is no such projection; there are {known}")


def _tell(running: Job, told: RebuildProgress) -> None:
    running.progress(told.done, told.total)
    # Once it is being put in place there is nothing left to end early.
    if told.phase != "swapping":
        running.check()
