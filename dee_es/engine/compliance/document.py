"""A compliance report as a document for people: every number leads to the entries it counts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from dee_es.core.compliance import Figure, Ranges, Section
from dee_es.core.document import (
    Block,
    Cell,
    Column,
    Document,
    Facts,
    Heading,
    PageBreak,
    Paragraph,
    Table,
)
from dee_es.engine.compliance.report import ComplianceReport, VerificationPart, iso

_COLUMNS: Final = (Column("Of", 2), Column("What", 6), Column("Number", 4, right=True))
_TITLES: Final = {
    "": "all",
    "email": "email",
    "voice": "calls",
    "placed": "placed",
    "lifted": "lifted",
    "refused": "enrolments",
    "skipped": "steps",
    "sent": "sends",
    "requests": "requests",
}
_HOW: Final = (
    "Each entry of the log has a position. These are the positions of the entries behind every "
    "number that is not zero, as ranges with both ends in them. To look at the entries, give such "
    "a list, or a part of it, to this command:"
)
_COMMAND: Final = "dee audit log --position '3, 7-9'"


def to_document(report: ComplianceReport) -> Document:
    """The report as a document."""
    anchors = {
        (section.key, figure.group, figure.key): f"figure-{number}"
        for number, (section, figure) in enumerate(_counted(report), start=1)
    }
    blocks: list[Block] = [*_summary(report)]
    for section in report.sections:
        blocks += _section(section, anchors)
    if report.verification is not None:
        blocks += _verification(report.verification, report)
    blocks += _appendix(report, anchors)
    subtitle = f"{iso(report.since)} to {iso(report.until)}, the end excluded"
    return Document("Compliance report", subtitle, report.made_at, tuple(blocks))


Anchors = dict[tuple[str, str, str], str]


def _counted(report: ComplianceReport) -> Iterator[tuple[Section, Figure]]:
    for section in report.sections:
        for figure in section.figures:
            if figure.entries:
                yield section, figure


def _summary(report: ComplianceReport) -> Iterator[Block]:
    yield Facts(
        (
            ("Period", f"ticks {report.from_tick:,} to before {report.before_tick:,}"),
            ("Entries", f"{report.entries:,} in the period{_bounds(report)}"),
            ("As of", f"position {report.through:,} of the log, made at {iso(report.made_at)}"),
        )
    )
    for section, figure in report.violations():
        group = _TITLES.get(figure.group, figure.group)
        text = f"{section.title}, {group}: {figure.label}: {figure.value:,}"
        yield Paragraph(f"To be looked into: {text}", "warning")
    if report.verification is not None and not report.verification.intact:
        yield Paragraph("The log does NOT verify: see the verification below.", "warning")
    if report.missing:
        yield Paragraph(
            f"{report.missing.count:,} entries up to position {report.through:,} are not in the "
            "database, since they were archived, or worse. None of them is counted here.",
            "warning",
            anchor="missing",
        )
    yield Paragraph(
        "Times are those of the log's clock, in UTC. The report holds no personal data: contacts "
        "and runs appear as positions of entries alone. Every number leads to the entries it "
        "counts, at the end. Where there was nothing to measure, that is said instead of a zero."
    )


def _bounds(report: ComplianceReport) -> str:
    return f", positions {report.first:,} to {report.last:,}" if report.entries else ""


def _section(section: Section, anchors: Anchors) -> Iterator[Block]:
    yield Heading(section.title, 1, section.key)
    if section.not_measured is not None:
        yield Paragraph(f"Not measured: {section.not_measured}.")
        return
    for text in section.explains:
        yield Paragraph(text)
    yield Table(_COLUMNS, list(_rows(section, anchors)))


def _rows(section: Section, anchors: Anchors) -> Iterator[tuple[str, str, Cell]]:
    """A row for each number; what was not measured for one reason shares a row."""
    told: set[tuple[str, str]] = set()
    for figure in section.figures:
        group = _TITLES.get(figure.group, figure.group)
        why = figure.not_measured
        if why is None:
            link = anchors.get((section.key, figure.group, figure.key))
            yield group, figure.label, Cell(_shown(figure), link)
        elif (figure.group, why) not in told:
            told.add((figure.group, why))
            same = [
                each.label
                for each in section.figures
                if (each.group, each.not_measured) == (figure.group, why)
            ]
            yield group, "; ".join(same), Cell(_shown(figure))


def _shown(figure: Figure) -> str:
    if figure.value is None:
        return f"not measured: {figure.not_measured}"
    if figure.unit == "seconds":
        return f"{figure.value:,} s"
    return f"{figure.value:,}"


def _verification(found: VerificationPart, report: ComplianceReport) -> Iterator[Block]:
    yield Heading("Verification of the log", 1, "verification")
    yield Paragraph(
        "Integrity is whether everything in the log still is what was written: every chain of "
        "checksums, every position, and every signed checkpoint that could be read. Completeness "
        "is up to where such checkpoints, kept outside the database, prove that nothing was cut "
        "off at the end."
    )
    signed = "no signed checkpoint was compared"
    if found.checkpoints:
        signed = f"{found.checkpoints:,} compared, up to position {found.anchored_through:,}"
    covered = "the whole period is covered" if found.complete else "the period is NOT covered"
    yield Facts(
        (
            ("Integrity", "the log verifies" if found.intact else "the log does NOT verify"),
            ("Completeness", covered if report.entries else "no entry in the period"),
            ("Signed checkpoints", signed),
        )
    )
    for problem in found.problems:
        yield Paragraph(problem, "warning")
    for told in found.unchecked:
        yield Paragraph(f"Not checked: {told}", "warning")


def _appendix(report: ComplianceReport, anchors: Anchors) -> Iterator[Block]:
    yield PageBreak()
    yield Heading("Entries behind the numbers", 1, "entries")
    yield Paragraph(_HOW)
    yield Paragraph(_COMMAND, "fixed")
    for section, figure in _counted(report):
        group = _TITLES.get(figure.group, figure.group)
        title = f"{section.title}, {group}: {figure.label} ({_shown(figure)})"
        yield Heading(title, 3, anchors[section.key, figure.group, figure.key])
        yield _ranges("Entries", figure.entries)
        if figure.evidence:
            yield _ranges("Together with", figure.evidence)
    if report.missing:
        yield Heading("Not in the database", 3)
        yield _ranges("Positions", report.missing)


def _ranges(what: str, ranges: Ranges) -> Block:
    return Paragraph(f"{what}: {ranges.text()}")
