"""The queryable list of runs: one row a run, and counts of them by plan and status."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from msgspec.structs import replace

from dee_es.core import events as e
from dee_es.core.ids import is_run
from dee_es.core.projection import CountKey, OneTable, Table
from dee_es.core.views import RUN_COUNTS, RunRow, RunStatus, run_counts

_PENDING: Final = RunStatus.PENDING.value
_ACTIVE: Final = RunStatus.ACTIVE.value
_WAITING: Final = RunStatus.WAITING.value
_PAUSED: Final = RunStatus.PAUSED.value
_COMPLETED: Final = RunStatus.COMPLETED.value
_FAILED: Final = RunStatus.FAILED.value
_CANCELLED: Final = RunStatus.CANCELLED.value
_MOVING: Final = frozenset({_PENDING, _ACTIVE, _WAITING})
"""What arrives for a run in any other status is recorded, and changes no status."""
IGNORED: Final[frozenset[type[e.Event]]] = frozenset(
    {e.StepFailed, e.OutcomeUnknown, e.ChannelEventReceived}
)
"""Events of runs that change no row but for its version and tick: what follows from them does."""
_EVIDENCE: Final = frozenset({_FAILED, _COMPLETED, _CANCELLED})
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
        stream_id = event.stream_id
        return stream_id if is_run(stream_id) else None

    def fold(self, row: RunRow | None, event: e.RecordedEvent) -> RunRow:
        """The run's row after the event."""
        if row is None:
            return _created(event)
        row = replace(row, version=event.version, current_tick=event.meta.tick)
        return _FOLDS.get(type(event.event), _unchanged)(row, event.event, event.meta)

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
        status=_PENDING if scheduled else _ACTIVE,
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


def _unchanged(row: RunRow, event: e.Event, meta: e.Meta) -> RunRow:
    del event, meta
    return row


def _settled(row: RunRow, status: str, reason: str | None = None) -> RunRow:
    return replace(row, status=status, status_reason=reason, resume_tick=None)


def _goes_on(row: RunRow, event: e.Event, meta: e.Meta) -> RunRow:
    del event, meta
    return _settled(row, _ACTIVE)


def _active(row: RunRow) -> RunRow:
    return _settled(row, _ACTIVE) if row.status in _MOVING else row


def _waiting(row: RunRow, until: int, reason: str | None) -> RunRow:
    if row.status not in _MOVING:
        return row
    return replace(row, status=_WAITING, status_reason=reason, resume_tick=until)


def _done(row: RunRow, step_id: str) -> RunRow:
    if row.status in _EVIDENCE or row.current_step != step_id:
        return row
    return replace(_active(row), steps_completed=row.steps_completed + 1)


def _ended(row: RunRow, status: str, reason: str | None, meta: e.Meta) -> RunRow:
    return replace(
        _settled(row, status, reason),
        current_step=None,
        steps_remaining=0,
        completed_tick=meta.tick,
    )


def _scheduled(row: RunRow, event: e.RunScheduled, meta: e.Meta) -> RunRow:
    del meta
    return replace(
        row,
        status=_PENDING,
        status_reason=None,
        start_tick=event.start_tick,
        resume_tick=event.start_tick,
    )


def _entered(row: RunRow, event: e.StepEntered, meta: e.Meta) -> RunRow:
    del meta
    return replace(_active(row), current_step=event.step_id, steps_remaining=event.steps_remaining)


def _deferred(row: RunRow, event: e.StepDeferred, meta: e.Meta) -> RunRow:
    del meta
    if event.resend:
        return row
    return _waiting(row, event.until_tick, f"{event.rule}: {event.detail}")


def _retried(row: RunRow, event: e.StepRetried, meta: e.Meta) -> RunRow:
    del meta
    if event.resend:
        return row
    return _waiting(row, event.retry_tick, f"attempt {event.attempt}: {event.error}")


def _resolved(row: RunRow, event: e.StepResolved, meta: e.Meta) -> RunRow:
    del meta
    if event.outcome == "failed":
        return replace(row, status_reason=f"step {event.step_id} resolved as failed")
    done = event.outcome == "delivered" and not event.resend and row.current_step == event.step_id
    return replace(_settled(row, _ACTIVE), steps_completed=row.steps_completed + done)


def _completed(row: RunRow, event: e.RunCompleted, meta: e.Meta) -> RunRow:
    done = row.steps_completed + (event.step_id is not None)
    ended = _ended(row, _COMPLETED, None, meta)
    return replace(ended, steps_completed=done, outcome=event.outcome)


_FOLDS: Final[dict[type[e.Event], Callable[[RunRow, Any, e.Meta], RunRow]]] = {
    e.RunScheduled: _scheduled,
    e.RunStarted: _goes_on,
    e.RunPaused: lambda row, event, meta: _settled(row, _PAUSED, meta.reason or event.cause),
    e.RunResumed: _goes_on,
    e.RunRetried: _goes_on,
    e.RunFailed: lambda row, event, meta: _settled(row, _FAILED, event.cause),
    e.RunCompleted: _completed,
    e.RunCancelled: lambda row, event, meta: _ended(
        row, _CANCELLED, meta.reason or event.cause, meta
    ),
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
