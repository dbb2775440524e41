"""The past of a run: what happened, how it stood, and whether it can be believed."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from fastapi import Query
from pydantic import Field

from dee_es.core.events import RecordedEvent
from dee_es.core.plans.plan import load_plan
from dee_es.engine.auditing.verdicts import ChainVerdict
from dee_es.engine.models import Answer, LogEntry, TimelineEntry
from dee_es.engine.past.explain import Explanation
from dee_es.engine.past.replay_results import ReplayResult
from dee_es.engine.past.time_travel import Change, RunAt
from dee_es.web.api.models import Given, GivenId, Numbered, UtcTime, Values, listed, shown
from dee_es.web.routing import (
    OPERATOR,
    VIEWER,
    ActorDep,
    CommandDep,
    EngineDep,
    Id,
    api_router,
)

router: Final = api_router("history")

_COUNT: Final = 2**53


Tick = Annotated[int, Field(ge=-_COUNT, le=_COUNT, json_schema_extra={"minimum": 0})]
"""A tick; when a run began only the engine knows, and says so."""


class Moment(Given):
    """A moment of a run: after its event `version`, or the last one up to a tick or a time."""

    version: Numbered | None = None
    tick: Tick | None = None
    time: UtcTime | None = None


class Between(Given):
    """Two versions of a run."""

    from_version: Numbered = Field(alias="from")
    to_version: Numbered = Field(alias="to")


class Against(Given):
    """What a run is decided again by: its own plan version, or another one."""

    plan_version: Numbered | None = None


class Other(Against):
    """A plan, or a version of the run's own, and templates by their ids: `text` and maybe `html`.
    Templates that are not named stay as they were."""

    plan: Values | None = None
    templates: dict[GivenId, Values] | None = Field(None, max_length=1_000)


class EventMeta(Answer):
    """When, by which command and by whom an event came about. `recordedAt` is wall time in ms since
    1970 UTC."""

    tick: int
    command_id: str
    command: str
    recorded_at: int
    actor: str | None
    reason: str | None


class EventView(Answer):
    """An event as it was recorded; `event` has the names of the log, `position` is its place in the
    whole log, `ordinal` the number of the run that it creates, else 0."""

    stream_id: str
    version: int
    name: str
    position: int
    meta: EventMeta
    event: Values
    ordinal: int
    erased: bool

    @classmethod
    def of(cls, recorded: RecordedEvent) -> EventView:
        """How an event is shown."""
        fields = msgspec.structs.asdict(recorded)
        meta = EventMeta(**msgspec.structs.asdict(recorded.meta))
        return cls(**{**fields, "meta": meta, "event": msgspec.to_builtins(recorded.event)})


@router.get(
    "/runs/{run_id}/timeline",
    openapi_extra=VIEWER,
    response_model=listed(TimelineEntry),
    summary="What happened",
)
def timeline(engine: EngineDep, run_id: Id) -> list[TimelineEntry]:
    """What happened in a run, in order."""
    return engine.get_timeline(run_id)


@router.get(
    "/runs/{run_id}/logs",
    openapi_extra=VIEWER,
    response_model=listed(LogEntry),
    summary="All that was recorded",
)
def logs(engine: EngineDep, run_id: Id) -> list[LogEntry]:
    """All that was recorded in a run, personal data included unless it was erased."""
    return engine.get_logs(run_id)


@router.get("/runs/{run_id}/events", openapi_extra=VIEWER, summary="Its events")
def events(engine: EngineDep, run_id: Id) -> list[EventView]:
    """All events of a run as they were recorded, verified; personal data included unless it was
    erased."""
    return [EventView.of(recorded) for recorded in engine.get_events(run_id)]


@router.get(
    "/runs/{run_id}/explain",
    openapi_extra=VIEWER,
    response_model=shown(Explanation),
    summary="Why it does what it does",
)
def explain(engine: EngineDep, run_id: Id) -> Explanation:
    """What the run is doing and why, what a person can do, and how it came to that."""
    return engine.explain(run_id)


@router.get("/runs/{run_id}/at", openapi_extra=VIEWER, summary="A run as it stood")
def at(engine: EngineDep, run_id: Id, given: Annotated[Moment, Query()]) -> RunAt:
    """The run exactly as it stood; give one of `version`, `tick` and `time`."""
    return engine.run_at(run_id, version=given.version, tick=given.tick, time=given.time)


@router.get("/runs/{run_id}/diff", openapi_extra=VIEWER, summary="What changed")
def diff(engine: EngineDep, run_id: Id, given: Annotated[Between, Query()]) -> list[Change]:
    """What changed between two versions of a run, and by which event."""
    return engine.diff_run(run_id, given.from_version, given.to_version)


@router.get("/runs/{run_id}/replay", openapi_extra=VIEWER, summary="Decide it again")
def replay(engine: EngineDep, run_id: Id, given: Annotated[Against, Query()]) -> ReplayResult:
    """Decide a run again from its log and compare, field by field. Nothing is written or sent."""
    return engine.replay(run_id, plan_version=given.plan_version)


@router.post("/runs/{run_id}/replay", openapi_extra=VIEWER, summary="Decide it by another plan")
def replay_against(engine: EngineDep, run_id: Id, given: Other) -> ReplayResult:
    """Decide a run again under another plan or other templates, and say what would have been
    different. Nothing is written or sent."""
    return engine.replay(
        run_id,
        plan_version=given.plan_version,
        plan=None if given.plan is None else load_plan(given.plan),
        templates=given.templates,
    )


@router.post("/runs/{run_id}/go-on", openapi_extra=OPERATOR, summary="Go on with it")
def go_on(engine: EngineDep, actor: ActorDep, command: CommandDep, run_id: Id) -> ReplayResult:
    """Decide a run again and, if that is identical, go on where its log ends: what is due now is
    done. A message whose key is in the log is not sent again."""
    del command  # its key is what keeps the answer for a repetition
    return engine.replay(run_id, dry_run=False, actor=actor.name)


@router.get(
    "/runs/{run_id}/verify",
    openapi_extra=VIEWER,
    response_model=shown(ChainVerdict),
    summary="Check its chain",
)
def verify(engine: EngineDep, run_id: Id) -> ChainVerdict:
    """Check a run's chain of checksums."""
    return engine.verify_audit_chain(run_id)
