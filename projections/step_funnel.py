"""The step funnel: what became of every visit of every step of a plan, and why.

A visit begins when the step is entered, and has one state at any time: `in_progress`, `sent` (it
did what it is for: a message arrived, a wait was over, a branch was taken, an end was reached),
`skipped` or `deferred` by a rule, `failed`, or `exited` (the run ended in it otherwise). So entered
= sent + skipped + deferred + failed + exited + in_progress, always. A failed visit that a person
resolves as delivered becomes sent; one whose run is cancelled stays failed. Messages that go out
again, and outcomes that come too late, change no visit.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, Final

from msgspec.structs import replace

from dee_es.core import events as e
from dee_es.core.ids import is_run
from dee_es.core.projection import CountKey, OneTable, Table
from dee_es.core.views import FUNNEL_COUNTS, FunnelRow, VisitState

_RULES: Final = 200
"""Characters of a reason that are kept: enough to tell one kind from another."""

IGNORED: Final[frozenset[type[e.Event]]] = frozenset(
    {
        e.RunScheduled,
        e.RunStarted,
        e.RunPaused,
        e.RunResumed,
        e.RunRetried,
        e.RunFailed,
        e.StepPending,
        e.StepRetried,
        e.WaitStarted,
        e.ChannelEventReceived,
    }
)
"""Events of runs that change no visit: it is in progress meanwhile, or stays what it became."""


class StepFunnel(OneTable):
    """Folds a run's events into its visits; they are counted by plan, version and step."""

    name = "step_funnel"
    appends_only = False
    table = Table("step_funnel", 1, FunnelRow, key="run_id", counted=FUNNEL_COUNTS)

    def key(self, event: e.RecordedEvent) -> str | None:
        """The run, for every event of one."""
        return event.stream_id if is_run(event.stream_id) else None

    def fold(self, row: FunnelRow | None, event: e.RecordedEvent) -> FunnelRow:
        """The run's visits after the event."""
        if row is None:
            start = event.event
            assert isinstance(start, e.Start), "a run begins with its enrolment"
            plan, version = start.plan_id, start.plan_version
            return FunnelRow(event.stream_id, plan, version, None, "", "", "[]")
        fold = _FOLDS.get(type(event.event))
        return row if fold is None else fold(row, event.event)

    def tally(self, row: FunnelRow) -> Iterator[CountKey]:
        """Every visit of the run, by its step, state and reason."""
        visits = json.loads(row.visits)
        if row.step_id is not None:
            visits.append([row.step_id, row.state, row.reason, 1])
        for step, state, reason, number in visits:
            for _ in range(number):
                yield row.plan_id, row.plan_version, step, state, reason


def _entered(row: FunnelRow, event: e.StepEntered) -> FunnelRow:
    if row.step_id is not None:
        row = replace(row, visits=_with(row.visits, [row.step_id, row.state, row.reason]))
    return replace(row, step_id=event.step_id, state="in_progress", reason="")


def _with(visits: str, visit: list[str]) -> str:
    """The closed visits and one more; those that are alike are counted together."""
    known = json.loads(visits)
    for each in known:
        if each[:3] == visit:
            each[3] += 1
            break
    else:
        known.append([*visit, 1])
    return json.dumps(known, ensure_ascii=False, separators=(",", ":"))


def _becomes(row: FunnelRow, step_id: str | None, state: VisitState, reason: str = "") -> FunnelRow:
    if row.step_id is None or step_id not in (None, row.step_id):
        return row
    return replace(row, state=state, reason=reason[:_RULES])


def _open(row: FunnelRow) -> bool:
    return row.state in ("in_progress", "deferred")


def _sent(row: FunnelRow, event: Any) -> FunnelRow:
    # What a stopped run's last send came to is evidence, unless a person settles it.
    return _becomes(row, event.step_id, "sent") if _open(row) else row


def _completed(row: FunnelRow, event: e.StepCompleted) -> FunnelRow:
    return row if event.late or event.resend else _sent(row, event)


def _skipped(row: FunnelRow, event: e.StepSkipped) -> FunnelRow:
    return row if event.resend else _becomes(row, event.step_id, "skipped", event.rule)


def _deferred(row: FunnelRow, event: e.StepDeferred) -> FunnelRow:
    # The pause before another attempt is a deferral, too, but no rule's.
    if event.resend or event.rule == "retry":
        return row
    return _becomes(row, event.step_id, "deferred", event.rule)


def _dispatched(row: FunnelRow, event: e.StepDispatched) -> FunnelRow:
    return row if event.resend else _becomes(row, event.step_id, "in_progress")


def _failed(row: FunnelRow, event: e.StepFailed) -> FunnelRow:
    if event.late or event.resend or not _open(row):
        return row
    return _becomes(row, event.step_id, "failed", event.error.partition(":")[0])


def _unknown(row: FunnelRow, event: e.OutcomeUnknown) -> FunnelRow:
    if event.resend or not _open(row):
        return row
    return _becomes(row, event.step_id, "failed", "outcome unknown")


def _resolved(row: FunnelRow, event: e.StepResolved) -> FunnelRow:
    settled = event.outcome == "delivered" and not event.resend
    return _becomes(row, event.step_id, "sent") if settled else row


def _ended(row: FunnelRow, event: e.RunCompleted) -> FunnelRow:
    if event.step_id is not None:
        return _becomes(row, event.step_id, "sent") if _open(row) else row
    return _becomes(row, None, "exited", event.outcome or "completed") if _open(row) else row


def _cancelled(row: FunnelRow, event: e.RunCancelled) -> FunnelRow:
    return _becomes(row, None, "exited", event.cause) if _open(row) else row


_FOLDS: Final[dict[type[e.Event], Callable[[FunnelRow, Any], FunnelRow]]] = {
    e.StepEntered: _entered,
    e.StepDispatched: _dispatched,
    e.StepCompleted: _completed,
    e.BranchEvaluated: _sent,
    e.WaitCompleted: _sent,
    e.StepSkipped: _skipped,
    e.StepDeferred: _deferred,
    e.StepFailed: _failed,
    e.OutcomeUnknown: _unknown,
    e.StepResolved: _resolved,
    e.RunCompleted: _ended,
    e.RunCancelled: _cancelled,
}

STEP_FUNNEL: Final = StepFunnel()
