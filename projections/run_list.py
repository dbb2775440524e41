"""The queryable list of runs: one row a run, and counts of them by plan and status."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from msgspec.structs import replace

from dee_es.core import events as e
from dee_es.core.ids import is_run
from dee_es.core.projection import CountKey, OneTable, Table
from dee_es.core.views import RUN_COUNTS, RunRow, RunStatus, run_counts

_STOPPED: Final = (RunStatus.PAUSED, RunStatus.FAILED, RunStatus.COMPLETED, RunStatus.CANCELLED)
_EVIDENCE: Final = (RunStatus.FAILED, RunStatus.COMPLETED, RunStatus.CANCELLED)
"""What becomes of a last send after the run has stopped is recorded and changes nothing."""


class RunList(OneTable):
    """Folds a run's events into its row, without its plan and without personal data."""

    name = "run_list"
    appends_only = False
    table = Table(
        "run_list",
        1,
        RunRow,
        key="run_id",
        indexes=(
            # The order of every list, and the suffix that keeps the others in that order.
            ("ordinal",),
            # Runs of a contact, which are few: other filters are applied to them.
            ("contact_id", "ordinal"),
            # Runs of a plan in a status, or in several, merged: any of them for a plan alone.
            ("plan_id", "status", "ordinal"),
            # Runs in a status, whatever their plan. Both change with the status: nothing shorter
            # gives a page of few runs among many.
            ("status", "ordinal"),
        ),
        counted=RUN_COUNTS,
    )

    def key(self, event: e.RecordedEvent) -> str | None:
        """The run, for every event of one."""
        return event.stream_id if is_run(event.stream_id) else None

    def fold(self, row: RunRow | None, event: e.RecordedEvent) -> RunRow:
        """The run's row after the event."""
        if row is None:
            row = _created(event)
        else:
            fold = _FOLDS.get(type(event.event))
            row = fold(row, event.event, event.meta) if fold is not None else row
        return replace(row, version=event.version, current_tick=event.meta.tick)

    def tally(self, row: RunRow) -> Iterable[CountKey]:
        """The counts the run is part of."""
        return run_counts(row)


def _created(event: e.RecordedEvent) -> RunRow:
    start = event.event
    assert isinstance(start, e.RunScheduled | e.RunStarted), "a run begins with its enrolment"
    scheduled = isinstance(start, e.RunScheduled)
    return RunRow(
        run_id=event.stream_id,
        ordinal=event.ordinal,
        plan_id=start.plan_id,
        plan_version=start.plan_version,
        contact_id=start.contact_id,
        enrollment=start.enrollment,
        status=(RunStatus.PENDING if scheduled else RunStatus.ACTIVE).value,
        current_step=None,
        steps_completed=0,
        steps_remaining=start.steps_remaining,
        created_tick=event.meta.tick,
        start_tick=start.start_tick,
        current_tick=event.meta.tick,
        completed_tick=None,
        outcome=None,
        status_reason=None,
        resume_tick=start.start_tick if scheduled else None,
        version=event.version,
    )


def _moves(row: RunRow) -> bool:
    return row.status not in _STOPPED


def _active(row: RunRow) -> RunRow:
    # What arrives for a run that is paused or has stopped is recorded, and changes no status.
    if not _moves(row):
        return row
    return replace(row, status=RunStatus.ACTIVE.value, status_reason=None, resume_tick=None)


def _waiting(row: RunRow, until: int, reason: str | None) -> RunRow:
    if not _moves(row):
        return row
    return replace(row, status=RunStatus.WAITING.value, status_reason=reason, resume_tick=until)


def _done(row: RunRow, step_id: str) -> RunRow:
    if row.status in _EVIDENCE or row.current_step != step_id:
        return row
    return replace(_active(row), steps_completed=row.steps_completed + 1)


def _settled(row: RunRow, status: RunStatus, reason: str | None) -> RunRow:
    return replace(row, status=status.value, status_reason=reason, resume_tick=None)


def _ended(row: RunRow, status: RunStatus, reason: str | None, meta: e.Meta) -> RunRow:
    return replace(
        _settled(row, status, reason),
        current_step=None,
        steps_remaining=0,
        completed_tick=meta.tick,
    )


def _scheduled(row: RunRow, event: e.RunScheduled, _: e.Meta) -> RunRow:
    return replace(
        row,
        status=RunStatus.PENDING.value,
        status_reason=None,
        start_tick=event.start_tick,
        resume_tick=event.start_tick,
    )


def _entered(row: RunRow, event: e.StepEntered, _: e.Meta) -> RunRow:
    return replace(_active(row), current_step=event.step_id, steps_remaining=event.steps_remaining)


def _deferred(row: RunRow, event: e.StepDeferred, _: e.Meta) -> RunRow:
    if event.resend:
        return row
    return _waiting(row, event.until_tick, f"{event.rule}: {event.detail}")


def _retried(row: RunRow, event: e.StepRetried, _: e.Meta) -> RunRow:
    if event.resend:
        return row
    return _waiting(row, event.retry_tick, f"attempt {event.attempt}: {event.error}")


def _resolved(row: RunRow, event: e.StepResolved, _: e.Meta) -> RunRow:
    if event.outcome == "failed":
        return replace(row, status_reason=f"step {event.step_id} resolved as failed")
    active = _settled(row, RunStatus.ACTIVE, None)
    settled = event.outcome == "delivered" and not event.resend
    return _done(active, event.step_id) if settled else active


def _completed(row: RunRow, event: e.RunCompleted, meta: e.Meta) -> RunRow:
    done = row.steps_completed + (event.step_id is not None)
    ended = _ended(row, RunStatus.COMPLETED, None, meta)
    return replace(ended, steps_completed=done, outcome=event.outcome)


def _cancelled(row: RunRow, event: e.RunCancelled, meta: e.Meta) -> RunRow:
    return _ended(row, RunStatus.CANCELLED, meta.reason or event.cause, meta)


_FOLDS: Final[dict[type[e.Event], Callable[[RunRow, Any, e.Meta], RunRow]]] = {
    e.RunScheduled: _scheduled,
    e.RunStarted: lambda row, event, meta: _settled(row, RunStatus.ACTIVE, None),
    e.RunPaused: lambda row, event, meta: _settled(
        row, RunStatus.PAUSED, meta.reason or event.cause
    ),
    e.RunResumed: lambda row, event, meta: _settled(row, RunStatus.ACTIVE, None),
    e.RunRetried: lambda row, event, meta: _settled(row, RunStatus.ACTIVE, None),
    e.RunFailed: lambda row, event, meta: _settled(row, RunStatus.FAILED, event.cause),
    e.RunCompleted: _completed,
    e.RunCancelled: _cancelled,
    e.StepEntered: _entered,
    e.StepDispatched: lambda row, event, meta: row if event.resend else _active(row),
    e.StepPending: lambda row, event, meta: _waiting(
        row, event.deadline_tick, "waiting for the call's outcome"
    ),
    # Evidence, and a message that went out again, are beside the run's own way.
    e.StepCompleted: lambda row, event, meta: (
        row if event.late or event.resend else _done(row, event.step_id)
    ),
    e.BranchEvaluated: lambda row, event, meta: _done(row, event.step_id),
    e.StepSkipped: lambda row, event, meta: row if event.resend else _done(row, event.step_id),
    e.StepDeferred: _deferred,
    e.StepRetried: _retried,
    e.StepResolved: _resolved,
    e.WaitStarted: lambda row, event, meta: _waiting(row, event.until_tick, None),
    e.WaitCompleted: lambda row, event, meta: _done(row, event.step_id),
}

RUN_LIST: Final = RunList()
