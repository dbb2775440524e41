"""Projections: how they stand, rebuilt and verified as jobs."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from functools import partial
from math import inf
from typing import Annotated, Final

from fastapi import Path, Query, Response
from pydantic import BaseModel, Field

from dee_es.engine.facade import EngineApi
from dee_es.engine.models import Answer
from dee_es.engine.projecting.manager import MOST_PAGE, PAGE
from dee_es.engine.projecting.models import (
    CaughtUp,
    ParkedStream,
    ProjectionStatus,
    RebuildEstimate,
    RebuildProgress,
)
from dee_es.web.api.bulk import accepted
from dee_es.web.api.models import Flag, Given, GivenId, plain
from dee_es.web.jobs import Job, Jobs, JobView, Work
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
from dee_es.web.security.roles import Actor, Role

router: Final = api_router("projections")

_starts: Final = partial(router.post, status_code=202, response_model=JobView)

_A_LITTLE_S: Final = 1.0

Name = Annotated[str, Path(pattern=r"^[a-z_]{1,64}$")]
StreamId = Annotated[str, Field(min_length=1, max_length=300)]
Share = Annotated[float, Field(ge=0.05, le=1.0)]


class Standing(Answer):
    """How every projection stands, and the streams that could not be folded."""

    projections: tuple[ProjectionStatus, ...]
    parked: tuple[ParkedStream, ...]


class Throttle(Given):
    """`throttle` is the share of the time to work, up to 1; `page` so many events are read at a
    time."""

    throttle: Share = 1.0
    page: Annotated[int, Field(strict=True, ge=1, le=MOST_PAGE)] = PAGE


class Rebuild(Throttle):
    """`compare` with what serves; `accept` differences all the same; `restart` from the beginning
    rather than where a rebuild was broken off."""

    compare: Flag = True
    accept: Flag = False
    restart: Flag = False


class OfVersion(Given):
    """Only builds of this version; without it all that do not serve."""

    version: Annotated[int, Field(strict=True, ge=1, le=2**31)] | None = None


class Dropped(Answer):
    """The names of the tables that are gone."""

    tables: tuple[str, ...]


class Looked(Given):
    """Whether rows and bytes are counted, which takes as long as the tables are large."""

    count: bool = False


class CatchUp(Given):
    """For so many seconds at most; without them until it is level with the log."""

    within_s: Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)] | None = None


class Refold(Given):
    """A run, or a contact with all its runs: give one of them."""

    run_id: GivenId | None = None
    contact_id: GivenId | None = None


class Retry(Given):
    """Which stream, such as a run; without one all that are parked."""

    stream_id: StreamId | None = None


@router.get("/projections", openapi_extra=VIEWER, summary="How projections stand")
def status(engine: EngineDep, given: Annotated[Looked, Query()]) -> Standing:
    """How every projection stands. Nothing is caught up for it, so that lag can be seen. Unless
    `count` is given, `rows` follow from the number of runs: `rowsExact` says whether they are so
    many, or about so many."""
    found = engine.projections.status(given.count)
    return Standing(projections=found, parked=engine.projections.parked())


@_starts("/projections/{name}/rebuild", openapi_extra=job(ADMIN), summary="Rebuild a projection")
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

    def work(running: Job) -> BaseModel:
        told = partial(_tell, running)
        rebuilt = engine.projections.rebuild(name, on_progress=told, **dict(asked))
        running.ended()
        return rebuilt

    start = _starting(engine, jobs, actor, command, name)
    return start("rebuild", Role.ADMIN, asked, work)


@_starts("/projections/{name}/verify", openapi_extra=job(OPERATOR), summary="Verify a projection")
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

    def work(running: Job) -> BaseModel:
        told = partial(_tell, running)
        verified = engine.projections.verify(name, on_progress=told, **dict(asked))
        running.ended()
        return verified

    start = _starting(engine, jobs, actor, command, name)
    return start("verify", Role.OPERATOR, asked, work)


@_starts(
    "/projections/{name}/retry", openapi_extra=job(OPERATOR), summary="Fold parked streams again"
)
def retry(
    engine: EngineDep,
    jobs: JobsDep,
    actor: ActorDep,
    command: CommandDep,
    name: Name,
    given: Retry | None = None,
) -> Response:
    """Fold the parked streams of a projection, or one of them, after what held them up was mended;
    those that still cannot be folded stay parked."""
    asked = given or Retry()

    def work(running: Job) -> BaseModel:
        return engine.projections.retry(name, asked.stream_id)

    start = _starting(engine, jobs, actor, command, name)
    return start("retry", Role.OPERATOR, asked, work)


@_starts("/projections/{name}/refold", openapi_extra=job(OPERATOR), summary="Fold a run anew")
def refold(
    engine: EngineDep,
    jobs: JobsDep,
    actor: ActorDep,
    command: CommandDep,
    name: Name,
    given: Refold,
) -> Response:
    """Make the rows of one run anew, or those of a contact and all its runs, as a job."""

    def work(running: Job) -> BaseModel:
        return engine.projections.refold(name, **dict(given))

    start = _starting(engine, jobs, actor, command, name)
    return start("refold", Role.OPERATOR, given, work)


@_starts("/projections/{name}/catch-up", openapi_extra=job(OPERATOR), summary="Catch up")
def catch_up(
    engine: EngineDep,
    jobs: JobsDep,
    actor: ActorDep,
    command: CommandDep,
    name: Name,
    given: CatchUp | None = None,
) -> Response:
    """Fold what a projection has not seen yet, as a job. Ended early, what was folded stays so."""
    asked = given or CatchUp()

    def work(running: Job) -> BaseModel:
        return _caught_up(engine, running, name, asked.within_s)

    start = _starting(engine, jobs, actor, command, name)
    return start("catch up", Role.OPERATOR, asked, work)


@router.post("/projections/{name}/drop", openapi_extra=ADMIN, summary="Drop what does not serve")
def drop(
    engine: EngineDep, command: CommandDep, name: Name, given: OfVersion | None = None
) -> Dropped:
    """Drop former builds, and rebuilds that were broken off."""
    del command  # its key is what keeps the answer for a repetition
    _known(engine, name)
    return Dropped(tables=engine.projections.drop(name, (given or OfVersion()).version))


@router.get("/projections/{name}/estimate", openapi_extra=VIEWER, summary="What a rebuild takes")
def estimate(engine: EngineDep, name: Name) -> RebuildEstimate:
    """What a rebuild would take; nothing is written."""
    _known(engine, name)
    return engine.projections.estimate(name)


def _starting(
    engine: EngineApi, jobs: Jobs, actor: Actor, command: str | None, name: str
) -> Callable[[str, Role, Given, Work], Response]:
    """What starts a job about a projection that is known."""
    _known(engine, name)

    def start(verb: str, role: Role, asked: Given, work: Work) -> Response:
        kind = f"{verb} {name}"
        digest = hashlib.sha256(f"{kind} {asked.model_dump_json()}".encode()).digest()
        return accepted(jobs.start(kind, actor.name, role, work, command_id=command, digest=digest))

    return start


def _caught_up(engine: EngineApi, running: Job, name: str, within_s: float | None) -> CaughtUp:
    """How far it came; a little at a time, so that it can be ended in between."""
    ends = inf if within_s is None else time.monotonic() + within_s
    head, before = None, -1
    while True:
        left = max(0.0, ends - time.monotonic())
        found = engine.projections.catch_up(name, within_s=min(_A_LITTLE_S, left))
        head = found.head if head is None else head
        far = found.model_copy(update={"head": head})
        running.progress(far.position, max(head, far.position))
        if far.level or far.position == before or time.monotonic() >= ends:
            return far
        before = far.position
        running.check()


def _known(engine: EngineApi, name: str) -> None:
    if name not in engine.projections.names:
        known = ", ".join(engine.projections.names)
        raise Refused(404, "ProjectionNotFound", f"there is no such projection; there are {known}")


def _tell(running: Job, told: RebuildProgress) -> None:
    running.progress(told.done, told.total)
    running.result = plain(RebuildProgress, told)
    # Once it is being put in place there is nothing left to end early.
    if told.phase != "swapping":
        running.check()
