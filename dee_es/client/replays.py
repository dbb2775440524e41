"""Runs decided again by the server."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from dee_es.client.bulk import filters_given
from dee_es.client.jobs import done, file_of
from dee_es.client.reading import read
from dee_es.client.transport import Transport, part
from dee_es.core.plans.plan import ExecutionPlan
from dee_es.core.values import check_count, check_flag
from dee_es.engine.api.base import checked_plan
from dee_es.engine.api.replays import checked_templates
from dee_es.engine.past.replay_results import (
    Divergence,
    OnDivergence,
    OnReplayed,
    ReplayResult,
    ReplaySummary,
)
from dee_es.engine.run_filters import Status
from dee_es.errors import InvalidInput

_MOST_WORKERS: Final = 1_000


class ReplaysClient:
    """Compares what is decided now with what was; only `dry_run=False` goes on with a run."""

    _http: Transport

    def replay(
        self,
        run_id: str,
        *,
        plan_version: int | None = None,
        plan: ExecutionPlan | None = None,
        templates: Mapping[str, Mapping[str, Any]] | None = None,
        dry_run: bool = True,
    ) -> ReplayResult:
        """Decide a run again from its log and compare, also under another plan or other templates;
        `dry_run=False` goes on with it where its log ends, at the server."""
        check_flag("dry_run", dry_run)
        if plan_version is not None:
            check_count("plan_version", plan_version)
        path = f"/runs/{part('run_id', run_id)}"
        given = {
            "planVersion": plan_version,
            "plan": None if plan is None else checked_plan(plan).definition(),
            "templates": None if templates is None else checked_templates(templates),
        }
        other = any(value is not None for value in given.values())
        if plan is not None and plan_version is not None:
            raise InvalidInput("plan_version", "give a plan or a version of its own, not both")
        if other and not dry_run:
            raise InvalidInput("dry_run", "a run goes on under its own plan and templates only")
        if not dry_run:
            return read(ReplayResult, self._http.post(f"{path}/go-on"))
        if other:
            return read(ReplayResult, self._http.post(f"{path}/replay", given, changes=False))
        return read(ReplayResult, self._http.get(f"{path}/replay"))

    def replay_all(
        self,
        status: Status = None,
        plan_id: str | None = None,
        contact_id: str | None = None,
        started_after: datetime | None = None,
        started_before: datetime | None = None,
        *,
        workers: int = 1,
        on_progress: OnReplayed | None = None,
        on_divergence: OnDivergence | None = None,
    ) -> ReplaySummary:
        """Replay all runs that match the filters of `list_runs`, by `workers` processes of the
        server, at most one for each of its processors.

        `on_progress` is told the sum so far; `on_divergence`, at the end, the first difference of
        each run that has one.
        """
        check_count("workers", workers)
        filters = filters_given(
            None,
            {
                "status": status,
                "plan_id": plan_id,
                "contact_id": contact_id,
                "started_after": started_after,
                "started_before": started_before,
            },
        )

        def told(job: Mapping[str, Any]) -> None:
            # As in an engine, nothing is told of no runs at all.
            if on_progress is not None and job["result"] is not None and job["result"]["runs"]:
                on_progress(_summary(job["result"]))

        def diverged(job: Mapping[str, Any]) -> None:
            if on_divergence is not None:
                for line in self._http.lines(file_of(job)):
                    on_divergence(read(Divergence, json.loads(line)))

        given = {"filters": filters, "workers": min(workers, _MOST_WORKERS)}
        job = done(self._http, "/runs/bulk-replay", given, on_job=told, look=diverged)
        told(job)
        return _summary(job["result"])


def _summary(counts: Mapping[str, Any]) -> ReplaySummary:
    return ReplaySummary(**{**counts, "causes": Counter(counts["causes"])})
