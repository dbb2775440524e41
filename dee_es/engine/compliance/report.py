"""A compliance report as it was counted, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

from dee_es.core.compliance import SECTIONS, Figure, Ranges, Section
from dee_es.errors import InvalidInput

ReportFormat = Literal["json", "md", "html", "pdf"]
FORMATS: Final[tuple[ReportFormat, ...]] = ("md", "json", "html", "pdf")
INCLUDED: Final = (*SECTIONS, "verification")
"""All parts of a report, in the order in which they are shown."""


@dataclass(frozen=True, slots=True)
class VerificationPart:
    """Whether the log can be believed for the period.

    Integrity: `intact` says that every chain of the whole log verifies, positions have no gap, and
    all is what was signed. Completeness: the log is what signed checkpoints cover up to
    `anchored_through`; `complete` says that this takes in the whole period.
    """

    intact: bool
    complete: bool
    problems: tuple[str, ...]
    checkpoints: int
    anchored_through: int
    unchecked: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ComplianceReport:
    """Figures about all entries of `since <= time < until` up to position `through`.

    The log's clock stood at `made_at` when it had come to that position. `entries` is the number of
    entries of the period, from position `first` to `last`; `missing` are positions up to `through`
    that the database has no entry for, since they were archived, or worse. `zone` is the one whose
    business days are counted.
    """

    since: datetime
    until: datetime
    from_tick: int
    before_tick: int
    through: int
    made_at: datetime
    entries: int
    first: int
    last: int
    missing: Ranges
    zone: str
    sections: tuple[Section, ...]
    verification: VerificationPart | None = None

    def section(self, key: str) -> Section:
        """A section by its key; raises `KeyError`."""
        return {section.key: section for section in self.sections}[key]

    def figure(self, section: str, group: str, key: str) -> Figure:
        """A figure by its section, group and key; raises `KeyError`."""
        return {(each.group, each.key): each for each in self.section(section).figures}[group, key]

    def violations(self) -> list[tuple[Section, Figure]]:
        """The figures that have to be looked into."""
        return [
            (section, figure)
            for section in self.sections
            for figure in section.figures
            if figure.violated
        ]


def to_json(report: ComplianceReport) -> bytes:
    """The report as one JSON document; positions are pairs [first, last]."""
    text = json.dumps(document_of(report), ensure_ascii=False, separators=(",", ":"))
    return text.encode() + b"\n"


def document_of(report: ComplianceReport) -> dict[str, Any]:
    """The report as JSON values."""
    told: dict[str, Any] = {
        "report": "compliance",
        "since": iso(report.since),
        "until": iso(report.until),
        "fromTick": report.from_tick,
        "beforeTick": report.before_tick,
        "through": report.through,
        "madeAt": iso(report.made_at),
        "entries": report.entries,
        "firstPosition": report.first or None,
        "lastPosition": report.last or None,
        "notInTheDatabase": list(report.missing),
        "zone": report.zone,
        "sections": {section.key: _section(section) for section in report.sections},
    }
    found = report.verification
    if found is not None:
        told["verification"] = {
            "intact": found.intact,
            "complete": found.complete,
            "problems": list(found.problems),
            "checkpoints": found.checkpoints,
            "anchoredThrough": found.anchored_through,
            "unchecked": list(found.unchecked),
        }
    return told


def _section(section: Section) -> dict[str, Any]:
    return {
        "title": section.title,
        "explains": list(section.explains),
        "notMeasured": section.not_measured,
        "figures": [_figure(figure) for figure in section.figures],
    }


def _figure(figure: Figure) -> dict[str, Any]:
    return {
        "group": figure.group,
        "key": figure.key,
        "label": figure.label,
        "value": figure.value,
        "unit": figure.unit,
        "notMeasured": figure.not_measured,
        "mustBeZero": figure.must_be_zero,
        "entries": list(figure.entries),
        "evidence": list(figure.evidence),
    }


def iso(moment: datetime) -> str:
    """A time in UTC by ISO 8601, with milliseconds only where there are any."""
    precision = "milliseconds" if moment.microsecond else "seconds"
    return moment.astimezone(UTC).isoformat(timespec=precision).replace("+00:00", "Z")


def checked_parts(include: object) -> tuple[str, ...]:
    """The parts to report on, in their order, all by default; raises `InvalidInput`."""
    if include is None:
        return INCLUDED
    several: object = [include] if isinstance(include, str) else include
    if not isinstance(several, Collection) or isinstance(several, bytes) or not several:
        raise InvalidInput("include", "must be a list of at least one section")
    for part in several:
        if part not in INCLUDED:
            raise InvalidInput("include", f"{str(part)[:64]!r} is none of {', '.join(INCLUDED)}")
    return tuple(part for part in INCLUDED if part in several)


def check_format(format: object) -> None:
    """Raise `InvalidInput` for a format that reports do not have."""
    if format not in FORMATS:
        raise InvalidInput("format", f"{str(format)[:64]!r} is none of {', '.join(FORMATS)}")
