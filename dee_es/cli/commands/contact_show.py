"""`dee contact show`: one contact as of any date."""

from __future__ import annotations

from datetime import tzinfo
from typing import TYPE_CHECKING

import click

from dee_es.cli.options import json_option, told_as
from dee_es.cli.output import STATUS_COLORS, Column, say, write_fields, write_json, write_table
from dee_es.cli.session import Session, pass_session
from dee_es.cli.text import counted
from dee_es.cli.times import Moment, in_zone, local, moment_option, zone_option
from dee_es.cli.unknown import unknown_contact

if TYPE_CHECKING:
    from dee_es.engine.insights import ContactAt

_RUNS = (
    Column("RUN"),
    Column("PLAN", 8),
    Column("STATUS", colors=STATUS_COLORS),
    Column("STEP", 6),
    Column("STARTED"),
    Column("OUTCOME OR REASON", 8),
)
_ENTRIES = (
    Column("TIME"),
    Column("KIND"),
    Column("ACTION", 12),
    Column("PLAN", 8),
    Column("STEP", 6),
    Column("RULE"),
    Column("DETAIL", 10),
    Column("UNTIL"),
)


@click.command()
@click.argument("contact_id", metavar="ID")
@click.option(
    "--as-of",
    metavar="TIME",
    callback=moment_option,
    help="As it was then (ISO 8601 with zone), or 24h, 7d, 90m ago.",
)
@zone_option
@json_option
@pass_session
def show(
    session: Session, /, contact_id: str, as_of: Moment | None, zone: tzinfo, as_json: bool
) -> None:
    """Show the runs, sends, waits and refusals of the contact ID, and what stood on record about
    suppression and consent, now or as of any time. Exits with 1 if nothing is known of it."""
    with session.engine() as engine:
        time = None if as_of is None else as_of.before(engine.now().now)
        with told_as({"time": "--as-of"}):
            found = engine.contact_at(contact_id, time=time)
    if as_json:
        write_json(found.model_dump(mode="json", by_alias=True))
    elif found.known:
        _show(found, zone)
    if not found.known:
        raise unknown_contact(contact_id)


def _show(found: ContactAt, zone: tzinfo) -> None:
    by_address = (f"{each} (by its address)" for each in found.address_suppressions)
    suppressed = (*found.suppressions, *by_address)
    consents = ", ".join(f"{name} {state}" for name, state in found.consents.items())
    write_fields(
        [
            ("contact", found.contact_id),
            ("as of", f"{local(found.time, zone)} (tick {found.tick:,})"),
            ("suppressed", ", ".join(suppressed) or "no"),
            ("consent", consents or None),
        ]
    )
    write_table(
        _RUNS,
        [
            (
                run.id, f"{run.plan_id}@{run.plan_version}", run.status.value, run.current_step,
                local(run.started_at, zone), run.outcome or in_zone(run.status_reason, zone),
            )
            for run in found.runs
        ],
    )  # fmt: skip
    write_table(
        _ENTRIES,
        [
            (
                local(e.time, zone), e.kind, e.action, e.plan_id, e.step_id, e.rule,
                in_zone(e.detail, zone),
                None if e.until is None else local(e.until, zone),
            )
            for e in found.entries
        ],
    )  # fmt: skip
    say(f"{counted(len(found.runs), 'run')}, {counted(len(found.entries), 'entry', 'entries')}")
