"""A compliance report out of its JSON, as `to_json` writes it."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from dee_es.core.compliance import Figure, Ranges, Section
from dee_es.engine.compliance.report import ComplianceReport, VerificationPart
from dee_es.errors import InvalidInput

_Pairs = list[tuple[int, int]]


class _Figure(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    key: str
    group: str
    label: str
    value: int | None
    unit: Literal["entries", "seconds"]
    not_measured: str | None
    must_be_zero: bool
    entries: _Pairs
    evidence: _Pairs


class _Section(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    title: str
    explains: tuple[str, ...]
    not_measured: str | None
    figures: list[_Figure]


class _Verification(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    intact: bool
    complete: bool
    problems: tuple[str, ...]
    checkpoints: int
    anchored_through: int
    unchecked: tuple[str, ...]


class _Report(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    report: Literal["compliance"]
    since: datetime
    until: datetime
    from_tick: int
    before_tick: int
    through: int
    made_at: datetime
    entries: int
    first_position: int | None
    last_position: int | None
    not_in_the_database: _Pairs
    zone: str
    sections: dict[str, _Section]
    verification: _Verification | None = None


def report_of(document: Mapping[str, Any]) -> ComplianceReport:
    """The report that a JSON document is of; raises `InvalidInput` for any other document."""
    try:
        # A lone surrogate has no UTF-8 form: it could be told in no format.
        msgspec.json.encode(document)
        found = msgspec.convert(document, _Report)
        found.since, found.until, found.made_at = map(
            _utc, (found.since, found.until, found.made_at)
        )
        return _told(found)
    except (msgspec.ValidationError, OverflowError, ValueError):
        # What they say could repeat what was given.
        raise InvalidInput("report", "is no compliance report in its JSON") from None


def _told(found: _Report) -> ComplianceReport:
    sections = tuple(
        Section(
            key, each.title, each.explains, tuple(map(_figure, each.figures)), each.not_measured
        )
        for key, each in found.sections.items()
    )
    checked = found.verification
    return ComplianceReport(
        found.since,
        found.until,
        found.from_tick,
        found.before_tick,
        found.through,
        found.made_at,
        found.entries,
        found.first_position or 0,
        found.last_position or 0,
        _ranges(found.not_in_the_database),
        found.zone,
        sections,
        None if checked is None else VerificationPart(**msgspec.structs.asdict(checked)),
    )


def _figure(found: _Figure) -> Figure:
    fields = msgspec.structs.asdict(found)
    ranges = {name: _ranges(fields[name]) for name in ("entries", "evidence")}
    return Figure(**{**fields, **ranges})


def _ranges(pairs: _Pairs) -> Ranges:
    bounds = [bound for pair in pairs for bound in pair]
    if bounds != sorted(bounds):
        raise ValueError("not in order")
    return Ranges(array("Q", bounds))


def _utc(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError("has no zone")
    return moment.astimezone(UTC)
