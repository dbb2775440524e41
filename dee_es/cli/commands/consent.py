"""`dee contact consent`: what contacts said about being reached through a channel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from dee_es.cli.options import json_option, told_as
from dee_es.cli.output import say, write_json
from dee_es.cli.session import Session, pass_session
from dee_es.cli.times import Moment, moment_option
from dee_es.core.channels import CHANNELS, ChannelName

_Command = TypeVar("_Command", bound=Callable[..., Any])


@click.group()
def consent() -> None:
    """Record that a contact agreed to a channel, or took it back.

    Whether a channel needs consent is a matter of the policy.
    """


def _about(command: _Command) -> _Command:
    """Who, about which channel, what for, and why."""
    for option in (
        json_option,
        click.option("--reason", metavar="TEXT", help="Why, for the log; kept readable."),
        click.option("--purpose", metavar="NAME", help="For this purpose.  [default: for any]"),
        click.argument("channel", metavar="CHANNEL", type=click.Choice(CHANNELS)),
        click.argument("contact_id", metavar="CONTACT"),
    ):
        command = option(command)
    return command


@consent.command()
@_about
@click.option(
    "--expires",
    metavar="TIME",
    callback=moment_option,
    help="Until this time (ISO 8601 with zone), or for 90d, 24h.  [default: without end]",
)
@click.option("--source", metavar="TEXT", help="Where the consent comes from; kept readable.")
@pass_session
def grant(
    session: Session,
    contact_id: str,
    channel: ChannelName,
    purpose: str | None,
    expires: Moment | None,
    source: str | None,
    reason: str | None,
    as_json: bool,
) -> None:
    """Record that CONTACT agreed to CHANNEL, which is email or voice."""
    with session.engine() as engine:
        until = None if expires is None else expires.after(engine.now().now)
        with told_as({"expires_at": "--expires"}):
            engine.grant_consent(
                contact_id,
                channel,
                purpose=purpose,
                expires_at=until,
                source=source,
                reason=reason,
            )
    _told("granted", contact_id, channel, as_json)


@consent.command()
@_about
@pass_session
def revoke(
    session: Session,
    contact_id: str,
    channel: ChannelName,
    purpose: str | None,
    reason: str | None,
    as_json: bool,
) -> None:
    """Record that CONTACT took its consent to CHANNEL (email or voice) back.

    Without --purpose all of it, for whatever purpose it was given.
    """
    with session.engine() as engine:
        engine.revoke_consent(contact_id, channel, purpose=purpose, reason=reason)
    _told("revoked", contact_id, channel, as_json)


def _told(state: str, contact_id: str, channel: str, as_json: bool) -> None:
    if as_json:
        write_json({"contactId": contact_id, "channel": channel, "state": state})
    else:
        say(f"consent of {contact_id} to {channel} {state}")
