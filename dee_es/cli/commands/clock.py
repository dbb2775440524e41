"""`dee tick` and `dee run-until`: the scheduler, called by hand."""

from __future__ import annotations

from datetime import timedelta, tzinfo
from typing import TYPE_CHECKING

import click

from dee_es.cli.logs import logging_to_stderr
from dee_es.cli.options import json_option
from dee_es.cli.output import say, write_json
from dee_es.cli.progress import Progress
from dee_es.cli.session import Session, pass_session
from dee_es.cli.tick_line import tick_line
from dee_es.cli.times import duration_option, iso, local, zone_option
from dee_es.errors import InvalidInput

if TYPE_CHECKING:
    from dee_es.bootstrap import Engine
    from dee_es.engine.models import TickReport


@click.command()
@zone_option
@json_option
@pass_session
def tick(session: Session, zone: tzinfo, as_json: bool) -> None:
    """Do everything that is due in the present tick."""
    with logging_to_stderr(False), session.engine() as engine:
        report = engine.tick()
        _tell(engine, report, zone, as_json)


@click.command("run-until")
@click.option("--tick", "target", type=click.IntRange(0), metavar="N", help="Go to this tick.")
@click.option(
    "--for", "ahead", metavar="DURATION", callback=duration_option, help="Go ahead by 3d, 12h, 90m."
)
@click.option("--idle", is_flag=True, help="Go on until no run is due any more.")
@zone_option
@json_option
@pass_session
def run_until(
    session: Session,
    target: int | None,
    ahead: timedelta | None,
    idle: bool,
    zone: tzinfo,
    as_json: bool,
) -> None:
    """Move a manual clock ahead, from due tick to due tick, and do what becomes due.

    Give one of --tick, --for and --idle.
    """
    if sum((target is not None, ahead is not None, idle)) != 1:
        raise click.UsageError("give one of --tick, --for and --idle")
    with logging_to_stderr(False), session.engine() as engine:
        if engine.clock.kind != "manual":
            raise InvalidInput(
                "clock", "this database follows the system clock; `dee worker` does what is due"
            )
        now = engine.now()
        if ahead is not None:
            target = now.tick + ahead // timedelta(milliseconds=now.resolution_ms)
        with Progress("Events") as progress:

            def on_tick(total: TickReport) -> None:
                way = None if target is None else target - now.tick
                progress.update(total.events, (total.tick - now.tick) / way if way else None)

            if target is None:
                report = engine.run_until_idle(on_tick)
            else:
                report = engine.run_until(target, on_tick)
        _tell(engine, report, zone, as_json)


def _tell(engine: Engine, report: TickReport, zone: tzinfo, as_json: bool) -> None:
    now = engine.now()
    if as_json:
        from dee_es.cli.output import plain

        write_json({**plain(report), "time": iso(now.now)})
    else:
        say(f"{tick_line(report)}; it is now tick {now.tick:,}, {local(now.now, zone)}")
