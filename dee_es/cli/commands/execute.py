"""`dee execute`: one run for one contact."""

from __future__ import annotations

from typing import Any

import click

from dee_es.cli.options import (
    json_option,
    pairs_option,
    told_as,
    variables_option,
    without_nones,
)
from dee_es.cli.plan_file import find_plan, publish_bundle
from dee_es.cli.run_view import show_changed
from dee_es.cli.session import Session, pass_session
from dee_es.cli.times import Moment, moment_option


@click.command()
@click.argument("plan", metavar="PLAN")
@click.option(
    "--contact",
    "contact_id",
    metavar="ID",
    help="Opaque id of the contact.  [default: derived from the address]",
)
@click.option("--email", metavar="ADDRESS", help="E-mail address of the contact.")
@click.option("--phone", metavar="NUMBER", help="Telephone number of the contact.")
@click.option("--timezone", metavar="ZONE", help="Time zone such as Europe/Berlin.")
@click.option(
    "--attr",
    "attributes",
    multiple=True,
    metavar="NAME=VALUE",
    callback=pairs_option,
    help="An attribute of the contact, as JSON or text; may be given several times.",
)
@variables_option
@click.option(
    "--start-at",
    metavar="TIME",
    callback=moment_option,
    help="Start later: at a time (ISO 8601 with zone), or 24h, 7d, 90m from now.",
)
@json_option
@pass_session
def execute(
    session: Session,
    plan: str,
    contact_id: str | None,
    email: str | None,
    phone: str | None,
    timezone: str | None,
    attributes: dict[str, Any],
    variables: dict[str, Any],
    start_at: Moment | None,
    as_json: bool,
) -> None:
    """Start a run of PLAN for one contact.

    PLAN is a file, which is published if it equals no version yet, or a published plan's id or
    id@version.
    """
    if contact_id is None and email is None and phone is None:
        raise click.UsageError("say who: --contact, --email or --phone")
    with session.engine() as engine:
        file = find_plan(plan, engine)
        from dee_es.core.contact import Contact

        who = contact_id or engine.contact_id_for(email=email, phone=phone)
        given = without_nones({"email": email, "phone": phone, "timezone": timezone})
        person = Contact(id=who, **given, attributes=attributes)
        starts = None if start_at is None else start_at.after(engine.now().now)
        file.require_publishable(engine)
        with told_as({"start_at": "--start-at"}):
            # Who is refused leaves what stands beside the plan unpublished.
            engine.check_execute(file.plan, person, variables, starts)
            publish_bundle(engine, file)
            run = engine.execute(file.plan, person, variables, starts)
    show_changed(run, as_json)
