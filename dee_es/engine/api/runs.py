"""Single runs: start, read, list, and every command of the status table."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from dee_es.core.clock import require_utc
from dee_es.core.plans.plan import ExecutionPlan
from dee_es.core.values import check_one_of
from dee_es.core.views import RunStatus
from dee_es.engine.api.base import ApiBase, checked_plan, checked_reason, checked_run_id
from dee_es.engine.enrolling.parts import Given
from dee_es.engine.lifecycle import KEEPS, OUTCOMES, Keep, Outcome
from dee_es.engine.models import ExecutionRun, RunPage
from dee_es.engine.run_filters import Status


class RunsApi(ApiBase):
    """The Runs page, one run at a time."""

    def execute(
        self,
        plan: ExecutionPlan,
        contact: Given,
        variables: Mapping[str, Any] | None = None,
        start_at: datetime | None = None,
        *,
        actor: str | None = None,
        command_id: str | None = None,
    ) -> ExecutionRun:
        """Start a run of a plan for a contact, now or at `start_at`.

        Raises `AlreadyEnrolled`, `ContactSuppressed`, `InvalidInput`, `PlanValidationError`.
        """
        start, meta = self._tick(start_at), self._meta("execute", command_id, actor, None)
        run, ordinal = self._enrollment.execute(checked_plan(plan), contact, variables, start, meta)
        return self._shown(run, ordinal)

    def check_execute(
        self,
        plan: ExecutionPlan,
        contact: Given,
        variables: Mapping[str, Any] | None = None,
        start_at: datetime | None = None,
        *,
        actor: str | None = None,
    ) -> None:
        """Raise what `execute` would, without a run or a plan published: for whoever is about to
        publish what the plan refers to, so that it need not be there yet. That a suppressed contact
        was refused is recorded, as by `execute`."""
        meta = self._meta("execute", None, actor, None)
        self._enrollment.check(checked_plan(plan), contact, variables, self._tick(start_at), meta)

    def get_run(self, run_id: str) -> ExecutionRun:
        """One run as it stands; raises `RunNotFound`."""
        return self._shown(self._runs.load(checked_run_id(run_id)))

    def list_runs(
        self,
        status: Status = None,
        plan_id: str | None = None,
        contact_id: str | None = None,
        started_after: datetime | None = None,
        started_before: datetime | None = None,
        limit: int = 50,
        offset: int = 0,
        cursor: str | None = None,
    ) -> RunPage:
        """Runs that match all filters given, newest first; `total` counts them all exactly.

        `started_after` is inclusive, `started_before` exclusive. Go on with `cursor`, or with
        `offset`. Raises `InvalidInput` naming the filter.
        """
        chosen = self._queries.filter(
            status=status,
            plan_id=plan_id,
            contact_id=contact_id,
            started_after=started_after,
            started_before=started_before,
        )
        return self._queries.page(chosen, limit=limit, offset=offset, cursor=cursor)

    def count_runs(
        self,
        plan_id: str | None = None,
        contact_id: str | None = None,
        started_after: datetime | None = None,
        started_before: datetime | None = None,
    ) -> dict[RunStatus, int]:
        """How many runs that match all filters given have each status, exactly, at one moment.

        The filters are those of `list_runs`. Raises `InvalidInput` naming the filter.
        """
        chosen = self._queries.filter(
            plan_id=plan_id,
            contact_id=contact_id,
            started_after=started_after,
            started_before=started_before,
        )
        return self._queries.count_by_status(chosen)

    def pause_run(
        self,
        run_id: str,
        reason: str | None = None,
        actor: str | None = None,
        keep: Keep = "deadline",
        *,
        command_id: str | None = None,
    ) -> ExecutionRun:
        """Stop a run until it is resumed. A wait keeps its deadline, or its remaining time.

        Raises `RunNotFound`, `InvalidTransition`.
        """
        kept = check_one_of("keep", keep, KEEPS)
        meta = self._meta("pause", command_id, actor, reason)
        return self._shown(self._lifecycle.pause(checked_run_id(run_id), kept, meta))

    def resume_run(
        self,
        run_id: str,
        reason: str | None = None,
        actor: str | None = None,
        *,
        command_id: str | None = None,
    ) -> ExecutionRun:
        """Let a paused run go on from the next tick; one that its policy had paused, under the
        policy published by now. Raises `RunNotFound`, `InvalidTransition`."""
        meta = self._meta("resume", command_id, actor, reason)
        return self._shown(self._lifecycle.resume(checked_run_id(run_id), meta))

    def cancel_run(
        self, run_id: str, reason: str, actor: str | None = None, *, command_id: str | None = None
    ) -> ExecutionRun:
        """End a run; the reason is recorded. Raises `RunNotFound`, `InvalidTransition`."""
        meta = self._meta("cancel", command_id, actor, checked_reason(reason))
        return self._shown(self._lifecycle.cancel(checked_run_id(run_id), meta))

    def retry_run(
        self, run_id: str, reason: str, actor: str | None = None, *, command_id: str | None = None
    ) -> ExecutionRun:
        """Let a failed run enter its step again, under the definitions published by now.

        Raises `RunNotFound`, `InvalidTransition`, and `OutcomeUnknownError`, which is one, while a
        send's outcome is unknown.
        """
        meta = self._meta("retry", command_id, actor, checked_reason(reason))
        return self._shown(self._lifecycle.retry(checked_run_id(run_id), meta))

    def resolve_step(
        self,
        run_id: str,
        outcome: Outcome,
        *,
        reason: str,
        actor: str | None = None,
        command_id: str | None = None,
    ) -> ExecutionRun:
        """Settle a send whose outcome is unknown. Raises `RunNotFound`, `InvalidTransition`."""
        settled = check_one_of("outcome", outcome, OUTCOMES)
        meta = self._meta("resolve", command_id, actor, checked_reason(reason))
        return self._shown(self._lifecycle.resolve(checked_run_id(run_id), settled, meta))

    def _tick(self, start_at: datetime | None) -> int | None:
        if start_at is None:
            return None
        return self._parts.scale.tick_from(require_utc("start_at", start_at))
