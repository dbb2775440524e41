"""`dee runs export` and `dee runs import`: one run as a file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dee_es.cli.options import force_option, unless_forced
from dee_es.cli.output import say
from dee_es.cli.session import Session, pass_session
from dee_es.cli.text import counted
from dee_es.engine.portable.run_file import MAX_BYTES, read_run_file
from dee_es.errors import RunNotFound

if TYPE_CHECKING:
    from dee_es.bootstrap import Engine


@click.command("export")
@click.argument("run_id", metavar="RUN")
@click.argument("path", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--no-personal-data",
    is_flag=True,
    help="Leave out the key to the contact's data: the imported run then reads as erased.",
)
@force_option
@pass_session
def export_run(
    session: Session, /, run_id: str, path: Path, no_personal_data: bool, force: bool
) -> None:
    """Write RUN to FILE (- is standard output), with its chain and the definitions it decided by,
    for a bug report.

    THE FILE HOLDS PERSONAL DATA unless --no-personal-data is given: the contact's fields, the
    variables and the messages, and the key they are encrypted under. It is made readable for its
    owner only.
    """
    with session.engine() as engine:
        write_run(engine, run_id, path, not no_personal_data, force, session.actor)
    if not no_personal_data:
        click.echo(
            "dee: the file holds personal data; give it only to whom you would show the contact",
            err=True,
        )


def write_run(
    engine: Engine, run_id: str, path: Path, personal_data: bool, force: bool, actor: str | None
) -> None:
    """Write a run to a file and say so, or to standard output for `-`; raises `OutputExists` if the
    file is there already."""
    if str(path) == "-":
        engine.export_run(
            run_id, personal_data=personal_data, output=sys.stdout.buffer, actor=actor
        )
        return
    with unless_forced():
        content = engine.export_run(
            run_id, personal_data=personal_data, output=path, replace=force, actor=actor
        )
    say(f"{run_id} written to {path}: {len(content):,} bytes")


@click.command("import")
@click.argument("path", metavar="FILE")
@pass_session
def import_run(session: Session, /, path: str) -> None:
    """Take in the run in FILE (- is standard input), and everything a replay of it needs.

    Meant for a scratch database (`dee init`) with the same epoch and resolution. The chain is
    verified first, and a file that was changed is refused. The run never acts by itself there; if
    somebody resumes or retries it, it does.
    """
    content = _read(path)
    with session.engine() as engine:
        before = _version(engine, read_run_file(content).run_id)
        run = engine.get_run(engine.import_run(content, actor=session.actor))
    done = "imported" if run.version > before else "was there already, nothing was imported"
    say(f"{run.id} {done}: {counted(run.version, 'event')}, {run.status.value}")


def _version(engine: Engine, run_id: str) -> int:
    """How many events of the run are in the log."""
    try:
        return engine.get_run(run_id).version
    except RunNotFound:
        return 0


def _read(path: str) -> bytes:
    if path == "-":
        return sys.stdin.buffer.read(MAX_BYTES + 1)
    with open(path, "rb") as file:
        return file.read(MAX_BYTES + 1)
