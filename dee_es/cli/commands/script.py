"""`dee script`: call scripts, published one by one instead of beside a plan."""

from __future__ import annotations

from collections.abc import Mapping

import click

from dee_es.cli.options import chosen_format, format_options, json_option
from dee_es.cli.output import Column, say, write_csv, write_json, write_table, write_yaml
from dee_es.cli.plan_file import split_reference
from dee_es.cli.session import Session, pass_session
from dee_es.cli.text import counted
from dee_es.errors import InvalidInput


@click.group()
def script() -> None:
    """Publish and show call scripts."""


@script.command()
@click.argument("script_id", metavar="ID")
@click.argument("file", metavar="FILE")
@json_option
@pass_session
def publish(session: Session, script_id: str, file: str, as_json: bool) -> None:
    """Publish the call script in FILE as ID, as it stands under `scripts` in a plan file.

    FILE is YAML or JSON: greeting and steps. One equal to the latest version stays at that version.
    """
    from dee_es.cli.documents import read_document
    from dee_es.core.messages.script import check_script

    document = read_document(file)
    if not isinstance(document, Mapping):
        raise InvalidInput(file, "holds no call script: its outermost level must be a mapping")
    checked = check_script(document)
    with session.engine() as engine:
        before = engine.list_definitions("script").get(script_id)
        version = engine.publish_script(script_id, **checked)
    if as_json:
        write_json({"id": script_id, "version": version, "unchanged": version == before})
    else:
        state = "unchanged" if version == before else "published"
        say(f"script {script_id} {state}: version {version}")


@script.command("list")
@format_options
@pass_session
def list_scripts(session: Session, as_json: bool, as_csv: bool) -> None:
    """List all call scripts with their latest versions."""
    shape = chosen_format(as_json, as_csv)
    with session.engine() as engine:
        found = engine.list_definitions("script")
    rows = [{"id": name, "version": version} for name, version in found.items()]
    if shape == "json":
        write_json({"scripts": rows, "total": len(rows)})
    elif shape == "csv":
        write_csv(["id", "version"], rows)
    else:
        write_table([Column("SCRIPT"), Column("VERSION", right=True)], list(found.items()))
        say(counted(len(rows), "script"))


@script.command()
@click.argument("reference", metavar="SCRIPT")
@json_option
@pass_session
def show(session: Session, reference: str, as_json: bool) -> None:
    """Show a call SCRIPT, by id or id@version, as a YAML file that can be published again."""
    script_id, version = split_reference(reference)
    with session.engine() as engine:
        found = engine.get_definition("script", script_id, version)
        shown = engine.list_definitions("script")[script_id] if version is None else version
    if as_json:
        write_json({"id": script_id, "version": shown, **found})
    else:
        write_yaml(f"call script {script_id}, version {shown}", found)
