"""`dee runs diff`: what changed in a run between two of its versions."""

from __future__ import annotations

import json
from datetime import tzinfo
from typing import TYPE_CHECKING, Any

import click

from dee_es.cli.options import chosen_format, format_options, told_as
from dee_es.cli.output import Column, say, write_csv, write_json, write_table
from dee_es.cli.session import Session, pass_session
from dee_es.cli.text import counted
from dee_es.cli.times import local, zone_option
from dee_es.doors.times import changed

if TYPE_CHECKING:
    from dee_es.engine.past.time_travel import Change

_COLUMNS = (
    Column("FIELD", 12),
    Column("BEFORE", 12),
    Column("AFTER", 12),
    Column("BY EVENT", right=True),
    Column("ACTION"),
    Column("STEP", 6),
    Column("TIME"),
)
_CSV = ("field", "before", "after", "version", "event", "step", "tick")


@click.command()
@click.argument("run_id", metavar="RUN")
@click.option("--from", "first", type=click.IntRange(1), default=1, help="Version.  [default: 1]")
@click.option("--to", "last", type=click.IntRange(1), help="Version.  [default: the last]")
@zone_option
@format_options
@pass_session
def diff(
    session: Session,
    /,
    run_id: str,
    first: int,
    last: int | None,
    zone: tzinfo,
    as_json: bool,
    as_csv: bool,
) -> None:
    """Show what changed in RUN between two versions, and the event that changed it last.

    A run's version is the number of its events; `dee history RUN` numbers them.
    """
    shape = chosen_format(as_json, as_csv)
    with session.engine() as engine:
        last = engine.get_run(run_id).version if last is None else last
        with told_as({"from_version": "--from", "to_version": "--to"}):
            found = engine.diff_run(run_id, first, last)
        times = [local(engine.clock.time(change.tick), zone) for change in found]
    changes = [change.model_dump(mode="json", by_alias=True) for change in found]
    if shape == "csv":
        told = [{"before": _told(c.before), "after": _told(c.after)} for c in found]
        write_csv(_CSV, [change | texts for change, texts in zip(changes, told, strict=True)])
        return
    if shape == "json":
        write_json({"runId": run_id, "from": first, "to": last, "changes": changes})
        return
    table = [_line(change, time, zone) for change, time in zip(found, times, strict=True)]
    write_table(_COLUMNS, table)
    say(f"{counted(len(found), 'field')} changed between versions {first} and {last}")


def _line(change: Change, time: str, zone: tzinfo) -> tuple[str | int | None, ...]:
    before, after = (
        _told(changed(change.kind, value, lambda moment: local(moment, zone)))
        for value in (change.before, change.after)
    )
    return change.field, before, after, change.version, change.event, change.step, time


def _told(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)
