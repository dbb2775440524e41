"""`dee audit`: whether the log still is what was written."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from dee_es.cli.options import json_option
from dee_es.cli.output import say, write_json
from dee_es.cli.progress import Progress
from dee_es.cli.session import Session, pass_session
from dee_es.cli.text import counted

if TYPE_CHECKING:
    from dee_es.bootstrap import Engine


@click.group()
def audit() -> None:
    """Verify that the log is what was written."""


@audit.command()
@click.argument("run_id", metavar="[RUN]", required=False)
@json_option
@pass_session
def verify(session: Session, run_id: str | None, as_json: bool) -> None:
    """Check the chain of checksums of RUN, or of the whole log without one.

    Exits with 1 if anything was changed, cut or put in; the entry is named.
    """
    with session.engine() as engine:
        valid = _run(engine, run_id, as_json) if run_id is not None else _log(engine, as_json)
    if not valid:
        raise click.exceptions.Exit(1)


def _run(engine: Engine, run_id: str, as_json: bool) -> bool:
    verdict = engine.verify_audit_chain(run_id)
    if as_json:
        write_json(verdict)
    elif verdict.valid:
        entries = counted(verdict.entries, "entry", "entries")
        ticks = f"ticks {verdict.first_tick:,} to {verdict.last_tick:,}"
        say(f"{run_id} is valid: {entries}, {ticks}, head {verdict.head}")
    else:
        say(f"{run_id} is NOT valid: entry {verdict.first_bad_entry}: {verdict.problem}")
    return verdict.valid


def _log(engine: Engine, as_json: bool) -> bool:
    with Progress("Verifying entries", engine.health().position) as progress:
        verdict = engine.verify_log(progress.update)
    if as_json:
        write_json(verdict)
        return verdict.valid
    entries = counted(verdict.entries, "entry", "entries")
    what = f"{entries} in {counted(verdict.streams, 'stream')}"
    say(f"the log is valid: {what}" if verdict.valid else f"the log is NOT valid, of {what}:")
    for problem in verdict.problems:
        say(f"  - {problem}")
    return verdict.valid
