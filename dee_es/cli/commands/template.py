"""`dee template`: message templates, published one by one instead of beside a plan."""

from __future__ import annotations

from typing import Any

import click

from dee_es.cli.options import (
    chosen_format,
    format_options,
    json_option,
    pairs_option,
    variables_option,
)
from dee_es.cli.output import Column, say, write_csv, write_json, write_table
from dee_es.cli.plan_file import split_reference
from dee_es.cli.session import Session, pass_session
from dee_es.cli.text import counted
from dee_es.errors import InvalidInput


@click.group()
def template() -> None:
    """Publish, show and preview message templates."""


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
        version = engine.publish_template(template_id, text=text, html=html)
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


@template.command()
@click.argument("reference", metavar="TEMPLATE")
@click.option(
    "--contact", "contact_id", metavar="ID", help="With the data of this contact's newest run."
)
@click.option(
    "--attr",
    "attributes",
    multiple=True,
    metavar="NAME=VALUE",
    callback=pairs_option,
    help="With these attributes instead; id, email, phone and timezone are the contact's own.",
)
@variables_option
@click.option("--subject", metavar="TEXT", help="Render this subject too.")
@click.option("--version", type=click.IntRange(min=1), help="This version; as in ID@VERSION.")
@json_option
@pass_session
def render(
    session: Session,
    reference: str,
    contact_id: str | None,
    attributes: dict[str, Any],
    variables: dict[str, Any],
    subject: str | None,
    version: int | None,
    as_json: bool,
) -> None:
    """Show what a TEMPLATE comes to for a contact; nothing is sent or written.

    It is as strict as a step: a value that is missing is a fault. What is shown is personal data.
    """
    template_id, named = split_reference(reference)
    if version is not None and named is not None and named != version:
        raise click.UsageError("the version is given twice")
    if contact_id is not None and attributes:
        raise click.UsageError("give --contact or --attr, not both")
    with session.engine() as engine:
        found = engine.render_template(
            template_id,
            contact_id=contact_id,
            attributes=None if contact_id is not None else attributes,
            variables=variables,
            subject=subject,
            version=named if version is None else version,
        )
    if as_json:
        write_json(found)
        return
    if found.subject is not None:
        say(f"Subject: {found.subject}\n")
    say(found.text.rstrip("\n"))
    if found.html is not None:
        say(f"\n--- HTML ---\n{found.html.rstrip(chr(10))}")
