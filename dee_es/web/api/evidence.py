"""What is given out as evidence: exports of the log and compliance reports, as jobs."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Final, Literal

from fastapi import Response
from pydantic import Field, StringConstraints

from dee_es.engine.compliance.reading import report_of
from dee_es.engine.exporting.manager import Exported
from dee_es.web.api.bulk import accepted
from dee_es.web.api.models import Flag, Given, GivenId, Text, UtcTime, Values, plain
from dee_es.web.job_files import MEDIA_TYPES
from dee_es.web.jobs import Job, Jobs, JobView, Work
from dee_es.web.routing import OPERATOR, ActorDep, CommandDep, EngineDep, JobsDep, api_router, job
from dee_es.web.security.roles import Role

router: Final = api_router("evidence")

Part = Literal["sends", "consent", "suppressions", "windows", "unsubscribes", "verification"]


class Export(Given):
    """What to give out: a run, a contact, or a period. `zip` holds all forms with the program that
    verifies them. `personalData` false leaves personal data out."""

    run_id: GivenId | None = None
    contact_id: GivenId | None = None
    since: UtcTime | None = Field(None, description="Inclusive; ISO 8601 with a zone.")
    until: UtcTime | None = Field(None, description="Exclusive; ISO 8601 with a zone.")
    format: Literal["json", "jsonl", "csv", "pdf", "zip"] = "json"
    personal_data: Flag = True
    reason: Text | None = None


class Report(Given):
    """A period, the parts to report on (all by default), and the zone of business days. `through`
    is the position up to which the log is read, by default its end."""

    since: UtcTime = Field(description="Inclusive; ISO 8601 with a zone.")
    until: UtcTime = Field(description="Exclusive; ISO 8601 with a zone.")
    include: list[Part] | None = None
    format: Literal["json", "md", "html", "pdf"] = "json"
    zone: Annotated[str, StringConstraints(min_length=1, max_length=64)] = "UTC"
    through: Annotated[int, Field(strict=True, ge=1, le=2**53)] | None = None
    reason: Text | None = None


class ReportGiven(Given):
    """A report as JSON, and in which format it is wanted."""

    report: Values
    format: Literal["json", "md", "html", "pdf"]


_DOCUMENT: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "The report.",
        "content": {
            MEDIA_TYPES[kind]: {
                "schema": {} if kind == "json" else {"type": "string", "format": "binary"}
            }
            for kind in ("json", "md", "html", "pdf")
        },
    }
}


@router.post(
    "/audit/export",
    openapi_extra=job(OPERATOR),
    status_code=202,
    response_model=JobView,
    summary="Export entries as evidence",
)
def export(
    engine: EngineDep, jobs: JobsDep, actor: ActorDep, command: CommandDep, given: Export
) -> Response:
    """Give out entries of the log; get the file from the job once it is done. It is recorded in
    the log who asked for what, and the SHA-256 of the file."""
    engine.audit.check_export(
        given.run_id, contact_id=given.contact_id, since=given.since, until=given.until
    )
    asked: dict[str, Any] = {
        "run_id": given.run_id,
        "contact_id": given.contact_id,
        "since": given.since,
        "until": given.until,
        "personal_data": given.personal_data,
        "reason": given.reason,
        "actor": actor.name,
    }

    def work(running: Job) -> dict[str, Any]:
        file = running.make_file("export", given.format)

        def told(done: int, total: int) -> None:
            running.progress(done, total)
            running.check()

        if given.format == "zip":
            made = engine.audit.bundle(output=file, on_progress=told, **asked)
        else:
            made = engine.audit.export(format=given.format, output=file, on_progress=told, **asked)
        found = plain(Exported, made)
        del found["content"]
        return found

    return _started(jobs, "audit-export", actor.name, work, command, given)


@router.post(
    "/report",
    openapi_extra=job(OPERATOR),
    status_code=202,
    response_model=JobView,
    summary="Make a compliance report",
)
def report(
    engine: EngineDep, jobs: JobsDep, actor: ActorDep, command: CommandDep, given: Report
) -> Response:
    """Count the log of a period; get the report from the job once it is done. It is recorded in
    the log that it was made, and the SHA-256 of the file."""
    engine.compliance.check(
        given.since, given.until, given.include, zone=given.zone, through=given.through
    )

    def work(running: Job) -> dict[str, Any]:
        file = running.make_file("report", given.format)

        def told(what: str, done: int, total: int) -> None:
            # It is read twice, once to count and once to verify.
            running.progress(done if what == "counting" else total + done, 2 * total)
            running.check()

        made = engine.compliance.report(
            given.since,
            given.until,
            given.include,
            format=given.format,
            output=file,
            zone=given.zone,
            through=given.through,
            reason=given.reason,
            actor=actor.name,
            command_id=command,
            on_progress=told,
        )
        if given.format == "json":
            running.as_json = file
        else:
            running.make_json("report").write(engine.compliance.render(made, "json"))
        digest = hashlib.sha256()
        for piece in file.pieces():
            digest.update(piece)
        return {
            "format": given.format,
            "entries": made.entries,
            "through": made.through,
            "violations": len(made.violations()),
            "digest": digest.hexdigest(),
        }

    return _started(jobs, "report", actor.name, work, command, given)


@router.post(
    "/report/render",
    openapi_extra=OPERATOR,
    response_class=Response,
    response_model=None,
    responses=_DOCUMENT,
    summary="Write a report in another format",
)
def render(engine: EngineDep, given: ReportGiven) -> Response:
    """A report that was made before, given as its JSON, as Markdown, HTML or PDF. Nothing is
    counted anew, and nothing says that it is what the log says."""
    content = engine.compliance.render(report_of(given.report), given.format)
    # Never shown in place: a report in HTML is not a page of this server.
    headers = {"Content-Disposition": f'attachment; filename="report.{given.format}"'}
    return Response(content, 200, headers, MEDIA_TYPES[given.format])


def _started(
    jobs: Jobs, kind: str, actor: str, work: Work, command: str | None, given: Given
) -> Response:
    digest = hashlib.sha256(f"{kind} {given.model_dump_json()}".encode()).digest()
    made = jobs.start(kind, actor, Role.OPERATOR, work, command_id=command, digest=digest)
    return accepted(made)
