"""`dee sender`: who messages come from, published by itself instead of beside a plan."""

from __future__ import annotations

import click

from dee_es.cli.options import json_option
from dee_es.cli.plan_file import read_sender
from dee_es.cli.session import Session, pass_session
from dee_es.cli.single import publish_single, show_single


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
        publish_single(engine, "sender", lambda: engine.publish_sender(**given), as_json)


@sender.command()
@click.option(
    "--version", type=click.IntRange(min=1), help="This version.  [default: the latest one]"
)
@json_option
@pass_session
def show(session: Session, version: int | None, as_json: bool) -> None:
    """Show the published sender as a YAML file that can be published again."""
    with session.engine() as engine:
        show_single(engine, "sender", version, as_json)
