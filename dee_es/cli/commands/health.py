"""`dee health`: how the database and its projections stand."""

from __future__ import annotations

from datetime import tzinfo

import click

from dee_es.cli.options import json_option
from dee_es.cli.output import say, write_fields, write_json
from dee_es.cli.session import Session, pass_session
from dee_es.cli.times import in_zone, local, told, zone_option


@click.command()
@zone_option
@json_option
@pass_session
def health(session: Session, zone: tzinfo, as_json: bool) -> None:
    """Show how the database and its projections stand; exits with 1 if something is wrong.

    A projection that lags is caught up by the query that needs it.
    """
    with session.engine() as engine:
        found = engine.health()
        due = None
        if found.next_due is not None:
            moment = engine.clock.time(found.next_due)
            due = f"tick {found.next_due:,}, {told(moment, found.time, zone)}"
    if as_json:
        write_json(found)
    else:
        write_fields(
            [
                ("state", "ok" if found.ok else "NOT ok"),
                ("database", found.backend),
                ("clock", f"{found.clock}, tick {found.tick:,}, {local(found.time, zone)}"),
                ("events", found.position),
                ("runs ever begun", found.runs),
                ("next due", due),
                (
                    "not signed yet",
                    None if found.unsigned is None else f"{found.unsigned:,} events",
                ),
                *((f"lag of {name}", f"{lag:,} events") for name, lag in found.lag.items()),
            ]
        )
        for problem in found.problems:
            say(f"  - {in_zone(problem, zone)}")
        for advice in found.advice:
            say(f"  * {in_zone(advice, zone)}")
    if not found.ok:
        raise click.exceptions.Exit(1)
