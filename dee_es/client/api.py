"""The engine's methods over HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, Literal, Self

from dee_es.client.bulk import BulkClient
from dee_es.client.definitions import DefinitionsClient
from dee_es.client.events import EventsClient
from dee_es.client.evidence import AuditClient, ComplianceClient, ProjectionsClient
from dee_es.client.history import HistoryClient
from dee_es.client.holds import HoldsClient
from dee_es.client.jobs import OnProgress, done, telling
from dee_es.client.reading import read, read_all
from dee_es.client.run_files import RunFilesClient
from dee_es.client.runs import RunsClient, camel
from dee_es.client.suppressions import SuppressionsClient
from dee_es.client.transport import Transport, part
from dee_es.engine.explain import Explanation
from dee_es.engine.insights import ContactAt
from dee_es.engine.models import (
    ChainVerdict,
    Health,
    LogEntry,
    LogVerdict,
    Metrics,
    TimelineEntry,
)
from dee_es.engine.replay_results import ReplayResult
from dee_es.engine.retention.erasure import Erased
from dee_es.engine.time_travel import Change, RunAt


class DeeClient(
    RunsClient,
    BulkClient,
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
    `command_id` makes that hold across programs. Raises `ApiRefused` for what only a server
    refuses, and `StoreUnavailable` if it does not answer.
    """

    def __init__(
        self, url: str, token: str | None = None, *, timeout_s: float = 60.0,
        verify: bool | str = True,
    ) -> None:  # fmt: skip
        self._http = Transport(url, token, timeout_s, verify)
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

    def replay(self, run_id: str, *, plan_version: int | None = None) -> ReplayResult:
        """Decide a run again from its log and compare."""
        found = self._http.get(f"/runs/{part('run_id', run_id)}/replay", planVersion=plan_version)
        return read(ReplayResult, found)

    def verify_audit_chain(self, run_id: str) -> ChainVerdict:
        """Check a run's chain of checksums."""
        return read(ChainVerdict, self._http.get(f"/runs/{part('run_id', run_id)}/verify"))

    def verify_log(self, on_progress: OnProgress | None = None) -> LogVerdict:
        """Check every chain and the order of the whole log."""
        job = done(self._http, "/audit/verify", on_job=telling(on_progress))
        return read(LogVerdict, job["result"])

    # --- contacts and events ----------------------------------------------------------------------

    def contact_at(
        self, contact_id: str, *, time: datetime | None = None, tick: int | None = None
    ) -> ContactAt:
        """A contact as of a tick or a time, by default as of now."""
        return read(
            ContactAt,
            self._http.get(f"/contacts/{part('contact_id', contact_id)}", time=time, tick=tick),
        )

    def suppress(
        self, contact_id: str | None = None, *, command_id: str | None = None, **given: Any
    ) -> bool:
        """Put a contact on the suppression list: `email`, `phone`, `level`, `channel`, `plan_id`
        and `reason` as for `Engine.suppress`."""
        return self._listed("suppress", contact_id, command_id, given)

    def unsuppress(
        self, contact_id: str | None = None, *, command_id: str | None = None, **given: Any
    ) -> bool:
        """Lift a suppression that was made with the same id or address."""
        return self._listed("unsuppress", contact_id, command_id, given)

    def _listed(
        self, verb: str, contact_id: str | None, key: str | None, given: Mapping[str, Any]
    ) -> bool:
        body = {"contactId": contact_id, **{camel(name): value for name, value in given.items()}}
        return bool(self._http.post(f"/contacts/{verb}", body, key=key)["changed"])

    def grant_consent(
        self, contact_id: str, channel: Literal["email", "voice"], *,
        command_id: str | None = None, **given: Any,
    ) -> bool:  # fmt: skip
        """Record that the contact agreed to a channel: `purpose`, `expires_at`, `source` and
        `reason` as for `Engine.grant_consent`."""
        return self._consent("grant", contact_id, channel, command_id, given)

    def revoke_consent(
        self, contact_id: str, channel: Literal["email", "voice"], *,
        command_id: str | None = None, **given: Any,
    ) -> bool:  # fmt: skip
        """Record that the contact took its consent back."""
        return self._consent("revoke", contact_id, channel, command_id, given)

    def _consent(
        self, verb: str, contact_id: str, channel: str, key: str | None, given: Mapping[str, Any]
    ) -> bool:
        body = {"channel": channel, **{camel(name): value for name, value in given.items()}}
        path = f"/contacts/{part('contact_id', contact_id)}/{verb}-consent"
        return bool(self._http.post(path, body, key=key)["changed"])

    def erase_contact(
        self, contact_id: str, reason: str, *, command_id: str | None = None
    ) -> Erased:
        """Make all personal data of a contact unreadable for ever."""
        path = f"/contacts/{part('contact_id', contact_id)}/erase"
        return read(Erased, self._http.post(path, {"reason": reason}, key=command_id))

    def get_contact_logs(self, contact_id: str) -> list[LogEntry]:
        """All that was recorded about a contact, in log order."""
        path = f"/contacts/{part('contact_id', contact_id)}/logs"
        return read_all(LogEntry, self._http.get(path))

    def explain_contact(self, contact_id: str, plan_id: str | None = None) -> Explanation:
        """Why a contact has no run (of a plan), or which runs it has."""
        path = f"/contacts/{part('contact_id', contact_id)}/explain"
        return read(Explanation, self._http.get(path, planId=plan_id))

    # --- the whole --------------------------------------------------------------------------------

    def health(self) -> Health:
        """How the database, its scheduler and its projections stand."""
        return read(Health, self._http.get("/health"))

    def metrics(self) -> Metrics:
        """Numbers to watch."""
        return read(Metrics, self._http.get("/metrics"))
