"""The group `compliance` of a client."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import IO, Any

from dee_es.client.jobs import done, file_of, telling
from dee_es.client.outputs import check_here, deliver
from dee_es.client.transport import Transport
from dee_es.engine.compliance.manager import OnReport
from dee_es.engine.compliance.reading import report_of
from dee_es.engine.compliance.report import (
    ComplianceReport,
    ReportFormat,
    check_format,
    checked_parts,
    document_of,
    to_json,
)
from dee_es.engine.exporting.delivery import Output


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
        format: ReportFormat = "json",
        output: Output = None,
        replace: bool = True,
        zone: str = "UTC",
        through: int | None = None,
        reason: str | None = None,
        command_id: str | None = None,
        on_progress: OnReport | None = None,
    ) -> ComplianceReport:
        """What the log says about `since <= time < until`. With `output`, a path on this machine or
        a file open for bytes, the report is written there as `format`."""
        check_format(format)
        check_here(output)
        given = {
            "since": since,
            "until": until,
            "include": list(checked_parts(include)),
            "format": format,
            "zone": zone,
            "through": through,
            "reason": reason,
        }
        found: dict[str, Any] = {}

        def fill(file: IO[bytes] | None) -> None:
            def look(job: Mapping[str, Any]) -> None:
                found.update(self._http.get(file_of(job), form="json"))
                if file is not None:
                    self._http.receive(file_of(job), file)

            told = None if on_progress is None else telling(_in_turn(on_progress))
            done(self._http, "/report", given, key=command_id, on_job=told, look=look)

        if output is None:
            fill(None)
        else:
            deliver(output, fill, replace=replace)
        return report_of(found)

    def render(self, report: ComplianceReport, format: ReportFormat) -> bytes:
        """The report as JSON, Markdown, HTML or PDF, for which the server is asked but for JSON.
        Raises `ApiRefused` for a report that is longer than the server takes."""
        check_format(format)
        if format == "json":
            return to_json(report)
        given = {"report": document_of(report), "format": format}
        return self._http.made_of("/report/render", given)


def _in_turn(on_progress: OnReport) -> Any:
    """Tells of counting, then of verifying: the job's total is of both."""

    def told(far: int, both: int) -> None:
        total = both // 2
        counting = far <= total
        on_progress(
            "counting" if counting else "verifying", far if counting else far - total, total
        )

    return told
