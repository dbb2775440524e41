"""Runs over HTTP: one at a time, and many."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final, Literal

from pydantic.alias_generators import to_camel

from dee_es.client.jobs import result_of
from dee_es.client.reading import read, read_all
from dee_es.client.transport import Transport
from dee_es.core.contact import Contact
from dee_es.core.plan import ExecutionPlan
from dee_es.engine.models import (
    MAX_REFUSALS,
    BulkChange,
    BulkResult,
    ExecutionRun,
    OnProgress,
    OnRefusal,
    Refusal,
    RunPage,
)

Plan = ExecutionPlan | str
"""A plan, or `id` or `id@version` of a published one."""
Given = Contact | Mapping[str, Any]
_AT_ONCE: Final = 500
_BYTES: Final = 512 * 1024
_PAGE: Final = 1_000
_FIELDS: Final = ("id", "email", "phone", "timezone", "attributes")
camel = to_camel


class RunsClient:
    """The Runs page."""

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
            "plan": _plan(plan),
            "contact": _contact(contact),
            "variables": None if variables is None else dict(variables),
            "startAt": start_at,
        }
        return read(ExecutionRun, self._http.post("/runs", given, key=command_id))

    def get_run(self, run_id: str) -> ExecutionRun:
        """One run as it stands; raises `RunNotFound`."""
        return read(ExecutionRun, self._http.get(f"/runs/{run_id}"))

    def list_runs(
        self,
        status: str | list[str] | None = None,
        plan_id: str | None = None,
        contact_id: str | None = None,
        started_after: datetime | None = None,
        started_before: datetime | None = None,
        limit: int = 50,
        offset: int = 0,
        cursor: str | None = None,
    ) -> RunPage:
        """Runs that match all filters given, newest first."""
        found = self._http.get(
            "/runs",
            status=[status] if isinstance(status, str) else status,
            planId=plan_id,
            contactId=contact_id,
            startedAfter=started_after,
            startedBefore=started_before,
            limit=limit,
            offset=offset,
            cursor=cursor,
        )
        return read(RunPage, found)

    def pause_run(
        self,
        run_id: str,
        reason: str | None = None,
        keep: Literal["deadline", "remaining"] = "deadline",
        *,
        command_id: str | None = None,
    ) -> ExecutionRun:
        """Stop a run until it is resumed."""
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
        outcome: Literal["delivered", "failed", "resend"],
        *,
        reason: str,
        command_id: str | None = None,
    ) -> ExecutionRun:
        """Settle a send whose outcome is unknown."""
        return self._change(run_id, "resolve", command_id, reason=reason, outcome=outcome)

    def _change(self, run_id: str, verb: str, key: str | None, **given: Any) -> ExecutionRun:
        return read(ExecutionRun, self._http.post(f"/runs/{run_id}/{verb}", given, key=key))

    # --- many runs --------------------------------------------------------------------------------

    def bulk_execute(
        self,
        plan: Plan,
        contacts: Iterable[Given],
        variables: Mapping[str, Any] | None = None,
        batch_size: int = 100,
        on_progress: OnProgress | None = None,
        on_refusal: OnRefusal | None = None,
        dry_run: bool = False,
        *,
        command_id: str | None = None,
    ) -> BulkResult:
        """Enroll many contacts, at most 500 in a request; any iterable is read in flat memory."""
        result = BulkResult()
        for number, batch in enumerate(_batches(contacts)):
            given = {
                "plan": _plan(plan),
                "contacts": batch,
                "variables": dict(variables or {}),
                "batchSize": batch_size,
                "dryRun": dry_run,
            }
            key = None if command_id is None else f"{command_id}.{number}"
            job = result_of(self._http, self._http.post("/runs/bulk-execute", given, key=key))
            result.created += job["result"]["created"]
            result.skipped += job["result"]["skipped"]
            result.errors += job["result"]["errors"]
            self._refusals(job["id"], result, on_refusal)
            if on_progress is not None:
                on_progress(result)
        return result

    def _refusals(self, job_id: str, result: BulkResult, on_refusal: OnRefusal | None) -> None:
        cursor = None
        while True:
            page = self._http.get(f"/jobs/{job_id}/refusals", limit=_PAGE, cursor=cursor)
            for each in read_all(Refusal, page["refusals"]):
                if len(result.refusals) < MAX_REFUSALS:
                    result.refusals.append(each)
                if on_refusal is not None:
                    on_refusal(each)
            cursor = page["nextCursor"]
            if cursor is None:
                return

    def bulk_cancel(
        self,
        filters: Mapping[str, Any],
        reason: str,
        dry_run: bool = False,
        *,
        command_id: str | None = None,
    ) -> BulkChange:
        """Cancel all runs that match the filters of `list_runs`."""
        return self._bulk("cancel", filters, reason, dry_run, command_id)

    def bulk_pause(
        self,
        filters: Mapping[str, Any],
        reason: str,
        keep: Literal["deadline", "remaining"] = "deadline",
        dry_run: bool = False,
        *,
        command_id: str | None = None,
    ) -> BulkChange:
        """Pause all runs that match and can be paused."""
        return self._bulk("pause", filters, reason, dry_run, command_id, keep=keep)

    def bulk_resume(
        self,
        filters: Mapping[str, Any],
        reason: str,
        per_tick: int = 100,
        dry_run: bool = False,
        *,
        command_id: str | None = None,
    ) -> BulkChange:
        """Resume all paused runs that match, `per_tick` of them in each of the coming ticks."""
        return self._bulk("resume", filters, reason, dry_run, command_id, perTick=per_tick)

    def _bulk(
        self,
        verb: str,
        filters: Mapping[str, Any],
        reason: str,
        dry_run: bool,
        key: str | None,
        **more: Any,
    ) -> BulkChange:
        chosen = {camel(name): _filter(value) for name, value in filters.items()}
        given = {"filters": chosen, "reason": reason, "dryRun": dry_run, **more}
        found = self._http.post(f"/runs/bulk-{verb}", given, key=key)
        if not dry_run:
            found = result_of(self._http, found)["result"]
        changed = found.get("cancelled", found.get("changed", 0))
        return BulkChange(found["matched"], changed, found["errors"])


def _plan(plan: Plan) -> Any:
    if isinstance(plan, str):
        return plan
    return plan.definition() if not plan.version else f"{plan.id}@{plan.version}"


def _contact(given: Given) -> dict[str, Any]:
    """The contact as the server takes it, which is the one to check it: unknown names become
    attributes, as they do in the engine."""
    values = given.model_dump(exclude_none=True) if isinstance(given, Contact) else dict(given)
    more = {name: value for name, value in values.items() if name not in _FIELDS}
    known = {name: value for name, value in values.items() if name in _FIELDS}
    if more:
        known["attributes"] = {**(known.get("attributes") or {}), **more}
    return known


def _batches(contacts: Iterable[Given]) -> Iterator[list[dict[str, Any]]]:
    """The contacts in lists that fit into a request."""
    batch: list[dict[str, Any]] = []
    size = 0
    for each in contacts:
        person = _contact(each)
        length = len(json.dumps(person))
        if batch and (len(batch) == _AT_ONCE or size + length > _BYTES):
            yield batch
            batch, size = [], 0
        batch.append(person)
        size += length
    if batch:
        yield batch


def _filter(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value
