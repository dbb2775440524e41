"""Rows of the projection tables, and what a filter chooses out of them by looking at each."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from msgspec.structs import replace

from dee_es.core.projection import CountKey, Table
from dee_es.core.views import (
    AuditFilter,
    AuditRow,
    AuditRowV2,
    RunFilter,
    RunRow,
    RunStatus,
    run_counts,
)
from dee_es.ports import BuildKey, BuildRow, TableReader, TableTransaction, Views
from projections.audit_trail import AuditTrail, AuditTrailV2
from projections.run_list import RunList
from tests.support.storage.events import run

RUNS = RunList.table
AUDIT = AuditTrail.lines
AUDIT_V2 = AuditTrailV2.lines
EntryT = TypeVar("EntryT", AuditRow, AuditRowV2)
STATUSES = tuple(str(status) for status in RunStatus)


def run_row(
    ordinal: int, *, plan_id: str = "plan", status: str = "active", tick: int = 0
) -> RunRow:
    """A run as it is just after its enrolment."""
    return RunRow(
        run_id=run(ordinal, "row"),
        ordinal=ordinal,
        plan_id=plan_id,
        plan_version=1,
        contact_id=f"contact_{ordinal}",
        enrollment=1,
        status=status,
        current_step=None,
        steps_completed=0,
        steps_remaining=3,
        created_tick=tick,
        start_tick=tick,
        current_tick=tick,
        completed_tick=None,
        outcome=None,
        status_reason=None,
        resume_tick=None,
        version=1,
    )


def some_runs(chance: random.Random, count: int) -> list[RunRow]:
    """Runs with ordinals 1 to `count`: uneven plans, all statuses, bursts within a tick."""
    rows, tick = [], 10
    for ordinal in range(1, count + 1):
        tick += chance.choice([0, 0, 0, 0, 0, 1, 1, 2, 40])
        plan = chance.choice(["common"] * 8 + ["other"] * 3 + ["rare"])
        if plan == "rare" and ordinal % 7:
            plan = "common"
        row = run_row(ordinal, plan_id=plan, status=chance.choice(STATUSES), tick=tick)
        rows.append(replace(row, contact_id=f"contact_{chance.randrange(count // 12)}"))
    return rows


def add_runs(tables: TableTransaction, rows: Sequence[RunRow]) -> None:
    """Insert new runs and count them."""
    counts: Counter[CountKey] = Counter()
    for row in rows:
        counts.update(run_counts(row))
    tables.write(RUNS, rows, ())
    tables.add_counts(RUNS, counts)


def move_runs(tables: TableTransaction, rows: Sequence[RunRow]) -> None:
    """Replace runs that are there, and correct the counts."""
    old = tables.rows(RUNS, [row.run_id for row in rows])
    counts: Counter[CountKey] = Counter()
    for row in rows:
        counts.update(run_counts(row))
        counts.subtract(run_counts(old[row.run_id]))
    tables.write(RUNS, (), rows)
    tables.add_counts(RUNS, counts)


def chosen_runs(rows: Sequence[RunRow], chosen: RunFilter) -> list[RunRow]:
    """What the filter chooses, newest first."""
    return sorted(
        (row for row in rows if _chooses(chosen, row)), key=lambda row: row.ordinal, reverse=True
    )


def _chooses(chosen: RunFilter, row: RunRow) -> bool:
    if chosen.statuses and row.status not in chosen.statuses:
        return False
    if chosen.plan_id is not None and chosen.plan_id != row.plan_id:
        return False
    if chosen.contact_id is not None and chosen.contact_id != row.contact_id:
        return False
    if chosen.created_from is not None and row.created_tick < chosen.created_from:
        return False
    return chosen.created_before is None or row.created_tick < chosen.created_before


def some_entries(chance: random.Random, count: int) -> list[AuditRow]:
    """Audit entries at positions 1 to `count`; not every one belongs to a run or has an actor."""
    rows, tick = [], 0
    for position in range(1, count + 1):
        # Outcomes carry the tick of their send, so that ticks may go back a little.
        tick = max(0, tick + chance.choice([0, 0, 1, 5, -2]))
        of_run = chance.random() < 0.8
        of_system = not of_run and chance.random() < 0.2
        number = chance.randrange(12)
        other = "system" if of_system else f"contact:c{number}"
        rows.append(
            AuditRow(
                position=position,
                version=position,
                tick=tick,
                stream_id=run(number) if of_run else other,
                action=chance.choice(["run.started", "step.executed", "wait.started", "x.y"]),
                plan_id=f"plan_{number % 3}" if of_run else None,
                contact_id=f"c{number}" if chance.random() < 0.9 else None,
                actor=chance.choice([None, None, "ann", "bob"]),
                reason=chance.choice([None, None, "asked", "Ärger", "asked again"]),
                about_run_id=run(number) if of_system else None,
            )
        )
    return rows


def as_version_2(row: AuditRow) -> AuditRowV2:
    """The same entry as the former version keeps it."""
    shared = {
        name: getattr(row, name) for name in AuditRowV2.__struct_fields__ if name != "step_id"
    }
    return AuditRowV2(**shared, step_id=None)


def chosen_entries(rows: Sequence[EntryT], chosen: AuditFilter) -> list[EntryT]:
    """What the filter chooses, by tick and position."""
    equal = {
        "run_id": chosen.run_id,
        "contact_id": chosen.contact_id,
        "plan_id": chosen.plan_id,
        "actor": chosen.actor,
    }
    found = [
        row
        for row in rows
        if all(value is None or getattr(row, name) == value for name, value in equal.items())
        and (not chosen.actions or row.action in chosen.actions)
        and (chosen.reasons is None or row.reason in chosen.reasons)
        and (chosen.from_tick is None or row.tick >= chosen.from_tick)
        and (chosen.before_tick is None or row.tick < chosen.before_tick)
    ]
    return sorted(found, key=lambda row: (row.tick, row.position))


def prepare(views: Views, tables: Iterable[Table[Any]]) -> None:
    """Create the tables that are missing, each as the one build of a projection of its name."""
    with views.transaction() as tx:
        there = {row.key for row in tx.builds()}
        for table in tables:
            tx.create([table])
            row = BuildRow(table.name, table.version, table.build, "kept", 0, 0, 0)
            if row.key not in there:
                tx.save_build(row)


def key_of(table: Table[Any]) -> BuildKey:
    """What identifies the build whose table this is."""
    return table.name, table.version, table.build


def place(tx: TableReader, table: Table[Any]) -> tuple[int, int]:
    """Position and last ordinal of the table's build."""
    (row,) = (row for row in tx.builds(table.name) if row.key == key_of(table))
    return row.position, row.ordinal


def position(views: Views, table: Table[Any]) -> int:
    """Position of the table's build."""
    (row,) = (row for row in views.standing().builds if row.key == key_of(table))
    return row.position


def listed(
    views: Views, table: Table[RunRow], chosen: RunFilter, limit: int = 50
) -> tuple[list[RunRow], int, int, int]:
    """A page of the run list: rows, total, the log's head and the build's position."""
    found = views.list_runs(table, chosen, limit=limit)
    assert found.build is not None
    return found.rows, found.total, found.head, found.build.position
