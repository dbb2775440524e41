"""Answers about runs: one by its id, or a page of many."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Final, TypeVar

from dee_es.core.clock import TimeScale, require_utc
from dee_es.core.events import RunScheduled, RunStarted
from dee_es.core.projection import Build
from dee_es.core.runs.run import RunState
from dee_es.core.values import MAX_SAFE_INTEGER, check_count, check_id, check_plan_id
from dee_es.core.views import RunFilter, RunRow, RunStatus
from dee_es.engine.log.journal import Journal
from dee_es.engine.models import ExecutionRun, RunPage
from dee_es.engine.projecting.projector import ATTEMPTS, AnyProjection, Projector
from dee_es.engine.run_filters import Status, checked_status
from dee_es.errors import IntegrityViolation, InvalidInput, TableGone
from dee_es.ports import BuildRow, EventStore, RunCounts, RunPageRows, Views

MAX_LIMIT: Final = 10_000
_PAGE: Final = 500
_AMONG: Final = 4
"""Runs of which one is on a page, at the most, for those on it to be neighbours in the log."""
_FoundT = TypeVar("_FoundT", RunPageRows, RunCounts)


class Queries:
    """Reads the run list; every event committed before a query began is in its answer."""

    def __init__(
        self,
        store: EventStore,
        views: Views,
        journal: Journal,
        projector: Projector,
        run_list: AnyProjection,
        scale: TimeScale,
    ) -> None:
        self._store = store
        self._views = views
        self._journal = journal
        self._projector = projector
        self._run_list = run_list
        self._scale = scale

    def page(
        self, chosen: RunFilter, *, limit: int, offset: int = 0, cursor: str | None = None
    ) -> RunPage:
        """A page of runs, newest first, with the exact number of all that match.

        Raises `IntegrityViolation` for a row whose run the log does not have.
        """
        check_count("limit", limit, MAX_LIMIT)
        check_count("offset", offset, least=0)
        if cursor is not None and offset:
            raise InvalidInput("offset", "a cursor already says where to go on; give one of them")
        before = _read_cursor(cursor, chosen) if cursor is not None else None
        missed: set[str] = set()
        while True:
            # One more than is shown says whether anything follows.
            found = self._rows(chosen, limit + 1, offset, before)
            rows = found.rows[:limit]
            runs = self._runs(rows, self._parked(found.build, rows))
            if len(runs) == len(rows):
                break
            # One that was archived between the two looks has left the list at the next.
            missing = {row.run_id for row in rows} - {run.id for run in runs}
            if lost := sorted(missing & missed):
                raise IntegrityViolation(
                    f"the run list has {lost[0]}, of which the log has nothing; "
                    "run `dee projections verify run_list`"
                )
            missed = missing
        more = len(found.rows) > limit
        following = _write_cursor(rows[-1].ordinal, chosen) if more else None
        return RunPage(runs=runs, total=found.total, next_cursor=following)

    def _parked(self, build: BuildRow | None, rows: Sequence[RunRow]) -> frozenset[str]:
        """Runs whose rows are not what their events say, because one cannot be folded."""
        if build is None or not build.parked:
            return frozenset()
        with self._views.snapshot() as reader:
            return frozenset(reader.parked(build.key, [row.run_id for row in rows]))

    def rows(
        self, chosen: RunFilter, *, limit: int, before_ordinal: int | None = None
    ) -> list[RunRow]:
        """Plain rows by ordinal descending, without personal data."""
        return self._rows(chosen, limit, 0, before_ordinal).rows

    def count(self, chosen: RunFilter) -> int:
        """How many runs match."""
        return self._rows(chosen, 1, 0, None).total

    def count_by_status(self, chosen: RunFilter) -> dict[RunStatus, int]:
        """How many of the chosen runs stand so, for every status there is, at one moment."""
        statuses = [status.value for status in RunStatus]
        found = self._level(lambda build: self._views.count_runs(build.table, chosen, statuses))
        return {status: found.counts[status.value] for status in RunStatus}

    def all_rows(self, chosen: RunFilter) -> list[RunRow]:
        """Every row that matches; for filters that match few, such as one contact."""
        found: list[RunRow] = []
        before = None
        while True:
            page = self.rows(chosen, limit=_PAGE, before_ordinal=before)
            found += page
            if len(page) < _PAGE:
                return found
            before = page[-1].ordinal

    def rows_of(self, contact_ids: Sequence[str]) -> list[RunRow]:
        """Every row of many contacts, asked for some hundreds at a time."""
        found: list[RunRow] = []
        for first in range(0, len(contact_ids), _PAGE):
            some = contact_ids[first : first + _PAGE]
            found += self._level(partial(self._of, contact_ids=some)).rows
        return found

    def _of(self, build: Build, contact_ids: Sequence[str]) -> RunPageRows:
        return self._views.runs_of(build.table, contact_ids)

    def _rows(self, chosen: RunFilter, limit: int, offset: int, before: int | None) -> RunPageRows:
        return self._level(
            lambda build: self._views.list_runs(
                build.table, chosen, limit=limit, offset=offset, before_ordinal=before
            )
        )

    def _level(self, ask: Callable[[Build], _FoundT]) -> _FoundT:
        """The answer of a build of the run list that was level with the log in its snapshot."""
        build = self._projector.at_hand(self._run_list)
        gone = 0
        while True:
            try:
                found = ask(build)
            except TableGone:
                # A table that is served and is not there will not come back by asking.
                gone += 1
                if gone == ATTEMPTS:
                    raise self._projector.lost(self._run_list) from None
                build = self._projector.catch_up(self._run_list)
                continue
            # A build that no longer serves is whole, too; but others may read the new one already.
            served = found.build
            if served is not None and served.position >= found.head and served.state == "serving":
                return found
            latest = self._projector.catch_up(self._run_list)
            if latest is build and served is not None and served.position >= found.head:
                # Code that lacks the version that serves reads the one before it.
                return found
            build = latest

    def _runs(self, rows: Sequence[RunRow], parked: frozenset[str]) -> tuple[ExecutionRun, ...]:
        """The rows with their variables, but for runs that are in the log no more."""
        near = bool(rows) and rows[0].ordinal - rows[-1].ordinal < _AMONG * len(rows)
        first = self._store.read_first([row.run_id for row in rows], neighbours=near)
        begun = {each.stream_id: each for each in self._journal.open_each(first.values())}
        found = []
        for row in rows:
            if row.run_id not in begun:
                continue
            event = begun[row.run_id].event
            assert isinstance(event, RunScheduled | RunStarted), "a run begins with its enrolment"
            variables = event.personal.variables if event.personal is not None else {}
            run = execution_run(row, variables, self._scale)
            found.append(run.model_copy(update={"parked": True}) if run.id in parked else run)
        return tuple(found)

    def filter(
        self,
        *,
        status: Status = None,
        plan_id: str | None = None,
        contact_id: str | None = None,
        started_after: datetime | None = None,
        started_before: datetime | None = None,
    ) -> RunFilter:
        """Check the filters of the Runs page; `started_after` is inclusive, `started_before` not.

        Raises `InvalidInput` naming the filter.
        """
        if plan_id is not None:
            check_plan_id("plan_id", plan_id)
        if contact_id is not None:
            check_id("contact_id", contact_id)
        after = before = None
        if started_after is not None:
            after = self._scale.tick_from(require_utc("started_after", started_after))
        if started_before is not None:
            before = self._scale.tick_from(require_utc("started_before", started_before))
        statuses = tuple(sorted(set(checked_status(status) or ())))
        return RunFilter(statuses, plan_id, contact_id, after, before)


def execution_run(row: RunRow, variables: dict[str, object], scale: TimeScale) -> ExecutionRun:
    """A row of the list as the Runs page shows a run."""
    ended = row.completed_tick
    return ExecutionRun(
        id=row.run_id,
        plan_id=row.plan_id,
        plan_version=row.plan_version,
        contact_id=row.contact_id,
        status=RunStatus(row.status),
        current_step=row.current_step,
        steps_completed=row.steps_completed,
        steps_remaining=row.steps_remaining,
        start_tick=row.start_tick,
        current_tick=row.current_tick,
        started_at=scale.time(row.created_tick),
        completed_at=None if ended is None else scale.time(ended),
        outcome=row.outcome,
        variables=variables,
        status_reason=row.status_reason,
        resume_tick=row.resume_tick,
        version=row.version,
        enrollment=row.enrollment,
        ordinal=row.ordinal,
    )


def row_of(state: RunState, ordinal: int) -> RunRow:
    """The row that the list holds, or will hold, for a run in this state."""
    waits = state.status in (RunStatus.WAITING, RunStatus.PENDING)
    return RunRow(
        run_id=state.run_id,
        ordinal=ordinal,
        plan_id=state.plan_id,
        plan_version=state.plan_version,
        contact_id=state.contact_id,
        enrollment=state.enrollment,
        status=state.status.value,
        current_step=state.current_step,
        steps_completed=state.steps_completed,
        steps_remaining=state.steps_remaining,
        created_tick=state.created_tick,
        start_tick=state.start_tick,
        current_tick=state.last_tick,
        completed_tick=state.completed_tick,
        outcome=state.outcome,
        status_reason=state.status_reason,
        resume_tick=state.hold_until if waits else None,
        version=state.version,
    )


def _is_ordinal(value: object) -> bool:
    return type(value) is int and 1 <= value <= MAX_SAFE_INTEGER


# A cursor holds the place to go on from and a digest of the filters it belongs to.


def _digest(chosen: RunFilter) -> str:
    return hashlib.sha256(repr(chosen).encode()).hexdigest()[:16]


def _write_cursor(ordinal: int, chosen: RunFilter) -> str:
    return base64.urlsafe_b64encode(json.dumps([ordinal, _digest(chosen)]).encode()).decode()


def _read_cursor(cursor: object, chosen: RunFilter) -> int:
    try:
        ordinal, digest = json.loads(base64.urlsafe_b64decode(str(cursor).encode()))
    except (ValueError, TypeError, RecursionError):
        raise InvalidInput("cursor", "is not one that a page gave") from None
    if not _is_ordinal(ordinal) or not isinstance(digest, str):
        raise InvalidInput("cursor", "is not one that a page gave")
    if digest != _digest(chosen):
        raise InvalidInput("cursor", "belongs to other filters; start again without it")
    return int(ordinal)
