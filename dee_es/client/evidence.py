"""The groups `audit`, `compliance` and `projections` of a client."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from dee_es.client.jobs import OnProgress, done, telling
from dee_es.client.reading import read, read_all
from dee_es.client.transport import API, Transport, part
from dee_es.engine.auditing.entries import AuditLogEntry, AuditPage
from dee_es.engine.auditing.signing import SignedCheckpoint
from dee_es.engine.models import ChainVerdict
from dee_es.engine.projecting.models import (
    ParkedStream,
    ProjectionStatus,
    Rebuilt,
    Refolded,
    Verified,
)
from dee_es.engine.time_travel import RunContext


class AuditClient:
    """What auditors ask."""

    def __init__(self, transport: Transport) -> None:
        self._http = transport

    def get_by_run(self, run_id: str) -> list[AuditLogEntry]:
        """All entries of a run, in order."""
        return read_all(AuditLogEntry, self._http.get(f"/audit/runs/{part('run_id', run_id)}"))

    def query(
        self,
        run_id: str | None = None,
        contact_id: str | None = None,
        plan_id: str | None = None,
        actions: Collection[str] | None = None,
        actor: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        text: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> AuditPage:
        """Entries that match all filters given, by time."""
        found = self._http.get(
            "/audit",
            runId=run_id,
            contactId=contact_id,
            planId=plan_id,
            actions=None if actions is None else list(actions),
            actor=actor,
            since=since,
            until=until,
            text=text,
            limit=limit,
            cursor=cursor,
        )
        return read(AuditPage, found)

    def get_context_at(self, run_id: str, step_id: str, *, visit: int | None = None) -> RunContext:
        """What the decision of a step read."""
        path = f"/audit/runs/{part('run_id', run_id)}/context"
        return read(RunContext, self._http.get(path, stepId=step_id, visit=visit))

    def verify_run(self, run_id: str) -> ChainVerdict:
        """Check a run's chain of checksums."""
        return read(ChainVerdict, self._http.get(f"/runs/{part('run_id', run_id)}/verify"))

    def checkpoint(self, *, command_id: str | None = None) -> SignedCheckpoint:
        """Put the log as it stands under a signed root, outside the database."""
        return read(SignedCheckpoint, self._http.post("/audit/checkpoint", key=command_id))

    def export(
        self,
        run_id: str | None = None,
        *,
        contact_id: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        format: str = "json",
        personal_data: bool = True,
        reason: str | None = None,
        on_progress: OnProgress | None = None,
    ) -> bytes:
        """The entries of a run, of a contact, or of a period, as a file: `zip` has all forms."""
        given = {
            "runId": run_id,
            "contactId": contact_id,
            "since": since,
            "until": until,
            "format": format,
            "personalData": personal_data,
            "reason": reason,
        }
        return _file(self._http, "/audit/export", given, on_progress)


class ComplianceClient:
    """Reports."""

    def __init__(self, transport: Transport) -> None:
        self._http = transport

    def report(
        self,
        since: datetime,
        until: datetime,
        include: Collection[str] | None = None,
        *,
        format: str = "json",
        zone: str = "UTC",
        through: int | None = None,
        reason: str | None = None,
        on_progress: OnProgress | None = None,
    ) -> bytes:
        """What the log says about a period, as a file: `json`, `md`, `html` or `pdf`."""
        given = {
            "since": since,
            "until": until,
            "include": None if include is None else list(include),
            "format": format,
            "zone": zone,
            "through": through,
            "reason": reason,
        }
        return _file(self._http, "/report", given, on_progress)


class ProjectionsClient:
    """Looks after projections."""

    def __init__(self, transport: Transport) -> None:
        self._http = transport

    def status(self) -> tuple[ProjectionStatus, ...]:
        """How every projection stands."""
        found = self._http.get("/projections")["projections"]
        return tuple(read_all(ProjectionStatus, found))

    def parked(self) -> tuple[ParkedStream, ...]:
        """The streams that could not be folded, with the event and the error of each."""
        return tuple(read_all(ParkedStream, self._http.get("/projections")["parked"]))

    def rebuild(
        self,
        name: str,
        *,
        throttle: float = 1.0,
        compare: bool = True,
        accept: bool = False,
        restart: bool = False,
        on_progress: OnProgress | None = None,
    ) -> Rebuilt:
        """Build a projection anew, and put it in place."""
        given = {"throttle": throttle, "compare": compare, "accept": accept, "restart": restart}
        path = f"/projections/{part('name', name)}/rebuild"
        return read(Rebuilt, done(self._http, path, given, on_job=telling(on_progress))["result"])

    def verify(
        self, name: str, *, throttle: float = 1.0, on_progress: OnProgress | None = None
    ) -> Verified:
        """Fold the whole log anew beside the live table, and compare."""
        path, given = f"/projections/{part('name', name)}/verify", {"throttle": throttle}
        return read(Verified, done(self._http, path, given, on_job=telling(on_progress))["result"])

    def retry(self, name: str, stream_id: str | None = None) -> Refolded:
        """Fold parked streams, or one of them, after the fold was mended."""
        given = {"streamId": stream_id}
        path = f"/projections/{part('name', name)}/retry"
        return read(Refolded, done(self._http, path, given)["result"])


def _file(
    transport: Transport, path: str, given: dict[str, Any], on_progress: OnProgress | None
) -> bytes:
    content = b""

    def fetch(job: Mapping[str, Any]) -> None:
        nonlocal content
        content = transport.content(job["file"].removeprefix(API))

    done(transport, path, given, on_job=telling(on_progress), look=fetch)
    return content
