"""`engine.audit`: the audit trail, and its verification."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import datetime

from dee_es.core.clock import TimeScale, require_utc
from dee_es.core.events import LogExported, Meta
from dee_es.core.values import check_actor, check_count, check_flag, check_id, check_text
from dee_es.engine.auditing.anchoring import Anchoring, Proof
from dee_es.engine.auditing.entries import AuditLogEntry, AuditPage
from dee_es.engine.auditing.indexes import IndexVerification
from dee_es.engine.auditing.signing import SignedCheckpoint, Signing
from dee_es.engine.auditing.trail import Trail
from dee_es.engine.auditing.verdicts import ChainVerdict, IndexVerdict, LogVerdict
from dee_es.engine.auditing.verification import OnVerified, Verification
from dee_es.engine.exporting.delivery import Output
from dee_es.engine.exporting.draft import OnProgress
from dee_es.engine.exporting.manager import Asked, Exported, ExportFormat, Exports
from dee_es.engine.past.time_travel import RunContext
from dee_es.engine.retention.archiver import Archiver
from dee_es.engine.retention.models import Archive, ArchiveResult, ArchiveVerdict, OnArchive
from dee_es.errors import InvalidInput


class Audit:
    """What auditors ask; every entry committed before a query began is in its answer."""

    def __init__(
        self,
        trail: Trail,
        verification: Verification,
        indexes: IndexVerification,
        anchoring: Anchoring,
        archiver: Archiver,
        archives: str | None,
        scale: TimeScale,
        signing: Signing,
        exports: Exports,
        meta: Callable[[str, str | None, str | None, str | None], Callable[[], Meta]],
    ) -> None:
        self._trail = trail
        self._verification = verification
        self._indexes = indexes
        self._anchoring = anchoring
        self._archiver = archiver
        self._archives = archives
        self._scale = scale
        self._signing = signing
        self._exports = exports
        self._meta = meta

    def get_by_run(self, run_id: str) -> list[AuditLogEntry]:
        """All entries of a run, in order. Raises `RunNotFound`, `IntegrityViolation`."""
        return self._trail.by_run(check_id("run_id", run_id))

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
        asked_by: str | None = None,
        purpose: str | None = None,
    ) -> AuditPage:
        """Entries that match all filters given, by time; `total` counts them all exactly.

        `since` is inclusive, `until` exclusive; `text` is looked for in the first 500 characters of
        the reasons, without regard to case. Raises `InvalidInput` naming the filter.

        A query that is not confined to one run or one contact is recorded in the log once it was
        answered (`log.exported`), as asked by `asked_by` for a `purpose`; the pages that follow its
        cursor are not recorded again.
        """
        if text is not None:
            check_text("text", text, blank=False)
        chosen = self._trail.filter(run_id, contact_id, plan_id, actions, actor, since, until)
        confined = run_id is not None or contact_id is not None
        meta = self._asking(asked_by, purpose)
        page = self._trail.query(chosen, text, limit, cursor)
        if cursor is None and not confined:
            span = chosen.from_tick, chosen.before_tick
            self._exports.record(_shown(self._exports.through, page.total, *span), meta)
        return page

    def get_at(
        self,
        first: int,
        last: int | None = None,
        *,
        asked_by: str | None = None,
        purpose: str | None = None,
    ) -> list[AuditLogEntry]:
        """The entries at positions `first` to `last` of the whole log, both included (at most
        1,000); what was archived is left out. Raises `InvalidInput`.

        What is about more than one contact is recorded like a `query`.
        """
        meta = self._asking(asked_by, purpose)
        found = self._trail.at_positions(first, first if last is None else last)
        if len({entry.contact_id for entry in found} - {None}) > 1:
            self._exports.record(_shown(found[-1].position, len(found)), meta)
        return found

    def _asking(self, asked_by: str | None, purpose: str | None) -> Callable[[], Meta]:
        # What is wrong with them is told by the names that they have here.
        if asked_by is not None:
            check_actor("asked_by", asked_by)
        if purpose is not None:
            check_text("purpose", purpose)
        return self._meta("query", None, asked_by, purpose)

    def get_context_at(self, run_id: str, step_id: str, *, visit: int | None = None) -> RunContext:
        """What the decision of a step read: the run just before the entry that says what became of
        it, or as it stands if none does yet.

        `visit` counts the times the run entered the step, from 1; the last one by default. Raises
        `RunNotFound`, and `InvalidInput` if the run has not been there.
        """
        if visit is not None:
            check_count("visit", visit)
        return self._trail.context_at(
            check_id("run_id", run_id), check_id("step_id", step_id), visit
        )

    def verify_run(self, run_id: str) -> ChainVerdict:
        """Check a run's chain of checksums; raises `RunNotFound`. An empty chain is never valid."""
        return self._verification.verify_run(check_id("run_id", run_id))

    def verify_log(self, on_progress: OnVerified | None = None, *, workers: int = 1) -> LogVerdict:
        """Check every chain and the order of the whole log, as it stands when this begins.

        `on_progress` is told the position reached. `workers` processes share the work on a long
        log, this one among them, if others can open the database; a script that asks for several
        needs the usual `if __name__ == "__main__":`. Raises `InvalidInput` for fewer than one.
        """
        return self._verification.verify_log(on_progress, workers)

    def verify_indexes(self, on_progress: OnVerified | None = None) -> IndexVerdict:
        """Compare what decisions read beside the log with what the log itself says: of each run's
        head when it is due, whether it has ended, its slice and number; of each contact its
        suppressions, consents, key and the ids of its channel events; keys and event ids of which
        the log has nothing; the counters of limits and budgets; the end of the log.

        Exact while others write, and in flat memory but for some 100 bytes for each key and event
        id, and some hundreds for each counter that is compared: of the UTC days from the one before
        the clock's on, and of all time. Days before are asked for by nobody, and archiving forgets
        them. A counter to which archived sends may have been added, of a day on which an archived
        run could have sent or of all time, is told only if it is too low for the sends in the log.

        `on_progress` is told the position reached. Not compared: epochs, and a tick that is later
        than the log's. Where an entry cannot be read, counters are not compared, and keys and event
        ids of which nothing is known are not told. It takes the log for what was written:
        `verify_log` says whether it is.
        """
        return self._indexes.verify(on_progress)

    def size(self) -> int:
        """How many entries the log has."""
        return self._verification.size()

    def checkpoint(
        self, actor: str | None = None, *, command_id: str | None = None
    ) -> SignedCheckpoint:
        """Put the log as it stands under a signed root and keep that outside the database.

        Nothing is signed anew if nothing happened since the last one. Raises `InvalidInput` if no
        place is set, `AnchorUnavailable` if none could be reached, and `IntegrityViolation` if the
        log is not what was signed before.
        """
        return self._signing.sign(self._meta("checkpoint", command_id, actor, None))

    def prove(self, stream_id: str, entry: int) -> Proof:
        """That an entry of a run (or of another stream) is in the log of the last checkpoint.

        Raises `RunNotFound`, and `InvalidInput` for an entry that does not exist or that no
        checkpoint covers yet.
        """
        stream = check_text("stream_id", stream_id, blank=False)
        return self._anchoring.prove(stream, check_count("entry", entry))

    def consistency(self, old: int, new: int) -> tuple[bytes, ...]:
        """The proof that the log of its first `new` entries begins with that of its first `old`.

        Raises `InvalidInput` for sizes that the log has not.
        """
        check_count("old", old, least=0)
        return self._anchoring.consistency(old, check_count("new", new, least=old))

    def archive(
        self,
        before: datetime,
        *,
        place: str | None = None,
        reason: str | None = None,
        actor: str | None = None,
        dry_run: bool = False,
        on_progress: OnArchive | None = None,
        command_id: str | None = None,
    ) -> ArchiveResult:
        """Take runs that ended before a time (UTC) out of the log, into verified files.

        `place` is a folder or URL; without it that of the settings. A file is read back and
        verified before anything of it leaves the log; tombstones stay, and everything verifies as
        before. What a legal hold is on stays, and is counted. Archived runs are no longer in lists,
        counts and queries. Broken off, it is continued by the same call.

        Raises `InvalidInput` if no place is named, `AnchorUnavailable` if it cannot be reached,
        `IntegrityViolation` for a run that does not verify, and `ConcurrencyConflict` while a
        projection is being rebuilt.
        """
        check_flag("dry_run", dry_run)
        chosen = self._archives if place is None else check_text("place", place, blank=False)
        if chosen is None and not dry_run:
            raise InvalidInput(
                "place", "name a place for archives, as in DEE_ARCHIVES=s3://bucket/path"
            )
        tick = self._scale.tick_from(require_utc("before", before))
        meta = self._meta("archive", command_id, actor, reason)
        return self._archiver.archive(tick, chosen or "", meta, dry_run, on_progress or _silent)

    def archives(self) -> list[Archive]:
        """All archives that were written, in order."""
        return self._archiver.archives()

    def verify_archives(
        self, place: str | None = None, on_progress: OnArchive | None = None
    ) -> list[ArchiveVerdict]:
        """Read every archive, from `place` if they were moved there, and compare it with what the
        log says of it."""
        if place is not None:
            check_text("place", place, blank=False)
        return self._archiver.verify(place, on_progress or _silent)

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
        actor: str | None = None,
        on_progress: OnProgress | None = None,
    ) -> Exported:
        """Give out the entries of a run, of a contact, or of a period, as evidence.

        A run comes with its contact's consent and suppression and the definitions it decided by.
        `since` is inclusive, `until` exclusive. JSON and JSON lines hold all that whoever has no
        access to the database needs to verify them (`verify_export.py`); CSV and PDF are for
        reading. `output` is a path, a URL such as `s3://bucket/name`, or a file open for bytes;
        None puts the content into the answer. A file appears whole or not at all, mode 0600, and
        in place of one of that name, unless `replace` is false; never in place of one that the
        settings name.
        `on_progress` is told how many entries of the log were read, of how many.

        It is recorded in the log (`log.exported`: who, why, what, SHA-256, where to) before it
        appears. What does not verify is exported as it is stored, and said. Raises `RunNotFound`,
        `InvalidInput` (a PDF holds 2,000 entries at most), `AnchorUnavailable`, and without
        `replace` `OutputExists` if the file is there: nothing is recorded then.
        """
        personal = check_flag("personal_data", personal_data)
        asked = Asked(run_id, contact_id, since, until, personal)
        meta = self._meta("export", None, actor, reason)
        return self._exports.export(asked, format, output, meta, on_progress, replace)

    def check_export(
        self,
        run_id: str | None = None,
        *,
        contact_id: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> None:
        """Raise what `export` and `bundle` would for such entries; nothing is given out."""
        self._exports.scope_of(Asked(run_id, contact_id, since, until, True))

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
        actor: str | None = None,
        on_progress: OnProgress | None = None,
    ) -> Exported:
        """All forms of an export in one zip file, with the checkpoints, the public key, and the
        program that verifies it; see `export`. The PDF is left out where there is too much for one.
        """
        personal = check_flag("personal_data", personal_data)
        asked = Asked(run_id, contact_id, since, until, personal)
        meta = self._meta("bundle", None, actor, reason)
        return self._exports.bundle(asked, output, meta, on_progress, replace)


def _silent(_: ArchiveResult) -> None:
    """Nobody wants to hear of it."""


def _shown(
    through: int, entries: int, from_tick: int | None = None, before_tick: int | None = None
) -> LogExported:
    """What is recorded of entries that were shown and not written anywhere."""
    return LogExported(
        kind="query",
        format="page",
        through=through,
        entries=entries,
        from_tick=from_tick,
        before_tick=before_tick,
        personal_data=True,
    )
