"""`dee template`: message templates, published one by one instead of beside a plan."""

from __future__ import annotations

import click

from dee_es.cli.options import chosen_format, format_options, json_option
from dee_es.cli.output import Column, say, write_csv, write_json, write_table
from dee_es.cli.plan_file import split_reference
from dee_es.cli.session import Session, pass_session
from dee_es.cli.text import counted
from dee_es.errors import InvalidInput


@click.group()
def template() -> None:
    """Publish and show message templates."""


@template.command()
@click.argument("template_id", metavar="ID")
@click.option("--text", "text_file", metavar="FILE", required=True, help="The text part.")
@click.option("--html", "html_file", metavar="FILE", help="The HTML part.")
@json_option
@pass_session
def publish(
    session: Session, template_id: str, text_file: str, html_file: str | None, as_json: bool
) -> None:
    """Publish the template ID from files; one equal to the latest version stays at that version."""
    text = _read(text_file)
    html = None if html_file is None else _read(html_file)
    with session.engine() as engine:
        version = engine.publish_template(template_id, text=text, html=html, actor=session.actor)
    if as_json:
        write_json({"id": template_id, "version": version})
    else:
        say(f"template {template_id}: version {version}")


def _read(path: str) -> str:
    # Line ends stay as they are: a template is compared with the latest byte by byte.
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            return file.read()
    except UnicodeDecodeError:
        raise InvalidInput(path, "is not UTF-8 text") from None


@template.command("list")
@format_options
@pass_session
def list_templates(session: Session, as_json: bool, as_csv: bool) -> None:
    """List all templates with their latest versions."""
    shape = chosen_format(as_json, as_csv)
    with session.engine() as engine:
        found = engine.list_definitions("template")
    rows = [{"id": name, "version": version} for name, version in found.items()]
    if shape == "json":
        write_json({"templates": rows, "total": len(rows)})
    elif shape == "csv":
        write_csv(["id", "version"], rows)
    else:
        write_table([Column("TEMPLATE"), Column("VERSION", right=True)], list(found.items()))
        say(counted(len(rows), "template"))


@template.command()
@click.argument("reference", metavar="TEMPLATE")
@click.option("--html", "html_part", is_flag=True, help="Show the HTML part.")
@json_option
@pass_session
def show(session: Session, reference: str, html_part: bool, as_json: bool) -> None:
    """Show the text of a TEMPLATE, by id or id@version."""
    template_id, version = split_reference(reference)
    with session.engine() as engine:
        found = engine.get_definition("template", template_id, version)
    if as_json:
        write_json({"id": template_id, **found})
        return
    part = found.get("html" if html_part else "text")
    if part is None:
        raise InvalidInput("template", f"{template_id!r} has no HTML part")
    say(part.rstrip("\n"))
