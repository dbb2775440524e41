"""Many runs over HTTP: contacts in requests that a server takes, and the jobs that they start."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from dee_es.client.jobs import done
from dee_es.client.reading import read_all
from dee_es.client.runs import Given, Plan, person_given, plan_given
from dee_es.client.transport import Transport, key_given, knowing
from dee_es.core.clock import require_utc
from dee_es.core.values import check_count, check_flag, check_map, check_one_of, check_payload_size
from dee_es.engine.api.base import checked_many, checked_reason
from dee_es.engine.lifecycle import KEEPS, Keep
from dee_es.engine.models import (
    MAX_REFUSALS,
    BulkChange,
    BulkResult,
    OnChange,
    OnProgress,
    OnRefusal,
    Refusal,
    UnchangedRun,
)
from dee_es.engine.run_filters import IN_JSON, checked_status, named
from dee_es.errors import DeeError, EmptyFilter

MAX_BATCH: Final = 100_000
_AT_ONCE: Final = 500
_BYTES: Final = 512 * 1024
_PAGE: Final = 1_000
_VERBS: Final = {"cancel": "end", "pause": "pause", "resume": "resume", "retry": "retry"}


class BulkClient:
    """The Runs page's bulk operations; each waits for what it started."""

    _http: Transport

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
        """Enroll many contacts, at most 500 in a request; any iterable is read in flat memory.

        The same call again creates only what is missing.
        """
        check_count("batch_size", batch_size, MAX_BATCH)
        checked_many("contacts", contacts)
        key = key_given(command_id)
        check_flag("dry_run", dry_run)
        order = {
            "plan": plan_given(plan),
            "variables": check_map("variables", variables or {}),
            "batchSize": batch_size,
            "dryRun": dry_run,
        }
        tally = _Tally(on_progress, on_refusal)
        for number, batch in enumerate(_batches(contacts, tally, apart=not dry_run)):
            given = {**order, "contacts": batch}
            own = own_key(key, number, given)
            with knowing(tally.known):
                job = done(
                    self._http,
                    "/runs/bulk-execute",
                    given,
                    key=own,
                    on_job=tally.under_way,
                    look=lambda job: tally.refused(self._refusals(job["id"])),
                )
            tally.ended(job["result"])
        tally.tell()
        return tally.result

    def _refusals(self, job_id: str) -> Iterator[Refusal]:
        cursor = None
        while True:
            page = self._http.get(f"/jobs/{job_id}/refusals", limit=_PAGE, cursor=cursor)
            yield from read_all(Refusal, page["refusals"])
            cursor = page["nextCursor"]
            if cursor is None:
                return

    def bulk_cancel(
        self,
        filters: Mapping[str, Any] | None = None,
        reason: str = "",
        dry_run: bool = False,
        on_progress: OnChange | None = None,
        *,
        command_id: str | None = None,
        **keywords: Any,
    ) -> BulkChange:
        """Cancel all runs that match the filters of `list_runs`, given as a map or as keywords."""
        check_flag("dry_run", dry_run)
        chosen = filters_given(filters, keywords)
        return self._bulk("cancel", chosen, reason, dry_run, on_progress, command_id)

    def bulk_pause(
        self,
        filters: Mapping[str, Any] | None = None,
        reason: str = "",
        keep: Keep = "deadline",
        dry_run: bool = False,
        on_progress: OnChange | None = None,
        *,
        command_id: str | None = None,
        **keywords: Any,
    ) -> BulkChange:
        """Pause all runs that match and can be paused; filters as for `bulk_cancel`."""
        check_one_of("keep", keep, KEEPS)
        check_flag("dry_run", dry_run)
        chosen = filters_given(filters, keywords)
        return self._bulk("pause", chosen, reason, dry_run, on_progress, command_id, keep=keep)

    def bulk_resume(
        self,
        filters: Mapping[str, Any] | None = None,
        reason: str = "",
        per_tick: int = 100,
        dry_run: bool = False,
        on_progress: OnChange | None = None,
        *,
        command_id: str | None = None,
        **keywords: Any,
    ) -> BulkChange:
        """Resume all paused runs that match, `per_tick` of them in each of the coming ticks."""
        check_count("per_tick", per_tick)
        check_flag("dry_run", dry_run)
        chosen, more = filters_given(filters, keywords), {"perTick": per_tick}
        return self._bulk("resume", chosen, reason, dry_run, on_progress, command_id, **more)

    def bulk_retry(
        self,
        filters: Mapping[str, Any] | None = None,
        reason: str = "",
        per_tick: int = 100,
        dry_run: bool = False,
        on_progress: OnChange | None = None,
        *,
        command_id: str | None = None,
        **keywords: Any,
    ) -> BulkChange:
        """Retry all failed runs that match, `per_tick` of them in each of the coming ticks; those
        whose last send may have arrived count as errors. Filters as for `bulk_cancel`."""
        check_count("per_tick", per_tick)
        check_flag("dry_run", dry_run)
        chosen, more = filters_given(filters, keywords), {"perTick": per_tick}
        return self._bulk("retry", chosen, reason, dry_run, on_progress, command_id, **more)

    def _bulk(
        self,
        verb: str,
        filters: Mapping[str, Any],
        reason: str,
        dry_run: bool,
        on_progress: OnChange | None,
        key: str | None,
        **more: Any,
    ) -> BulkChange:
        if not filters:
            what = f"it would {_VERBS[verb]} all runs"
            raise EmptyFilter(f"give at least one filter; without any {what}")
        path = f"/runs/bulk-{verb}"
        given = {"filters": filters, "reason": checked_reason(reason), "dryRun": dry_run, **more}
        if dry_run:
            return _changed(self._http.post(path, given, key=key))

        def told(job: Mapping[str, Any]) -> None:
            if on_progress is not None and job["result"] is not None:
                on_progress(_changed(job["result"]))

        result = _changed(done(self._http, path, given, key=key, on_job=told)["result"])
        if on_progress is not None:
            on_progress(result)
        return result


