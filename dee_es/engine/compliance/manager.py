"""`engine.compliance`: reports about what was sent, to whom it was allowed, and when."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import datetime
from typing import Final

from dee_es.core import events as e
from dee_es.core.clock import TimeScale, require_utc
from dee_es.core.compliance import Counting, Period
from dee_es.core.gate import ZoneRules
from dee_es.core.gate.slots import DAY_MS, utc_ms
from dee_es.core.values import check_count, check_text
from dee_es.engine.auditing.verification import Verification
from dee_es.engine.compliance.counted import Reader
from dee_es.engine.compliance.document import to_document
from dee_es.engine.compliance.lookups import Lookups
from dee_es.engine.compliance.report import (
    ComplianceReport,
    ReportFormat,
    VerificationPart,
    check_format,
    checked_parts,
    to_json,
)
from dee_es.engine.definitions import Definitions
from dee_es.engine.exporting.delivery import Output, check_output, deliver
from dee_es.engine.log.journal import Journal
from dee_es.engine.log.system_log import SystemLog
from dee_es.engine.queries import Queries
from dee_es.errors import InvalidInput
from dee_es.ports import DocumentWriter, EventStore, PlaceSource, ZoneSource

OnReport = Callable[[str, int, int], None]
"""Called with what is being done (`counting` or `verifying`), how far, and how far it goes."""
MetaOf = Callable[[str, str | None, str | None, str | None], Callable[[], e.Meta]]
_YEAR_MS: Final = 366 * DAY_MS


class Compliance:
    """Counts the log of a period. A report is made from the log alone: the same log up to the same
    position gives the same bytes, but for the verification, which is of the whole log and of all
    checkpoints there are by then. Each one that is made is put on record in the log itself."""

    def __init__(
        self,
        store: EventStore,
        journal: Journal,
        definitions: Definitions,
        queries: Queries,
        verification: Verification,
        system_log: SystemLog,
        zones: ZoneSource,
        documents: DocumentWriter,
        places: PlaceSource,
        scale: TimeScale,
        meta: MetaOf,
    ) -> None:
        self._store = store
        self._journal = journal
        self._definitions = definitions
        self._queries = queries
        self._verification = verification
        self._system_log = system_log
        self._zones = zones
        self._documents = documents
        self._places = places
        self._scale = scale
        self._meta = meta

    def report(
        self,
        since: datetime,
        until: datetime,
        include: Collection[str] | None = None,
        *,
        format: ReportFormat = "json",
        output: Output = None,
        replace: bool = True,
        zone: str = "UTC",
        through: int | None = None,
        reason: str | None = None,
        actor: str | None = None,
        command_id: str | None = None,
        on_progress: OnReport | None = None,
    ) -> ComplianceReport:
        """What the log says about `since <= time < until`, by the log's clock.

        `include` names the parts: sends, consent, suppressions, windows, unsubscribes and
        verification; all by default. `zone` is the one whose business days are counted. `through`
        is the position up to which the log is read, by default its end. The log is read twice, once
        to count and once to verify.

        With `output`, a path, a URL or a file open for bytes, the report is written there as
        `format`, in place of a file of that name, unless `replace` is false; its SHA-256 and target
        are in the log before it appears. Raises `InvalidInput` naming the argument,
        `IntegrityViolation` for an entry that cannot be read, `AnchorUnavailable` if the file
        cannot be written, and without `replace` `OutputExists` if it is there.
        """
        period = self._period(since, until)
        parts = checked_parts(include)
        check_format(format)
        check_output(output, self._places, replace=replace)
        meta = self._meta("report", command_id, actor, reason)
        rules, end = self._reach(zone, through)
        counting = Counting(period, self._scale, rules, parts)
        self._count(counting, parts, end, on_progress)
        report = self._told(period, counting, end, zone, parts, on_progress)
        self._deliver(report, format, output, meta, replace)
        return report

    def check(
        self,
        since: datetime,
        until: datetime,
        include: Collection[str] | None = None,
        *,
        zone: str = "UTC",
        through: int | None = None,
    ) -> None:
        """Raise `InvalidInput` for what `report` would refuse; nothing is counted or written."""
        self._period(since, until)
        checked_parts(include)
        self._reach(zone, through)

    def _told(
        self,
        period: Period,
        counting: Counting,
        end: int,
        zone: str,
        parts: Collection[str],
        on_progress: OnReport | None,
    ) -> ComplianceReport:
        """What was counted as a report, with what verification says if it is asked for."""
        return ComplianceReport(
            self._scale.time(period.from_tick),
            self._scale.time(period.before_tick),
            period.from_tick,
            period.before_tick,
            end,
            self._scale.time(counting.tick),
            counting.entries,
            *counting.bounds,
            counting.missing(),
            zone,
            counting.sections(),
            self._verified(counting, end, on_progress) if "verification" in parts else None,
        )

    def render(self, report: ComplianceReport, format: ReportFormat) -> bytes:
        """The report as JSON, Markdown, HTML or PDF. Raises `InvalidInput` for another format."""
        check_format(format)
        if format == "json":
            return to_json(report)
        return self._documents.write(to_document(report), format)

    def _deliver(
        self,
        report: ComplianceReport,
        format: ReportFormat,
        output: Output,
        meta: Callable[[], e.Meta],
        replace: bool,
    ) -> None:
        """Put the report on record, then write it: what left is in the log before it is out."""

        def record(digest: str, target: str) -> None:
            event = e.LogExported(
                kind="report",
                format=format,
                through=report.through,
                entries=report.entries,
                from_tick=report.from_tick,
                before_tick=report.before_tick,
                digest=digest,
                target=target,
            )
            self._system_log.record(event, meta)

        if output is None:
            record("", "")
        else:
            content = self.render(report, format)
            deliver([content], output, self._places, record, replace=replace)

    def _count(
        self, counting: Counting, parts: Collection[str], end: int, on_progress: OnReport | None
    ) -> None:
        lookups = Lookups(
            self._store, self._journal, self._definitions, self._queries, self._scale, end
        )
        reader = Reader(self._store, self._journal, lookups, counting, parts, end)
        reader.count(None if on_progress is None else lambda at: on_progress("counting", at, end))

    def _verified(
        self, counting: Counting, end: int, on_progress: OnReport | None
    ) -> VerificationPart:
        verdict = self._verification.verify_log(
            None if on_progress is None else lambda at: on_progress("verifying", at, end)
        )
        last = counting.bounds[1]
        return VerificationPart(
            verdict.valid,
            bool(last) and verdict.anchored_through >= last,
            verdict.problems,
            verdict.checkpoints,
            verdict.anchored_through,
            verdict.unchecked,
        )

    def _period(self, since: datetime, until: datetime) -> Period:
        first = self._scale.tick_from(require_utc("since", since))
        before = self._scale.tick_from(require_utc("until", until))
        if before <= first:
            raise InvalidInput("until", "must be after since")
        return Period(first, before)

    def _reach(self, zone: str, through: int | None) -> tuple[ZoneRules, int]:
        """The rules of the zone, and the position up to which the log is read."""
        head = self._store.log_head()
        end = head.position if through is None else check_count("through", through, head.position)
        return self._rules(zone, max(head.tick, 0)), end

    def _rules(self, zone: object, tick: int) -> ZoneRules:
        """The zone's rules for all the time that the log has seen, and the year around it."""
        name = check_text("zone", zone, blank=False)
        begin = utc_ms(self._scale, 0) - _YEAR_MS
        found = self._zones(name, begin, utc_ms(self._scale, tick) + _YEAR_MS)
        if found is None:
            raise InvalidInput("zone", f"{name[:64]!r} is no time zone such as Europe/Vienna")
        return found
