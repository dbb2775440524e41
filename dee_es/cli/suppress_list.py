"""`dee contact suppress --from`: a whole list of people, with an account of every line."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from io import BufferedReader
from typing import TYPE_CHECKING, Final

import click

from dee_es.cli.logs import logging_to_stderr
from dee_es.cli.output import say, write_json
from dee_es.cli.progress import Progress
from dee_es.cli.session import Session
from dee_es.cli.suppression_rows import Intake, read_entries
from dee_es.cli.text import counted, one_line
from dee_es.errors import InvalidInput, StoreUnavailable

if TYPE_CHECKING:
    from dee_es.core.events import Level
    from dee_es.engine.models import ImportResult

_INTERRUPTED: Final = (
    "what was listed so far stays; the same command again adds only what is missing"
)


def suppress_list(
    session: Session,
    file: str,
    reach: tuple[Level, str],
    reason: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Put everybody in the file on the list; exits with 1 if a line could not be used."""
    with (
        session.engine() as engine,
        _opened(file) as stream,
        closing(read_entries(stream, file)) as rows,
        Progress("Suppressing") as progress,
        logging_to_stderr(as_json=False),
    ):
        intake = Intake(rows)
        size = os.fstat(stream.fileno()).st_size

        def on_progress(result: ImportResult) -> None:
            intake.on_progress(result)
            # A pipe has no size; then there is no time left to tell.
            read = stream.tell() / size if size and stream.seekable() else None
            progress.update(intake.lines, read)

        level, scope = reach
        try:
            result = engine.import_suppressions(
                intake.entries(),
                level,
                scope,
                reason,
                on_progress=on_progress,
                dry_run=dry_run,
                on_error=intake.on_error,
            )
        except (KeyboardInterrupt, StoreUnavailable):
            progress.clear()
            if not dry_run:
                click.echo(f"dee: {_INTERRUPTED}", err=True)
            raise
    _told(file, intake, result, dry_run, as_json)
    if intake.errors:
        raise click.exceptions.Exit(1)


def _told(file: str, intake: Intake, result: ImportResult, dry_run: bool, as_json: bool) -> None:
    total = result.added + result.already + intake.errors
    assert total == intake.lines, "every line is accounted for"
    if as_json:
        write_json(
            {
                "lines": intake.lines,
                "added": result.added,
                "already": result.already,
                "errors": intake.errors,
                "dryRun": dry_run,
            }
        )
    else:
        begin = "dry run: " if dry_run else ""
        say(f"{begin}{counted(intake.lines, 'line')} of {file}: {result.added:,} added, "
            f"{result.already:,} already on the list, {counted(intake.errors, 'error')}"
            )  # fmt: skip
    for line, problem in intake.first:
        click.echo(one_line(f"{file}:{line}: not suppressed: {problem}"), err=True)
    if (more := intake.errors - len(intake.first)) > 0:
        click.echo(f"... and {more:,} more lines that cannot be used", err=True)


@contextmanager
def _opened(path: str) -> Iterator[BufferedReader]:
    if path == "-":
        # The real one is buffered whatever the type of `sys.stdin` promises.
        assert isinstance(sys.stdin.buffer, BufferedReader)
        yield sys.stdin.buffer
        return
    try:
        file = open(path, "rb")  # noqa: SIM115 - closed below
    except OSError as error:
        raise InvalidInput(f"list {path}", f"cannot be read: {error.strerror}") from None
    with file:
        yield file
