"""The group `audit` of a client."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import IO, Any

from dee_es.client.jobs import done, fetch_made, telling
from dee_es.client.outputs import deliver
from dee_es.client.reading import read, read_all
from dee_es.client.transport import Transport, part
from dee_es.core.values import check_count, check_text
from dee_es.engine.auditing.anchoring import Proof
from dee_es.engine.auditing.entries import AuditLogEntry, AuditPage
from dee_es.engine.auditing.signing import SignedCheckpoint
from dee_es.engine.auditing.trail import MAX_LIMIT
from dee_es.engine.auditing.verdicts import ChainVerdict, LogVerdict
from dee_es.engine.auditing.verification import OnVerified
from dee_es.engine.exporting.delivery import Output
from dee_es.engine.exporting.draft import OnProgress
from dee_es.engine.exporting.manager import FORMATS, Exported, ExportFormat
from dee_es.engine.past.time_travel import RunContext
from dee_es.engine.retention.models import Archive, ArchiveResult, ArchiveVerdict, OnArchive
from dee_es.errors import InvalidInput

MOST_WORKERS = 1_000


class AuditClient:
    """What auditors ask."""

    def __init__(self, transport: Transport) -> None:
        self._http = transport

    # --- entries ----------------------------------------------------------------------------------

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
        *,
        purpose: str | None = None,
    ) -> AuditPage:
        """Entries that match all filters given, by time. One that is not about a run or a contact
        is recorded, with its `purpose`."""
        several = [actions] if isinstance(actions, str) else actions
        if several is not None and not several:
            # No filter at all is what it would be in an address.
            raise InvalidInput("actions", "must be a list of at least one action")
        check_count("limit", limit, MAX_LIMIT)
        found = self._http.get(
            "/audit",
            runId=run_id,
            contactId=contact_id,
            planId=plan_id,
            actions=None if several is None else list(several),
            actor=actor,
            since=since,
            until=until,
            text=text,
            limit=limit,
            cursor=cursor,
            purpose=purpose,
        )
        return read(AuditPage, found)

    def get_at(
        self, first: int, last: int | None = None, *, purpose: str | None = None
    ) -> list[AuditLogEntry]:
        """The entries at positions `first` to `last` of the whole log, both included. What is about
        more than one contact is recorded, with its `purpose`."""
        found = self._http.get("/audit/entries", first=first, last=last, purpose=purpose)
        return read_all(AuditLogEntry, found)

    def get_context_at(self, run_id: str, step_id: str, *, visit: int | None = None) -> RunContext:
        """What the decision of a step read."""
        path = f"/audit/runs/{part('run_id', run_id)}/context"
        return read(RunContext, self._http.get(path, stepId=step_id, visit=visit))

    # --- whether it is what was written -----------------------------------------------------------

    def verify_run(self, run_id: str) -> ChainVerdict:
        """Check a run's chain of checksums."""
        return read(ChainVerdict, self._http.get(f"/runs/{part('run_id', run_id)}/verify"))

    def verify_log(self, on_progress: OnVerified | None = None, *, workers: int = 1) -> LogVerdict:
        """Check every chain and the order of the whole log, by `workers` processes of the server,
        at most one for each of its processors."""
        check_count("workers", workers)
        told = None if on_progress is None else telling(lambda at, _: on_progress(at))
        given = {"workers": min(workers, MOST_WORKERS)}
        return read(LogVerdict, done(self._http, "/audit/verify", given, on_job=told)["result"])

    def size(self) -> int:
        """How many entries the log has."""
        return int(self._http.get("/audit/size")["size"])

    def checkpoint(self, *, command_id: str | None = None) -> SignedCheckpoint:
        """Put the log as it stands under a signed root, outside the database."""
        return read(SignedCheckpoint, self._http.post("/audit/checkpoint", key=command_id))

    def prove(self, stream_id: str, entry: int) -> Proof:
        """That an entry of a run (or of another stream) is in the log of the last checkpoint."""
        stream = check_text("stream_id", stream_id, blank=False)
        return read(Proof, self._http.get("/audit/proof", streamId=stream, entry=entry))

    def consistency(self, old: int, new: int) -> tuple[bytes, ...]:
        """The proof that the log of its first `new` entries begins with that of its first `old`."""
        check_count("old", old, least=0)
        found = self._http.get("/audit/consistency", old=old, new=new)["hashes"]
        return tuple(bytes.fromhex(each) for each in found)

    # --- archives ---------------------------------------------------------------------------------

    def archive(
        self,
        before: datetime,
        *,
        place: str | None = None,
        reason: str | None = None,
        dry_run: bool = False,
        on_progress: OnArchive | None = None,
        command_id: str | None = None,
    ) -> ArchiveResult:
        """Take runs that ended before a time out of the log, into verified files. `place` is one
        that the server was told of, by default that of its settings."""
        given = {"before": before, "place": place, "reason": reason, "dryRun": dry_run}

        def told(job: Mapping[str, Any]) -> None:
            if on_progress is not None and job["result"] is not None:
                on_progress(read(ArchiveResult, job["result"]))

        job = done(self._http, "/audit/archive", given, key=command_id, on_job=told)
        return read(ArchiveResult, job["result"])

    def archives(self) -> list[Archive]:
        """All archives that were written, in order."""
        return read_all(Archive, self._http.get("/audit/archives"))

    def verify_archives(
        self, place: str | None = None, on_progress: OnArchive | None = None
    ) -> list[ArchiveVerdict]:
        """Read every archive, from `place` if they were moved there (one that the server was told
        of), and compare it with what the log says of it."""

        def told(job: Mapping[str, Any]) -> None:
            if on_progress is not None and job["result"] is not None:
                on_progress(ArchiveResult(job["result"]["runs"], job["result"]["entries"]))

        given = {"place": place}
        job = done(self._http, "/audit/archives/verify", given, on_job=told)
        return read_all(ArchiveVerdict, job["result"]["verdicts"])

    # --- evidence ---------------------------------------------------------------------------------

    def export(
        self,
        run_id: str | None = None,
        *,
        contact_id: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        format: ExportFormat = "json",
        output: Output = None,
        replace: bool = True,
        personal_data: bool = True,
        reason: str | None = None,
        on_progress: OnProgress | None = None,
    ) -> Exported:
        """Give out the entries of a run, of a contact, or of a period, as evidence. `output` is a
        path on this machine or a file open for bytes; the log says of it that it was a stream."""
        if format not in FORMATS:
            raise InvalidInput("format", f"must be one of {', '.join(FORMATS)}")
        asked = (run_id, contact_id, since, until)
        return self._given_out(asked, format, output, replace, personal_data, reason, on_progress)

    def bundle(
        self,
        run_id: str | None = None,
        *,
        contact_id: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        output: Output = None,
        replace: bool = True,
        personal_data: bool = True,
        reason: str | None = None,
        on_progress: OnProgress | None = None,
    ) -> Exported:
        """All forms of an export in one zip file; see `export`."""
        asked = (run_id, contact_id, since, until)
        return self._given_out(asked, "zip", output, replace, personal_data, reason, on_progress)

    def _given_out(
        self,
        asked: tuple[str | None, str | None, datetime | None, datetime | None],
        format: str,
        output: Output,
        replace: bool,
        personal_data: bool,
        reason: str | None,
        on_progress: OnProgress | None,
    ) -> Exported:
        given = {
            **dict(zip(("runId", "contactId", "since", "until"), asked, strict=True)),
            "format": format,
            "personalData": personal_data,
            "reason": reason,
        }
        told: dict[str, Any] = {}

        def fill(file: IO[bytes]) -> None:
            job = fetch_made(self._http, "/audit/export", given, file, on_job=telling(on_progress))
            told.update(job["result"])

        content = deliver(output, fill, replace=replace)
        return read(Exported, {**told, "content": content})
