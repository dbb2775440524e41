"""`dee hold`: legal holds, under which nothing is erased or archived."""

from __future__ import annotations

from datetime import tzinfo
from typing import Final

import click

from dee_es.cli.options import chosen_format, format_options, json_option, must_reason_option
from dee_es.cli.output import Column, plain, say, write_csv, write_json, write_table
from dee_es.cli.session import Session, pass_session
from dee_es.cli.times import local, zone_option
from dee_es.core.ids import is_run

_COLUMNS: Final = (
    Column("HOLD"),
    Column("ON", 12),
    Column("SINCE"),
    Column("BY", 6),
    Column("REASON", 10),
)
_CSV: Final = ("holdId", "runId", "contactId", "placedAt", "actor", "reason", "commandId")


@click.group()
def hold() -> None:
    """Keep runs and contacts from being erased or archived."""


@hold.command()
@click.argument("subject", metavar="RUN|CONTACT")
@must_reason_option
@click.option(
    "--contact", "is_contact", is_flag=True, help="The id is a contact's, whatever it looks like."
)
@json_option
@pass_session
def add(session: Session, subject: str, reason: str, is_contact: bool, as_json: bool) -> None:
    """Place a legal hold on a RUN, or on a CONTACT with all its runs.

    Until it is lifted, erasing the contact is refused, and what is held stays when others are
    archived. Runs are told by their ids, which begin with run_.
    """
    run_id = subject if is_run(subject) and not is_contact else None
    with session.engine() as engine:
        placed = engine.place_hold(
            run_id=run_id,
            contact_id=None if run_id is not None else subject,
            reason=reason,
        )
    if as_json:
        write_json(placed)
    else:
        say(f"{placed.hold_id} holds {subject}")


@hold.command()
@click.argument("hold_id", metavar="HOLD")
@must_reason_option
@pass_session
def lift(session: Session, hold_id: str, reason: str) -> None:
    """End a hold; what it kept may be erased and archived again."""
    with session.engine() as engine:
        engine.lift_hold(hold_id, reason)
    say(f"{hold_id} is lifted")


@hold.command("list")
@zone_option
@format_options
@pass_session
def list_holds(session: Session, zone: tzinfo, as_json: bool, as_csv: bool) -> None:
    """Show the holds in force, in the order in which they were placed."""
    shape = chosen_format(as_json, as_csv)
    with session.engine() as engine:
        holds = engine.holds()
    if shape == "json":
        write_json(holds)
    elif shape == "csv":
        write_csv(_CSV, [plain(each) for each in holds])
    else:
        write_table(
            _COLUMNS,
            [
                (
                    each.hold_id, each.run_id or each.contact_id, local(each.placed_at, zone),
                    each.actor, each.reason,
                )
                for each in holds
            ],
        )  # fmt: skip
