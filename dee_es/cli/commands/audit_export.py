"""`dee audit export`: entries of the log as evidence, for readers and for whoever verifies them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

import click

from dee_es.cli.options import force_option, told_as, unless_forced
from dee_es.cli.output import say
from dee_es.cli.progress import Progress
from dee_es.cli.session import Session, pass_session
from dee_es.cli.text import counted
from dee_es.cli.times import Moment, moment_option

if TYPE_CHECKING:
    from dee_es.engine.exporting.manager import Exported, ExportFormat

_OPTIONS: Final = {"since": "--since", "until": "--until", "contact_id": "--contact"}


@click.command()
@click.argument("run_id", metavar="[RUN]", required=False)
@click.option("--contact", "contact_id", metavar="ID", help="Everything about this contact.")
@click.option(
    "--since",
    metavar="TIME",
    callback=moment_option,
    help="At or after this time (ISO 8601 with zone), or 24h, 7d, 90m ago.",
)
@click.option("--until", metavar="TIME", callback=moment_option, help="Before this time.")
@click.option(
    "--format",
    "shape",
    type=click.Choice(["json", "jsonl", "csv", "pdf"]),
    default="json",
    show_default=True,
    help="json and jsonl can be verified; csv and pdf are for reading.",
)
@click.option(
    "--output",
    metavar="FILE",
    help="A file, a URL such as s3://bucket/name, or - for standard output (the default).",
)
@click.option(
    "--bundle",
    metavar="FILE.zip",
    help="All forms in one file, with the key, the checkpoints and the program that verifies.",
)
@force_option
@click.option("--no-personal-data", is_flag=True, help="Leave out what is personal.")
@click.option("--reason", metavar="TEXT", help="What for, as the log will say; kept readable.")
@pass_session
def export(
    session: Session,
    /,
    run_id: str | None,
    contact_id: str | None,
    since: Moment | None,
    until: Moment | None,
    shape: ExportFormat,
    output: str | None,
    bundle: str | None,
    force: bool,
    no_personal_data: bool,
    reason: str | None,
) -> None:
    """Give out the entries of RUN, of a contact, or of a period, as evidence.

    WHAT IS PERSONAL IS READABLE in it, unless --no-personal-data is given or it was erased. The
    file is readable for its owner only, appears whole or not at all, and the log says who made it.
    Verify it without the database: python verify_export.py FILE --key NAME+ID+KEY. That exits with
    3 and says NOT SIGNED of entries that are younger than the last checkpoint: `dee audit
    checkpoint` signs what is to be given out. Exits with 1 if something in it does not verify.
    """
    if not any((run_id, contact_id, since, until)):
        raise click.UsageError("name a RUN, --contact ID, or a period by --since and --until")
    if run_id is not None and contact_id is not None:
        raise click.UsageError("choose one of RUN and --contact")
    _check_target(shape, output, bundle)
    counting = Progress("Exporting: entries read")
    with session.engine() as engine, told_as(_OPTIONS), unless_forced(), counting as progress:
        now = engine.now().now
        asked: dict[str, Any] = {
            "run_id": run_id,
            "contact_id": contact_id,
            "since": None if since is None else since.before(now),
            "until": None if until is None else until.before(now),
            "replace": force,
            "personal_data": not no_personal_data,
            "reason": reason,
            "actor": session.actor,
            "on_progress": lambda done, total: progress.update(done, done / max(total, 1)),
        }
        if bundle is not None:
            done = engine.audit.bundle(output=bundle, **asked)
        else:
            target = sys.stdout.buffer if output in (None, "-") else output
            done = engine.audit.export(format=shape, output=target, **asked)
    if bundle is not None or output not in (None, "-"):
        _told(done)
    _require_sound(done)


def _require_sound(done: Exported) -> None:
    """Tell what does not verify, and end with 1 if anything does not."""
    for problem in done.problems:
        click.echo(f"dee: this does not verify: {problem}", err=True)
    if done.problems:
        raise click.exceptions.Exit(1)


def _check_target(shape: ExportFormat, output: str | None, bundle: str | None) -> None:
    if bundle is not None and output is not None:
        raise click.UsageError("choose one of --output and --bundle")
    if bundle is None and output in (None, "-") and shape == "pdf" and sys.stdout.isatty():
        raise click.UsageError("a PDF is nothing for a terminal; give --output FILE")


def _told(done: Exported) -> None:
    say(f"{done.target}: {counted(done.entries, 'entry', 'entries')}, SHA-256 {done.digest}")
    if done.covered < done.entries:
        behind = counted(done.entries - done.covered, "entry is", "entries are")
        say(f"{behind} covered by no signed checkpoint, as whoever verifies it is told")
        say("`dee audit checkpoint` signs; then export again")
    if done.personal_data:
        click.echo("dee: it shows personal data; give it only to whom you would show it", err=True)
