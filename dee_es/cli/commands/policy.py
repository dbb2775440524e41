"""`dee policy`: the rules that every send has to keep to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from dee_es.cli.options import json_option
from dee_es.cli.output import say, write_json
from dee_es.cli.session import Session, pass_session
from dee_es.cli.single import publish_single, show_single
from dee_es.errors import InvalidInput


@click.group()
def policy() -> None:
    """Validate, publish and show the policy: consent, windows, limits, budget."""


@policy.command()
@click.argument("file", metavar="FILE")
@json_option
def validate(file: str, as_json: bool) -> None:
    """Check a policy FILE in YAML or JSON; needs no database.

    Names the first fault, and exits with 1 if there is one.
    """
    try:
        checked = _read(file)
    except InvalidInput as error:
        if not as_json:
            raise
        fault = {"field": error.field, "problem": error.problem}
        write_json({"valid": False, "faults": [fault]})
        raise click.exceptions.Exit(1) from None
    if as_json:
        write_json({"valid": True, "faults": []})
    else:
        say(f"the policy is valid: {_rules(checked)}")


@policy.command()
@click.argument("file", metavar="FILE")
@json_option
@pass_session
def publish(session: Session, file: str, as_json: bool) -> None:
    """Publish the policy in FILE; runs enrolled from now on keep to it.

    One equal to the latest version stays at that version. Runs under way keep theirs.
    """
    checked = _read(file)
    with session.engine() as engine:
        publish_single(engine, "policy", lambda: engine.publish_policy(checked), as_json)


@policy.command()
@click.option(
    "--version", type=click.IntRange(min=1), help="This version.  [default: the latest one]"
)
@json_option
@pass_session
def show(session: Session, version: int | None, as_json: bool) -> None:
    """Show the published policy as a YAML file that can be published again."""
    with session.engine() as engine:
        show_single(engine, "policy", version, as_json)


def _read(path: str) -> dict[str, Any]:
    """The policy in a file, checked; raises `InvalidInput` naming the file or the field."""
    from dee_es.cli.documents import read_document

    document = read_document(path)
    if not isinstance(document, Mapping):
        raise InvalidInput(path, "holds no policy: its outermost level must be a mapping")
    from dee_es.bootstrap import check_policy_here

    return check_policy_here(document)


def _rules(checked: Mapping[str, Any]) -> str:
    return ", ".join(checked) or "it has no rules, so only suppressions hold"
