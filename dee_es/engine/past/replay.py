"""Replays: runs decided again from the log, one by one or a whole fleet, and against other plans.

Nothing here touches a channel or writes to the log.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import zip_longest
from typing import Any, Final

import msgspec

from dee_es.core import events as e
from dee_es.core.commands import Materials
from dee_es.core.past.recorded_commands import enrollment_of
from dee_es.core.past.replay import Difference, Replayed, differing
from dee_es.core.past.replay import replay as replay_history
from dee_es.core.past.simulation import Simulation, inputs_of
from dee_es.core.plans.plan import ExecutionPlan
from dee_es.core.runs.fold import fold
from dee_es.core.runs.run import evolve
from dee_es.core.runs.state import RunState
from dee_es.core.runs.step_results import StepResult, step_results
from dee_es.core.views import RunFilter
from dee_es.engine.definitions import Definitions
from dee_es.engine.log.journal import Journal
from dee_es.engine.log.missing import missing_run
from dee_es.engine.past.history import History
from dee_es.engine.past.replay_results import (
    Divergence,
    ReplayDiff,
    ReplayedPage,
    ReplayedStep,
    ReplayResult,
)
from dee_es.engine.queries import Queries
from dee_es.errors import DeeError, IntegrityViolation, InvalidInput
from dee_es.ports import EventStore, StoredRow

PAGE = 500
"""Runs of a fleet that are read at a time."""
Template = Mapping[str, Any]
_STANDING: Final = {
    "status": "status",
    "status_reason": "status_reason",
    "current_step": "current_step",
    "resume_tick": "acts_at",
    "outcome": "outcome",
}
"""What tells where a run stands, by its name in an answer."""


class Against(msgspec.Struct, frozen=True):
    """What a run is replayed against: another version of its plan, another plan, other templates
    (those that are not among them stay as they were)."""

    plan_version: int | None = None
    plan: ExecutionPlan | None = None
    templates: Mapping[str, Template] | None = None

    def __str__(self) -> str:
        parts = []
        if self.plan_version is not None:
            parts.append(f"plan version {self.plan_version}")
        if self.plan is not None:
            parts.append("another plan")
        if self.templates is not None:
            parts.append("other templates")
        return ", ".join(parts)


class Replays:
    """Decides recorded runs again."""

    def __init__(
        self,
        store: EventStore,
        journal: Journal,
        history: History,
        definitions: Definitions,
        queries: Queries,
    ) -> None:
        self._store = store
        self._journal = journal
        self._history = history
        self._definitions = definitions
        self._queries = queries

    def run(self, run_id: str) -> ReplayResult:
        """Replay one run as it was; raises `RunNotFound`, `IntegrityViolation`."""
        history = self._history.events(run_id)
        return _result(run_id, history, replay_history(history, self._definitions.materials))

    def run_against(self, run_id: str, against: Against) -> ReplayResult:
        """What would have been different under another plan or other templates: on the way, and
        where the run stands at its end.

        The run goes on no further than the log does. Raises `RunNotFound`, `PlanNotFound`, and
        `InvalidInput` for an erased run, of which too little is left to go by.
        """
        history = self._history.events(run_id)
        if any(recorded.erased for recorded in history):
            raise InvalidInput(
                "run_id", f"{run_id} was erased; only `dee replay {run_id}` can still compare it"
            )
        materials, original = self._other(history[0], against)
        first = evolve(None, history[0])
        simulation = Simulation(materials, inputs=inputs_of(original, first, history))
        enrolling = enrollment_of(history[0])
        assert enrolling is not None, "a run begins with its enrolment"
        simulation.enroll(enrolling)
        simulation.run(until=history[-1].meta.tick)
        was = list(step_results((each.event, each.meta.tick) for each in history))
        now = list(step_results((each.event, each.meta.tick) for each in simulation.events))
        diffs = tuple(_visits_that_differ(was, now, history))
        if not diffs:
            diffs = tuple(_standing_that_differs(fold(history), simulation.state))
        return ReplayResult(
            run_id=run_id,
            identical=not diffs,
            verdict="different" if diffs else "identical",
            against=str(against),
            steps=_steps(was, now),
            diffs=diffs,
            assumed=tuple(sorted(simulation.assumed)),
        )

    def _other(self, first: e.RecordedEvent, against: Against) -> tuple[Materials, Materials]:
        start = first.event
        assert isinstance(start, e.Start), "a run begins with its enrolment"
        original = self._definitions.materials(start.plan_id, start.plan_version, start.pins)
        plan = against.plan
        if plan is None and against.plan_version is not None:
            plan = self._definitions.plan(start.plan_id, against.plan_version)
        other = original
        if plan is not None:
            pinned = self._definitions.materials_for(plan, start.pins)
            other = replace(pinned, policy=original.policy)
        if against.templates is not None:
            other = replace(other, templates={**other.templates, **against.templates})
        missing = sorted(set(other.plan.graph.templates) - set(other.templates))
        if missing:
            raise InvalidInput("templates", f"the plan needs {', '.join(missing)}")
        return other, original

    # --- a fleet ----------------------------------------------------------------------------------

    def pages(self, chosen: RunFilter) -> Iterator[list[str]]:
        """The ids of the runs that match, newest first, a page at a time."""
        before: int | None = None
        while rows := self._queries.rows(chosen, limit=PAGE, before_ordinal=before):
            before = rows[-1].ordinal
            yield [row.run_id for row in rows]

    def page(self, run_ids: Sequence[str]) -> ReplayedPage:
        """Replay a page of runs; one that cannot be read is told and does not stop the rest."""
        page = ReplayedPage()
        streams = self._store.read_streams(run_ids)
        # If an entry is damaged, keys are fetched one by one, and it is told of its run.
        with suppress(IntegrityViolation):
            self._journal.preload(rows[0] for rows in streams.values())
        for run_id in run_ids:
            self._one_of_many(run_id, streams.get(run_id, ()), page)
        return page

    def _one_of_many(self, run_id: str, rows: Sequence[StoredRow], page: ReplayedPage) -> None:
        summary = page.summary
        summary.runs += 1
        summary.events += len(rows)
        try:
            if not rows:
                raise missing_run(self._store, run_id)
            replayed = replay_history(self._journal.open(rows), self._definitions.materials)
        except DeeError as error:
            summary.unreadable += 1
            cause = type(error).__name__
            page.divergences.append(
                Divergence(run_id, cause, _as_diff(Difference(0, None, cause, None, str(error))))
            )
        else:
            if not replayed.differences:
                summary.erased += bool(replayed.erased)
                summary.identical += not replayed.erased
                return
            summary.different += 1
            first = replayed.differences[0]
            cause = f"{first.field} of step {first.step}" if first.step else first.field
            page.divergences.append(Divergence(run_id, cause, _as_diff(first)))
        summary.causes[page.divergences[-1].cause] += 1


def _result(run_id: str, history: Sequence[e.RecordedEvent], replayed: Replayed) -> ReplayResult:
    verdict: Any = replayed.verdict
    ticks = [recorded.meta.tick for recorded in history]
    was = list(step_results(zip((each.event for each in history), ticks, strict=True)))
    now = list(step_results(zip(replayed.events, [0] * len(replayed.events), strict=True)))
    lost = {difference.step for difference in replayed.erased}
    return ReplayResult(
        run_id=run_id,
        identical=verdict == "identical",
        verdict=verdict,
        steps=_steps_of_erased(was, lost) if replayed.erased else _steps(was, now),
        diffs=tuple(map(_as_diff, replayed.differences)),
        erased=tuple(map(_as_diff, replayed.erased)),
    )


def _as_diff(difference: Difference) -> ReplayDiff:
    return ReplayDiff(
        version=difference.version,
        step=difference.step,
        field=difference.field,
        expected=difference.expected,
        actual=difference.actual,
    )


def _steps(was: Iterable[StepResult], now: Iterable[StepResult]) -> tuple[ReplayedStep, ...]:
    found = []
    for one, other in zip_longest(was, now):
        same = one is not None and other is not None and one.id == other.id
        if same or one is None or other is None:
            found.append(_step(one, other))
        else:
            found += [_step(one, None), _step(None, other)]
    return tuple(found)


def _steps_of_erased(
    was: Iterable[StepResult], lost: Container[str | None]
) -> tuple[ReplayedStep, ...]:
    """What was decided again of those in `lost` was decided without what is erased: it is no
    answer. All others were found to be as they were."""
    return tuple(_step(one, None if one.id in lost else one) for one in was)


def _step(was: StepResult | None, now: StepResult | None) -> ReplayedStep:
    known = was or now
    assert known is not None
    one, other = was and was.result, now and now.result
    return ReplayedStep(
        id=known.id, original_result=one, replayed_result=other, identical=one == other
    )


def _visits_that_differ(
    was: Sequence[StepResult], now: Sequence[StepResult], history: Sequence[e.RecordedEvent]
) -> Iterator[ReplayDiff]:
    """The differences up to the first visit of another step, behind which nothing compares."""
    end = history[-1].version
    for one, other in zip_longest(was, now):
        if one is None or other is None or one.id != other.id:
            step = (one or other).id
            yield ReplayDiff(
                version=end if one is None else _version_at(history, one),
                step=step,
                field="step",
                expected=one and one.id,
                actual=other and other.id,
            )
            return
        for field, expected, actual in _fields_that_differ(one, other):
            version = _version_at(history, one)
            yield ReplayDiff(
                version=version, step=one.id, field=field, expected=expected, actual=actual
            )


def _standing_that_differs(was: RunState | None, now: RunState) -> Iterator[ReplayDiff]:
    """Where the run stands, which no finished visit of a step tells."""
    assert was is not None, "a run begins with its enrolment"
    for name, field in _STANDING.items():
        expected, actual = getattr(was, field), getattr(now, field)
        if expected != actual:
            yield ReplayDiff(
                version=was.version,
                step=was.current_step,
                field=name,
                expected=expected,
                actual=actual,
            )


def _fields_that_differ(one: StepResult, other: StepResult) -> Iterator[tuple[str, Any, Any]]:
    for field in ("result", "tick"):
        if getattr(one, field) != getattr(other, field):
            yield field, getattr(one, field), getattr(other, field)
    if one.digest == other.digest:
        return
    if one.message is None or other.message is None:
        yield "message", one.digest, other.digest
        return
    was, now = msgspec.to_builtins(one.message), msgspec.to_builtins(other.message)
    for path, expected, actual in differing(was, now, "message"):
        # What the gate read is no part of the message.
        if not path.startswith("message.gate"):
            yield path, expected, actual


def _version_at(history: Sequence[e.RecordedEvent], result: StepResult) -> int:
    return next(
        each.version
        for each in history
        if each.meta.tick == result.tick and getattr(each.event, "step_id", None) == result.id
    )
