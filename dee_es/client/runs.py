"""Runs over HTTP, one at a time."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from pydantic.alias_generators import to_camel

from dee_es.client.reading import read
from dee_es.client.transport import Transport, part
from dee_es.core.contact import Contact
from dee_es.core.plans.plan import ExecutionPlan
from dee_es.core.values import check_count, check_map, check_one_of
from dee_es.core.views import RunStatus
from dee_es.engine.api.base import checked_plan
from dee_es.engine.lifecycle import KEEPS, OUTCOMES, Keep, Outcome
from dee_es.engine.models import ExecutionRun, RunPage
from dee_es.engine.queries import MAX_LIMIT
from dee_es.engine.run_filters import Status, checked_status
from dee_es.errors import InvalidInput

Plan = ExecutionPlan | str
"""A plan, or `id` or `id@version` of a published one."""
Given = Contact | Mapping[str, Any]
_PAGE: Final = 1_000
camel = to_camel


class RunsClient:
    """The Runs page, one run at a time."""

    _http: Transport

    # --- runs -------------------------------------------------------------------------------------

    def execute(
        self,
        plan: Plan,
        contact: Given,
        variables: Mapping[str, Any] | None = None,
        start_at: datetime | None = None,
        *,
        command_id: str | None = None,
    ) -> ExecutionRun:
        """Start a run of a plan for a contact, now or at `start_at`."""
        given = {
            "plan": plan_given(plan),
            "contact": person_given(contact),
            "variables": check_map("variables", variables or {}),
            "startAt": start_at,
        }
        return read(ExecutionRun, self._http.post("/runs", given, key=command_id))

    def get_run(self, run_id: str) -> ExecutionRun:
        """One run as it stands; raises `RunNotFound`."""
        return read(ExecutionRun, self._http.get(f"/runs/{part('run_id', run_id)}"))

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
        """Runs that match all filters given, newest first."""
        check_count("limit", limit, MAX_LIMIT)
        check_count("offset", offset, least=0)
        runs: list[ExecutionRun] = []
        while True:
            found = self._http.get(
                "/runs",
                status=checked_status(status),
                planId=plan_id,
                contactId=contact_id,
                startedAfter=started_after,
                startedBefore=started_before,
                limit=min(limit - len(runs), _PAGE),
                offset=offset,
                cursor=cursor,
            )
            page = read(RunPage, found)
            runs += page.runs
            cursor, offset = page.next_cursor, 0
            if cursor is None or len(runs) == limit:
                return page.model_copy(update={"runs": tuple(runs)})

    def count_runs(
        self,
        plan_id: str | None = None,
        contact_id: str | None = None,
        started_after: datetime | None = None,
        started_before: datetime | None = None,
    ) -> dict[RunStatus, int]:
        """How many runs that match all filters given have each status, exactly, at one moment."""
        found = self._http.get(
            "/runs/counts",
            planId=plan_id,
            contactId=contact_id,
            startedAfter=started_after,
            startedBefore=started_before,
        )
        return {RunStatus(status): int(count) for status, count in found["counts"].items()}

    def pause_run(
        self,
        run_id: str,
        reason: str | None = None,
        keep: Keep = "deadline",
        *,
        command_id: str | None = None,
    ) -> ExecutionRun:
        """Stop a run until it is resumed."""
        check_one_of("keep", keep, KEEPS)
        return self._change(run_id, "pause", command_id, reason=reason, keep=keep)

    def resume_run(
        self, run_id: str, reason: str | None = None, *, command_id: str | None = None
    ) -> ExecutionRun:
        """Let a paused run go on from the next tick."""
        return self._change(run_id, "resume", command_id, reason=reason)

    def cancel_run(
        self, run_id: str, reason: str, *, command_id: str | None = None
    ) -> ExecutionRun:
        """End a run; the reason is recorded."""
        return self._change(run_id, "cancel", command_id, reason=reason)

    def retry_run(self, run_id: str, reason: str, *, command_id: str | None = None) -> ExecutionRun:
        """Let a failed run enter its step again."""
        return self._change(run_id, "retry", command_id, reason=reason)

    def resolve_step(
        self,
        run_id: str,
        outcome: Outcome,
        *,
        reason: str,
        command_id: str | None = None,
    ) -> ExecutionRun:
        """Settle a send whose outcome is unknown."""
        check_one_of("outcome", outcome, OUTCOMES)
        return self._change(run_id, "resolve", command_id, reason=reason, outcome=outcome)

    def _change(self, run_id: str, verb: str, key: str | None, **given: Any) -> ExecutionRun:
        path = f"/runs/{part('run_id', run_id)}/{verb}"
        return read(ExecutionRun, self._http.post(path, given, key=key))


def plan_given(plan: Plan) -> Any:
    """The plan as the server takes it. One that is at hand goes as it is: its version may be that
    of another database."""
    return plan if isinstance(plan, str) else checked_plan(plan).definition()


def person_given(given: Given) -> dict[str, Any]:
    """The contact as the server takes it; raises `InvalidInput` as the engine does."""
    if isinstance(given, Contact):
        return given.model_dump(exclude_none=True)
    if not isinstance(given, Mapping):
        raise InvalidInput("contact", f"must be a Contact or a map, not {type(given).__name__}")
    return Contact.model_validate(dict(given)).model_dump(exclude_none=True)
