"""`dee sender`: who messages come from, published by itself instead of beside a plan."""

from __future__ import annotations

import click

from dee_es.cli.options import json_option
from dee_es.cli.output import say, write_json, write_yaml
from dee_es.cli.plan_file import read_sender
from dee_es.cli.session import Session, pass_session
from dee_es.errors import InvalidInput


@click.group()
def sender() -> None:
    """Publish and show who messages come from."""


@sender.command()
@click.argument("file", metavar="FILE")
@json_option
@pass_session
def publish(session: Session, file: str, as_json: bool) -> None:
    """Publish the sender in FILE, as it stands under `sender` in a plan file.

    FILE is YAML or JSON: address, and if you like name, postalAddress, unsubscribeUrl, tracking.
    Runs enrolled from now on have it; one equal to the latest version stays at that version.
    """
    given = read_sender(file)
    with session.engine() as engine:
        before = engine.list_definitions("sender")
        version = engine.publish_sender(**given)
    unchanged = version in before.values()
    if as_json:
        write_json({"version": version, "unchanged": unchanged})
    else:
        say(f"sender {'unchanged' if unchanged else 'published'}: version {version}")


@sender.command()
@click.option(
    "--version", type=click.IntRange(min=1), help="This version.  [default: the latest one]"
)
@json_option
@pass_session
def show(session: Session, version: int | None, as_json: bool) -> None:
    """Show the published sender as a YAML file that can be published again."""
    with session.engine() as engine:
        latest = engine.list_definitions("sender")
        if not latest:
            raise InvalidInput("sender", "none has been published; see `dee sender publish`")
        (sender_id,) = latest
        found = engine.get_definition("sender", sender_id, version)
    shown = latest[sender_id] if version is None else version
    if as_json:
        write_json({"version": shown, **found})
    else:
        write_yaml(f"sender, version {shown}", found)