@dataclass(slots=True)
class _Tally:
    """Sums up what became of the contacts, in the order of the requests."""

    on_progress: OnProgress | None
    on_refusal: OnRefusal | None
    result: BulkResult = field(default_factory=BulkResult)
    held: list[Refusal] = field(default_factory=list)

    def refuse(self, refusal: Refusal) -> None:
        """Take note of a contact; it is counted by whoever refused it."""
        if len(self.result.refusals) < MAX_REFUSALS:
            self.result.refusals.append(refusal)
        if self.on_refusal is not None:
            self.on_refusal(refusal)

    def under_way(self, job: Mapping[str, Any]) -> None:
        """Tell how it stands while a request is worked on."""
        if self.on_progress is not None and job["result"] is not None:
            so_far, before = BulkResult(refusals=self.result.refusals), self.result
            _add(so_far, before.created, before.skipped, before.errors)
            _add_counts(so_far, job["result"])
            self.on_progress(so_far)

    def refused(self, refusals: Iterable[Refusal]) -> None:
        """Hold whom a request refused; they count once all of them are here."""
        self.held = list(refusals)

    def ended(self, counts: Mapping[str, Any]) -> None:
        """Take note of what became of a request."""
        _add_counts(self.result, counts)
        for refusal in self.held:
            self.refuse(refusal)

    def known(self) -> str:
        """How it stood after the last request that was done; nothing before the first."""
        sums = self.result
        if not sums.done:
            return ""
        return f"{sums.created} created, {sums.skipped} skipped, {sums.errors} errors"

    def tell(self) -> None:
        """Tell how it stands."""
        if self.on_progress is not None:
            self.on_progress(self.result)


def _add(result: BulkResult, created: int, skipped: int, errors: int) -> None:
    result.created += created
    result.skipped += skipped
    result.errors += errors


def _add_counts(result: BulkResult, counts: Mapping[str, Any]) -> None:
    _add(result, counts["created"], counts["skipped"], counts["errors"])


def _batches(
    contacts: Iterable[Given], tally: _Tally, *, apart: bool
) -> Iterator[list[dict[str, Any]]]:
    """The contacts in lists that fit into a request, one without any if there are none, so that the
    plan is looked at all the same; what is no contact is refused here, as the engine refuses it.

    Who is given twice is so in two requests (`apart`): within one, under one key, the second time
    would pass for the first one repeated.
    """
    batch: list[dict[str, Any]] = []
    size, ids, first = 0, set[str](), True
    for given in contacts:
        try:
            person = person_given(given)
            length = len(json.dumps(person))
            # A sixth: what is written as six characters here may be one byte in the log.
            check_payload_size("contact payload", length // 6)
        except DeeError as error:
            who = given.get("id") if isinstance(given, Mapping) else None
            known = who if isinstance(who, str) and len(who) <= 128 else None
            tally.result.errors += 1
            tally.refuse(Refusal(known, "invalid", str(error)))
            continue
        full = len(batch) == _AT_ONCE or size + length > _BYTES
        if batch and (full or (apart and person["id"] in ids)):
            yield batch
            batch, size, ids, first = [], 0, set(), False
        batch.append(person)
        ids.add(person["id"])
        size += length
    if batch or first:
        yield batch


def own_key(key: str, number: int, given: Mapping[str, Any]) -> str:
    """The key of one request of many. What it asks for is part of it, so that a call which goes on
    with other contacts than before is not taken for the one before."""
    asked = json.dumps(given, sort_keys=True).encode()
    digest = hashlib.sha256(len(key).to_bytes(4, "big") + key.encode() + asked)
    return f"{digest.hexdigest()[:40]}.{number}"


def filters_given(filters: Mapping[str, Any] | None, keywords: Mapping[str, Any]) -> dict[str, Any]:
    """The filters as the server takes them; raises `InvalidInput` as the engine does."""
    return {
        IN_JSON[name]: _filter(name, value)
        for name, value in named(filters, keywords)
        if value is not None
    }


def _filter(name: str, value: Any) -> Any:
    if name == "status":
        return checked_status(value)
    return require_utc(name, value).isoformat() if name.startswith("started_") else value


def _changed(found: Mapping[str, Any]) -> BulkChange:
    cancelled = found.get("cancelled")
    changed = found.get("changed") if cancelled is None else cancelled
    unchanged = read_all(UnchangedRun, found.get("unchanged", []))
    return BulkChange(found["matched"], int(changed or 0), found["errors"], unchanged)
