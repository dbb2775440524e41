"""How runs are shown."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING, Any, Final

from dee_es.cli.output import (
    STATUS_COLORS,
    Column,
    say,
    write_csv,
    write_fields,
    write_json,
    write_table,
)
from dee_es.cli.refusals import refusal_line
from dee_es.cli.text import counted
from dee_es.cli.times import Moment, go_on, in_full, in_zone, told

if TYPE_CHECKING:
    from dee_es.cli.refusals import Refused
    from dee_es.engine.models import ExecutionRun, RunPage
    from dee_es.engine.past.time_travel import RunContext

_COLUMNS: Final = (
    Column("RUN"),
    Column("PLAN", 8),
    Column("CONTACT", 8),
    Column("STATUS", colors=STATUS_COLORS),
    Column("STEP", 6),
    Column("DONE", right=True),
    Column("LEFT", right=True),
    Column("STARTED", 20),
    Column("OUTCOME OR REASON", 8),
)


def as_json(run: ExecutionRun) -> dict[str, Any]:
    """The run with the names of the Runs page."""
    return run.model_dump(mode="json", by_alias=True)


def show_page(
    page: RunPage,
    shape: str | None,
    now: datetime,
    moments: Mapping[str, Moment | None],
    zone: tzinfo,
) -> None:
    """Write a page of runs as a table, or in the format asked for; `moments` are the options that
    take times, as they were given."""
    if shape == "json":
        write_json(page.model_dump(mode="json", by_alias=True) | in_full(moments, now))
    elif shape == "csv":
        from dee_es.engine.models import ExecutionRun

        header = [field.alias or name for name, field in ExecutionRun.model_fields.items()]
        write_csv(header, map(as_json, page.runs))
    else:
        # Shrunk or not, a time says what it is counted from.
        columns = [replace(c, least=25) if c.title == "STARTED" and zone is not UTC else c
                   for c in _COLUMNS]  # fmt: skip
        write_table(columns, [_row(run, now, zone) for run in page.runs])
        _footer(page, now, moments)


def _row(run: ExecutionRun, now: datetime, zone: tzinfo) -> Sequence[str | int | None]:
    return (
        run.id,
        f"{run.plan_id}@{run.plan_version}",
        run.contact_id,
        run.status.value,
        run.current_step,
        run.steps_completed,
        run.steps_remaining,
        told(run.started_at, now, zone),
        run.outcome or in_zone(run.status_reason, zone),
    )


def _footer(page: RunPage, now: datetime, moments: Mapping[str, Moment | None]) -> None:
    shown = len(page.runs)
    count = f"{shown:,} of " if shown != page.total else ""
    cursor = page.next_cursor
    more = f"; the next ones: {go_on(cursor, moments, now)}" if cursor else ""
    say(f"{count}{counted(page.total, 'run')}{more}")
    parked = [run.id for run in page.runs if run.parked]
    if parked:
        say(
            f"{counted(len(parked), 'run')} shown as of an earlier event, since the list cannot "
            f"fold a later one (`dee projections status`): {', '.join(parked)}"
        )


def show_run(
    run: ExecutionRun,
    resume_at: datetime | None,
    refusals: Sequence[Refused],
    now: datetime,
    zone: tzinfo,
) -> None:
    """Write everything about one run, a field a line, and what the policy refused it."""
    waits = None if resume_at is None else told(resume_at, now, zone)
    write_fields(
        [
            ("run", run.id),
            ("plan", f"{run.plan_id}@{run.plan_version}"),
            ("contact", run.contact_id),
            ("enrollment", run.enrollment),
            ("status", run.status.value),
            ("reason", in_zone(run.status_reason, zone)),
            ("outcome", run.outcome),
            ("current step", run.current_step),
            ("steps completed", run.steps_completed),
            ("steps remaining", run.steps_remaining),
            ("started", told(run.started_at, now, zone)),
            ("waits until", waits),
            ("completed", told(run.completed_at, now, zone)),
            ("start tick", run.start_tick),
            ("current tick", run.current_tick),
            ("events", run.version),
            ("variables", json.dumps(run.variables, ensure_ascii=False)),
            *(("refused", refusal_line(each, now, zone)) for each in refusals),
        ]
    )


def show_changed(run: ExecutionRun, json_wanted: bool) -> None:
    """Write how a run stands after a command."""
    if json_wanted:
        write_json(as_json(run))
        return
    step = f" at step {run.current_step}" if run.current_step is not None else ""
    say(f"{run.id} is {run.status.value}{step} (plan {run.plan_id}@{run.plan_version}, "
        f"contact {run.contact_id})")  # fmt: skip


def context_fields(context: RunContext) -> list[tuple[str, str | None]]:
    """What a decision read, by name, as text; None for what is not there."""
    shown = context.model_dump(by_alias=False)
    return [(name.replace("_", " "), _value(value)) for name, value in shown.items()]


def _value(value: Any) -> str | None:
    if value is None or value in ((), {}, []):
        return None
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
