"""The engine's methods over HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from dee_es.client.audit import AuditClient
from dee_es.client.bulk import BulkClient
from dee_es.client.compliance import ComplianceClient
from dee_es.client.contacts import ContactsClient
from dee_es.client.definitions import DefinitionsClient
from dee_es.client.events import EventsClient
from dee_es.client.history import HistoryClient
from dee_es.client.holds import HoldsClient
from dee_es.client.projections import ProjectionsClient
from dee_es.client.reading import read, read_all
from dee_es.client.run_files import RunFilesClient
from dee_es.client.runs import RunsClient
from dee_es.client.suppressions import SuppressionsClient
from dee_es.client.transport import Transport, part
from dee_es.core.plans.plan import ExecutionPlan
from dee_es.core.values import check_count, check_flag
from dee_es.engine.api.base import checked_plan
from dee_es.engine.api.replays import checked_templates
from dee_es.engine.auditing.verification import OnVerified
from dee_es.engine.models import (
    ChainVerdict,
    Health,
    LogEntry,
    LogVerdict,
    Metrics,
    TimelineEntry,
)
from dee_es.engine.past.explain import Explanation
from dee_es.engine.past.replay_results import ReplayResult
from dee_es.engine.past.time_travel import Change, RunAt
from dee_es.errors import InvalidInput


class DeeClient(
    RunsClient,
    BulkClient,
    ContactsClient,
    DefinitionsClient,
    EventsClient,
    HistoryClient,
    HoldsClient,
    RunFilesClient,
    SuppressionsClient,
):
    """The methods of `Engine` on a `dee serve` at `url`, raising the same errors.

    `token` is one of `dee serve token`; a server without users needs none. Who acts is whom the
    server knows by it. A call that got no answer is repeated under its key and never acts twice;
    `command_id` makes that hold across programs. A server that is away, as while it is started
    anew, is waited for `patience_s` seconds, 0 for not at all. Raises `ApiRefused` for what only a
    server refuses, and `StoreUnavailable`, with what is known to be done, if it does not answer.
    """

    def __init__(
        self, url: str, token: str | None = None, *, timeout_s: float = 60.0,
        verify: bool | str = True, patience_s: float = 30.0,
    ) -> None:  # fmt: skip
        self._http = Transport(url, token, timeout_s, verify, patience_s)
        self.audit = AuditClient(self._http)
        self.compliance = ComplianceClient(self._http)
        self.projections = ProjectionsClient(self._http)

    def close(self) -> None:
        """Let the connections go."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # --- the past ---------------------------------------------------------------------------------

    def get_timeline(self, run_id: str) -> list[TimelineEntry]:
        """What happened in a run, in order."""
        return read_all(TimelineEntry, self._http.get(f"/runs/{part('run_id', run_id)}/timeline"))

    def get_logs(self, run_id: str) -> list[LogEntry]:
        """All that was recorded in a run."""
        return read_all(LogEntry, self._http.get(f"/runs/{part('run_id', run_id)}/logs"))

    def explain(self, run_id: str) -> Explanation:
        """What the run is doing and why."""
        return read(Explanation, self._http.get(f"/runs/{part('run_id', run_id)}/explain"))

    def run_at(
        self,
        run_id: str,
        *,
        version: int | None = None,
        tick: int | None = None,
        time: datetime | None = None,
    ) -> RunAt:
        """The run exactly as it stood; give one of `version`, `tick` and `time`."""
        found = self._http.get(
            f"/runs/{part('run_id', run_id)}/at", version=version, tick=tick, time=time
        )
        return read(RunAt, found)

    def diff_run(self, run_id: str, from_version: int, to_version: int) -> list[Change]:
        """What changed between two versions of a run."""
        query = {"from": from_version, "to": to_version}
        return read_all(Change, self._http.get(f"/runs/{part('run_id', run_id)}/diff", **query))

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

    def verify_audit_chain(self, run_id: str) -> ChainVerdict:
        """Check a run's chain of checksums."""
        return read(ChainVerdict, self._http.get(f"/runs/{part('run_id', run_id)}/verify"))

    def verify_log(self, on_progress: OnVerified | None = None, *, workers: int = 1) -> LogVerdict:
        """Check every chain and the order of the whole log; see `audit.verify_log`."""
        return self.audit.verify_log(on_progress, workers=workers)

    # --- the whole --------------------------------------------------------------------------------

    def health(self) -> Health:
        """How the database, its scheduler and its projections stand."""
        return read(Health, self._http.get("/health"))

    def metrics(self) -> Metrics:
        """Numbers to watch."""
        return read(Metrics, self._http.get("/metrics"))
