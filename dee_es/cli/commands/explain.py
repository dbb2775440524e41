"""`dee explain`: why a run does what it does, or why a contact has none."""

from __future__ import annotations

from datetime import tzinfo
from typing import TYPE_CHECKING

import click

from dee_es.cli.options import json_option, plan_option
from dee_es.cli.output import plain, say, write_json
from dee_es.cli.session import Session, pass_session
from dee_es.cli.times import in_zone, local, zone_option

if TYPE_CHECKING:
    from dee_es.engine.past.explain import Explanation


@click.command()
@click.argument("run_id", metavar="[RUN]", required=False)
@click.option("--contact", metavar="ID", help="Why this contact has a run, or none.")
@click.option("--plan", metavar="ID", callback=plan_option, help="With --contact: of this plan.")
@zone_option
@json_option
@pass_session
def explain(
    session: Session,
    /,
    run_id: str | None,
    contact: str | None,
    plan: str | None,
    zone: tzinfo,
    as_json: bool,
) -> None:
    """Tell in sentences what RUN is doing now and why, what it waits for, and how it came to that.

    With --contact, why a contact was refused an enrolment. Everything is told from the log alone;
    the values that branches saw are shown, and they may be personal.
    """
    if (run_id is None) == (contact is None):
        raise click.UsageError("name a RUN, or give --contact ID")
    if plan is not None and contact is None:
        raise click.UsageError("--plan goes with --contact")
    with session.engine() as engine:
        if contact is not None:
            found = engine.explain_contact(contact, plan)
        else:
            found = engine.explain(str(run_id))
    if as_json:
        write_json(plain(found))
    else:
        _say(found, zone)


def _say(found: Explanation, zone: tzinfo) -> None:
    say(in_zone(found.now, zone))
    for line in found.advice:
        say(f"  -> {in_zone(line, zone)}")
    if found.sentences:
        say()
    for sentence in found.sentences:
        say(f"{local(sentence.time, zone)}  {in_zone(sentence.text, zone)}")
