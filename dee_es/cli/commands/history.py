"""`dee history`: what happened in a run or to a contact, and how a run stood at any moment."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import datetime, tzinfo
from typing import TYPE_CHECKING

import click

from dee_es.cli.options import chosen_format, format_options, told_as
from dee_es.cli.output import (
    Column,
    colorful,
    plain,
    say,
    write_csv,
    write_fields,
    write_json,
    write_table,
)
from dee_es.cli.run_view import context_fields
from dee_es.cli.session import Session, pass_session
from dee_es.cli.text import counted, printable
from dee_es.cli.times import Moment, in_zone, local, moment_option, span, zone_option
from dee_es.cli.unknown import unknown_contact

if TYPE_CHECKING:
    from dee_es.bootstrap import Engine
    from dee_es.engine.models import LogEntry, TimelineEntry
    from dee_es.engine.past.time_travel import RunAt

ACTION_COLORS = {
    "step.dispatched": "cyan",
    "step.executed": "green",
    "step.skipped": "yellow",
    "step.deferred": "yellow",
    "error.occurred": "red",
    "error.retried": "red",
    "error.outcome_unknown": "red",
    "run.failed": "red",
    "run.completed": "green",
    "run.cancelled": "bright_black",
    "run.paused": "yellow",
}
_MOMENTS = {"version": "--at-version", "tick": "--at-tick", "time": "--at"}
_COLUMNS = (
    Column("#", right=True),
    Column("TIME"),
    Column("SINCE", right=True),
    Column("TICK", right=True),
    Column("STEP", 6),
    Column("ACTION", 12, colors=ACTION_COLORS),
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
@click.argument("run_id", metavar="[RUN]", required=False)
@click.option("--contact", metavar="ID", help="Everything about a contact: all its runs, its own.")
@click.option("--full", is_flag=True, help="All that was recorded, personal data too.")
@click.option("--at-version", type=click.IntRange(1), help="How the run stood after this event.")
@click.option("--at-tick", type=click.IntRange(0), help="How it stood at this tick.")
@click.option(
    "--at",
    metavar="TIME",
    callback=moment_option,
    help="How it stood then (ISO 8601 with zone), or 24h, 7d, 90m ago.",
)
@zone_option
@format_options
@pass_session
def history(
    session: Session,
    /,
    run_id: str | None,
    contact: str | None,
    full: bool,
    at_version: int | None,
    at_tick: int | None,
    at: Moment | None,
    zone: tzinfo,
    as_json: bool,
    as_csv: bool,
) -> None:
    """Show what happened in RUN, in order, or how it stood at a moment of its past.

    Where a rule of the policy held, skipped, paused or failed something, it says which and until
    when. SINCE is the time since the run began.
    """
    shape = chosen_format(as_json, as_csv)
    moments = sum(given is not None for given in (at_version, at_tick, at))
    if (run_id is None) == (contact is None):
        raise click.UsageError("name a RUN, or give --contact ID")
    if moments > 1 or (moments and (full or contact or shape == "csv")):
        raise click.UsageError("give one of --at-version, --at-tick and --at, with a RUN alone")
    if full and shape == "csv":
        raise click.UsageError("--full goes with --json or with neither")
    with session.engine() as engine:
        if moments:
            assert run_id is not None
            time = None if at is None else at.before(engine.now().now)
            with told_as(_MOMENTS):
                found = engine.run_at(run_id, version=at_version, tick=at_tick, time=time)
            _show_at(found, zone, shape)
        elif contact is not None:
            entries = engine.get_contact_logs(contact)
            known = bool(entries) or engine.contact_at(contact).known
            if known or shape:
                _show_contact(contact, entries, zone, full, shape)
            if not known:
                raise unknown_contact(contact)
        elif full:
            _show_full(engine, str(run_id), zone, shape)
        else:
            _show(str(run_id), engine.get_timeline(str(run_id)), zone, shape)


def _show(run_id: str, entries: Sequence[TimelineEntry], zone: tzinfo, shape: str | None) -> None:
    rows = plain(entries)
    if shape == "json":
        write_json({"runId": run_id, "entries": rows, "total": len(rows)})
    elif shape == "csv":
        write_csv(_HEADER, rows)
    else:
        began = entries[0].time
        table = [
            (
                e.version, local(e.time, zone), _since(e.time, began), e.tick, e.step_id, e.action,
                e.rule, _outcome(e, zone), e.actor, e.reason,
            )
            for e in entries
        ]  # fmt: skip
        write_table(_COLUMNS, table)
        say(counted(len(rows), "event"))


def _outcome(entry: TimelineEntry, zone: tzinfo) -> str | None:
    if entry.action == "step.deferred" and entry.until is not None:
        return f"until {local(entry.until, zone)}: {in_zone(entry.outcome, zone)}"
    return in_zone(entry.outcome, zone)


def _since(moment: datetime, began: datetime) -> str:
    seconds = (moment - began).total_seconds()
    return f"+{span(seconds)}" if seconds else "0"


# --- everything -----------------------------------------------------------------------------------


def _show_full(engine: Engine, run_id: str, zone: tzinfo, shape: str | None) -> None:
    entries = engine.get_logs(run_id)
    if shape == "json":
        write_json({"runId": run_id, "entries": plain(entries), "total": len(entries)})
        return
    for entry in entries:
        _say_entry(entry, entries[0].time, zone, fully=True)
    say(counted(len(entries), "event"))


def _show_contact(
    contact: str, entries: Sequence[LogEntry], zone: tzinfo, full: bool, shape: str | None
) -> None:
    if shape == "json":
        rows = plain(entries)
        write_json({"contactId": contact, "entries": rows, "total": len(entries)})
    elif shape == "csv":
        header = ("position", "stream", "version", "tick", "time", "action", "stepId", "outcome",
                  "actor", "reason")  # fmt: skip
        write_csv(header, [{name: row[name] for name in header} for row in plain(entries)])
    else:
        for entry in entries:
            _say_entry(entry, entries[0].time, zone, fully=full, stream=True)
        say(counted(len(entries), "event"))


def _say_entry(
    entry: LogEntry, began: datetime, zone: tzinfo, *, fully: bool, stream: bool = False
) -> None:
    where = f"{entry.stream} " if stream else ""
    step = f" {entry.step_id}" if entry.step_id is not None else ""
    outcome = f": {in_zone(entry.outcome, zone)}" if entry.outcome else ""
    who = f" (by {entry.actor})" if entry.actor else ""
    why = f" because {entry.reason}" if entry.reason else ""
    colour = ACTION_COLORS.get(entry.action) if colorful(sys.stdout) else None
    action = click.style(entry.action, fg=colour) if colour else entry.action
    click.echo(
        f"{local(entry.time, zone)} {_since(entry.time, began):>8} {where}{entry.version} "
        f"{action}" + printable(f"{step}{outcome}{who}{why}")
    )
    if not fully:
        return
    for name, value in entry.data.items():
        say(f"    {name}: {json.dumps(value, ensure_ascii=False)}")
    if entry.erased:
        say("    (its personal data was erased)")
    say(f"    checksum {entry.checksum}, position {entry.position}, command {entry.command_id}, "
        f"recorded {local(entry.recorded_at, zone)}")  # fmt: skip


# --- at a moment ----------------------------------------------------------------------------------


def _show_at(at: RunAt, zone: tzinfo, shape: str | None) -> None:
    if shape == "json":
        write_json(at.model_dump(mode="json", by_alias=True))
        return
    run, context = at.run, at.context
    write_fields(
        [
            ("run", run.id),
            ("after event", f"{at.version}: {at.event}"),
            ("time", f"{local(at.time, zone)} (tick {at.tick:,})"),
            ("plan", f"{run.plan_id}@{run.plan_version}"),
            ("contact", run.contact_id),
            ("status", run.status.value),
            ("reason", in_zone(run.status_reason, zone)),
            ("outcome", run.outcome),
            ("current step", run.current_step),
            ("steps completed", run.steps_completed),
            ("steps remaining", run.steps_remaining),
            ("waits for", _waiting(at, zone)),
            *((f"  {name}", value) for name, value in context_fields(context)),
        ]
    )


def _waiting(at: RunAt, zone: tzinfo) -> str | None:
    waiting = at.waiting
    if waiting is None:
        return None
    why = f", {waiting.rule}: {in_zone(waiting.reason, zone)}" if waiting.rule else ""
    return f"{waiting.what} until {local(waiting.until, zone)} (tick {waiting.until_tick:,}){why}"
