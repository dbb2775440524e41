"""Engines of other versions of this code: with a newer run list, a stricter one, a broken one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec

from dee_es import Engine
from dee_es.adapters.channels.memory import MemoryChannel
from dee_es.core import events as e
from dee_es.core.projection import Build, Change, CountKey, Key, Projection, Row, Table
from dee_es.core.views import RunRow
from dee_es.ports import Views
from projections import AUDIT_TRAIL, CONTACT_HISTORY, RUN_LIST, STEP_FUNNEL
from projections.run_list import RunList
from tests.support.engines import open_engine

Contents = dict[str, tuple[list[Row], dict[CountKey, int]]]


class WiderRow(RunRow, frozen=True):
    """A run's row with the tick of its last send."""

    last_send_tick: int | None = None


class WiderRunList(RunList):
    """Version 2: one column more."""

    table: Table[RunRow] = replace(RunList.table, version=2, row_type=WiderRow)
    change: Change | None = Change(added=("last_send_tick",))

    def fold(self, row: RunRow | None, event: e.RecordedEvent) -> RunRow:
        """The row of version 1, and the tick of the last send."""
        folded = super().fold(row, event)
        if not isinstance(folded, WiderRow):
            folded = WiderRow(*msgspec.structs.astuple(folded))
        if isinstance(event.event, e.StepDispatched):
            folded = msgspec.structs.replace(folded, last_send_tick=event.meta.tick)
        return folded


class LouderRunList(RunList):
    """Version 2: the outcome in capitals, which nobody declares."""

    table: Table[RunRow] = replace(RunList.table, version=2)
    change: Change | None = Change(former=RUN_LIST)

    def fold(self, row: RunRow | None, event: e.RecordedEvent) -> RunRow:
        """The row of version 1, but for the outcome."""
        folded = super().fold(row, event)
        outcome = folded.outcome and folded.outcome.upper()
        return msgspec.structs.replace(folded, outcome=outcome)


class DeclaredRunList(LouderRunList):
    """The same, and declared."""

    change = Change(
        former=RUN_LIST,
        as_before=lambda row: msgspec.structs.replace(
            row, outcome=row.outcome and row.outcome.lower()
        ),
    )


class BrokenRunList(RunList):
    """The run list with a fault that hits one run in so many, at its second send."""

    def __init__(self, one_in: int) -> None:
        self.one_in = one_in

    def fold(self, row: RunRow | None, event: e.RecordedEvent) -> RunRow:
        """Divides by zero where it must not."""
        if row is not None and isinstance(event.event, e.StepEntered) and self.hits(row.run_id):
            raise ZeroDivisionError("contact_1@example.com")
        return super().fold(row, event)

    def hits(self, run_id: str) -> bool:
        """Whether the fault hits this run."""
        return sum(run_id.encode()) % self.one_in == 0


def engine_with(
    url: str,
    keys: Path | None = None,
    *,
    run_list: Projection[Any] = RUN_LIST,
    lazy: Sequence[Projection[Any]] = (AUDIT_TRAIL, CONTACT_HISTORY, STEP_FUNNEL),
    channel: MemoryChannel | None = None,
) -> Engine:
    """An engine of code whose run list, and other projections, are these."""
    changed = {"INLINE": (run_list,), "RUN_LIST": run_list, "LAZY": tuple(lazy)}
    with patch.multiple("dee_es.bootstrap.engine", **changed):
        return open_engine(url, keys=keys, channel=channel)


def views_of(engine: Engine) -> Views:
    """The tables behind an engine."""
    return engine._parts.views


def served(engine: Engine, name: str = "run_list") -> Build:
    """The build that the engine reads."""
    projector = engine._projector
    wanted = next(each for each in projector.projections if each.name == name)
    return projector.catch_up(wanted)


def contents(engine: Engine, build: Build) -> Contents:
    """Everything in a build's tables."""
    found: Contents = {}
    with views_of(engine).snapshot() as reader:
        for table in build.tables:
            rows: list[Row] = []
            after: Key | None = None
            while page := reader.scan(table, after, 1_000):
                rows += page
                after = getattr(page[-1], table.key)
            found[table.name] = rows, reader.all_counts(table) if table.counted else {}
    return found


def builds(engine: Engine, name: str = "run_list") -> dict[tuple[int, int], str]:
    """State of each build of a projection, by version and number."""
    rows = views_of(engine).standing().builds
    return {(row.version, row.number): row.state for row in rows if row.name == name}
