"""`dee contact`: the suppression list."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeVar

import click

from dee_es.cli.options import json_option
from dee_es.cli.output import say, write_json
from dee_es.cli.session import Session, pass_session

_Command = TypeVar("_Command", bound=Callable[..., Any])
_Channel = Literal["email", "voice"]


@click.group()
def contact() -> None:
    """Suppress contacts, or lift a suppression."""


def _whom(command: _Command) -> _Command:
    """Who is meant, at which level, and why."""
    for option in (
        json_option,
        click.option("--reason", metavar="TEXT", help="Why, for the log; kept readable."),
        click.option(
            "--channel",
            type=click.Choice(["email", "voice"]),
            help="For this channel only.  [default: for all]",
        ),
        click.option("--phone", metavar="NUMBER", help="Whoever has this telephone number."),
        click.option("--email", metavar="ADDRESS", help="Whoever has this e-mail address."),
        click.argument("contact_id", metavar="[CONTACT]", required=False),
    ):
        command = option(command)
    return command


def _check(contact_id: str | None, email: str | None, phone: str | None) -> None:
    if contact_id is None and email is None and phone is None:
        raise click.UsageError("say who: a contact's id, --email or --phone")


def _level(channel: _Channel | None) -> Literal["global", "channel"]:
    return "global" if channel is None else "channel"


@contact.command()
@_whom
@pass_session
def suppress(
    session: Session,
    contact_id: str | None,
    email: str | None,
    phone: str | None,
    channel: _Channel | None,
    reason: str | None,
    as_json: bool,
) -> None:
    """Put a CONTACT, by id or address or both, on the suppression list.

    Once this has returned, only messages whose intents were committed before may still leave.
    """
    _check(contact_id, email, phone)
    with session.engine() as engine:
        changed = engine.suppress(
            contact_id,
            email=email,
            phone=phone,
            level=_level(channel),
            channel=channel,
            reason=reason,
            actor=session.actor,
        )
    if as_json:
        write_json({"changed": changed})
    else:
        say("suppressed" if changed else "was suppressed already; nothing changed")


@contact.command()
@_whom
@pass_session
def unsuppress(
    session: Session,
    contact_id: str | None,
    email: str | None,
    phone: str | None,
    channel: _Channel | None,
    reason: str | None,
    as_json: bool,
) -> None:
    """Lift a suppression that was put on with the same id or address."""
    _check(contact_id, email, phone)
    with session.engine() as engine:
        changed = engine.unsuppress(
            contact_id,
            email=email,
            phone=phone,
            level=_level(channel),
            channel=channel,
            reason=reason,
            actor=session.actor,
        )
    if as_json:
        write_json({"changed": changed})
    else:
        say("no longer suppressed" if changed else "was not suppressed; nothing changed")
