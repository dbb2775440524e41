"""One run: its plan with the way it took, its past at any version, its messages, its evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from fastapi import Request, Response

from dee_es.engine.facade import EngineApi
from dee_es.engine.models import LogEntry, TimelineEntry
from dee_es.engine.past.explain import Sentence
from dee_es.engine.past.time_travel import Change, RunAt
from dee_es.web.pages import inputs, rendering
from dee_es.web.pages.drawing import Drawing, Way, draw
from dee_es.web.pages.messages import messages_of
from dee_es.web.routing import VIEWER, EngineDep, Id, page_router

router: Final = page_router()


@dataclass(frozen=True, slots=True)
class Moment:
    """A run as it stood after one of its events, drawn and compared with the event before."""

    at: RunAt
    last: int
    entry: TimelineEntry
    sentence: Sentence
    drawing: Drawing
    changes: tuple[Change, ...]
    saw: dict[str, Any] | None
    """The values that a branch, or a rule, saw in this event."""


@router.get("/runs/{run_id}", openapi_extra=VIEWER)
def run(request: Request, engine: EngineDep, run_id: Id) -> Response:
    """Everything about a run."""
    found = engine.get_run(run_id)
    # Asked first: what else is asked of a run that moves on meanwhile goes as far, or further.
    timeline = engine.get_timeline(run_id)
    told = engine.explain(run_id)
    log = engine.get_logs(run_id)
    moment = _moment(request, engine, run_id, timeline, told.sentences, log)
    present = engine.run_at(run_id, version=len(timeline))
    return rendering.page(
        request,
        engine,
        "run.html",
        run=found,
        told=told,
        timeline=list(zip(timeline, told.sentences, strict=False)),
        moment=moment,
        messages=messages_of(log),
        allowed=_allowed(found.status.value, present.context.unknown is not None),
        present=present,
        latest=engine.get_plan(found.plan_id).version,
    )


@router.get("/runs/{run_id}/at", openapi_extra=VIEWER)
def at(request: Request, engine: EngineDep, run_id: Id) -> Response:
    """The part of the page that shows a version, or the whole page without scripts."""
    if not rendering.by_htmx(request):
        version = inputs.given(request, "version")
        return rendering.see(f"/runs/{run_id}", {"version": version})
    timeline = engine.get_timeline(run_id)
    told = engine.explain(run_id)
    moment = _moment(request, engine, run_id, timeline, told.sentences, engine.get_logs(run_id))
    now = engine.now().now
    return rendering.bare(request, "_moment.html", moment=moment, run_id=run_id, now=now)


@router.get("/runs/{run_id}/verify", openapi_extra=VIEWER)
def verify(request: Request, engine: EngineDep, run_id: Id) -> Response:
    """Check the chain of the run, now."""
    verdict = engine.verify_audit_chain(run_id)
    if rendering.by_htmx(request):
        return rendering.bare(request, "_verified.html", verdict=verdict, run_id=run_id)
    return rendering.page(request, engine, "verified.html", verdict=verdict, run_id=run_id)


@router.get("/runs/{run_id}/replay", openapi_extra=VIEWER)
def replay(request: Request, engine: EngineDep, run_id: Id) -> Response:
    """Decide the run again and compare; nothing is written or sent."""
    version = inputs.number(request, "plan_version", 0, least=0, most=2**31) or None
    found = engine.get_run(run_id)
    result = engine.replay(run_id, plan_version=version)
    if rendering.by_htmx(request):
        return rendering.bare(request, "_replayed.html", result=result, run=found, now=None)
    return rendering.page(request, engine, "replayed.html", result=result, run=found)


def _moment(
    request: Request,
    engine: EngineApi,
    run_id: str,
    timeline: Sequence[TimelineEntry],
    sentences: Sequence[Sentence],
    log: Sequence[LogEntry],
) -> Moment:
    last = len(timeline)
    version = inputs.number(request, "version", last, least=1, most=last)
    stood = engine.run_at(run_id, version=version)
    plan = engine.get_plan(stood.run.plan_id, stood.run.plan_version)
    changes = engine.diff_run(run_id, version - 1, version) if version > 1 else []
    return Moment(
        at=stood,
        last=last,
        entry=timeline[version - 1],
        sentence=sentences[version - 1],
        drawing=draw(plan, Way.of(timeline, version, stood.run.current_step)),
        changes=tuple(changes),
        saw=_saw(log[version - 1]),
    )


def _saw(entry: LogEntry) -> dict[str, Any] | None:
    personal = entry.data.get("personal")
    values = personal.get("values") if isinstance(personal, dict) else None
    reads = entry.data.get("reads")
    found = {**(reads or {}), **(values or {})}
    return found or None


def _allowed(status: str, unknown: bool) -> frozenset[str]:
    """What may be done with a run that stands so."""
    found = set()
    if status in ("pending", "active", "waiting"):
        found.add("pause")
    if status == "paused":
        found.add("resume")
    if status == "failed":
        found.add("resolve" if unknown else "retry")
    if status not in ("completed", "cancelled"):
        found.add("cancel")
    return frozenset(found)
