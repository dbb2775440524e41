"""`dee history`: what happened in a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from dee_es.cli.options import chosen_format, format_options
from dee_es.cli.output import Column, plain, say, write_csv, write_json, write_table
from dee_es.cli.session import Session, pass_session
from dee_es.cli.text import counted
from dee_es.cli.times import iso

if TYPE_CHECKING:
    from dee_es.engine.models import TimelineEntry

_COLUMNS = (
    Column("TIME"),
    Column("TICK", right=True),
    Column("STEP", 6),
    Column("ACTION", 12),
    Column("RULE"),
    Column("OUTCOME", 10),
    Column("BY", 6),
    Column("REASON", 8),
)
_HEADER = (
    "version", "tick", "time", "stepId", "action", "outcome", "actor", "reason", "rule",
    "untilTick", "until",
)  # fmt: skip


@click.command()
@click.argument("run_id", metavar="RUN")
@format_options
@pass_session
def history(session: Session, run_id: str, as_json: bool, as_csv: bool) -> None:
    """Show what happened in RUN, in order.

    Where a rule of the policy held, skipped, paused or failed something, it says which and until
    when.
    """
    shape = chosen_format(as_json, as_csv)
    with session.engine() as engine:
        entries = engine.get_timeline(run_id)
    rows = plain(entries)
    if shape == "json":
        write_json({"runId": run_id, "entries": rows, "total": len(rows)})
    elif shape == "csv":
        write_csv(_HEADER, rows)
    else:
        table = [
            (iso(e.time), e.tick, e.step_id, e.action, e.rule, _outcome(e), e.actor, e.reason)
            for e in entries
        ]
        write_table(_COLUMNS, table)
        say(counted(len(rows), "event"))


def _outcome(entry: TimelineEntry) -> str | None:
    if entry.action == "step.deferred" and entry.until is not None:
        return f"until {iso(entry.until)}: {entry.outcome}"
    return entry.outcome
