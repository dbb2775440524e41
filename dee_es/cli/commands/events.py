"""`dee events`: what happened to messages and calls."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, Final

import click

from dee_es.cli.options import json_option, strict_option
from dee_es.cli.output import say, write_json
from dee_es.cli.progress import Progress
from dee_es.cli.session import Session, pass_session
from dee_es.cli.text import counted, one_line
from dee_es.errors import ConcurrencyConflict, DeeError, StoreUnavailable

_SHOWN: Final = 20


@click.group()
def events() -> None:
    """Take in what happened to messages and calls."""


@events.command()
@click.argument("file", metavar="FILE.jsonl")
@click.option(
    "--contacts",
    "contacts_file",
    metavar="CONTACTS.csv",
    help="Find the contact of an address in this file, for contacts that have ids of their own."
    " [default: an address stands for the contact whose id is derived from it]",
)
@strict_option
@json_option
@pass_session
def ingest(
    session: Session, file: str, contacts_file: str | None, strict: bool, as_json: bool
) -> None:
    """Take in the events of FILE.jsonl, or of standard input for "-".

    One JSON object a line: type, contactId (or email, phone or runId), and if known runId, stepId,
    data, occurredAt (ISO 8601 with zone), eventId. An eventId is accepted once, so that the same
    file may be given again.

    A line that cannot be used is reported with its number and never stops the rest, nor makes the
    command fail unless --strict is given.
    """
    from dee_es.cli.event_lines import Addressees, read_lines

    accepted = duplicates = 0
    bad: list[str] = []
    errors = 0
    with session.engine() as engine, _opened(file) as stream, Progress("Events") as progress:
        addressees = Addressees(engine, contacts_file)
        size = os.fstat(stream.fileno()).st_size
        done = 0
        for number, event in read_lines(stream):
            try:
                if isinstance(event, DeeError):
                    raise event
                fresh = addressees.ingest(event)
                accepted += fresh
                duplicates += not fresh
            except (StoreUnavailable, ConcurrencyConflict):
                # The line may be good: nothing after it would fare better.
                raise
            except DeeError as error:
                errors += 1
                if len(bad) < _SHOWN:
                    bad.append(f"{file}:{number}: not accepted: {error}")
            done += 1
            progress.update(done, stream.tell() / size if size and stream.seekable() else None)
    if as_json:
        write_json(
            {"lines": done, "accepted": accepted, "duplicates": duplicates, "errors": errors}
        )
    else:
        say(f"{counted(done, 'event')} of {file}: {accepted:,} accepted, "
            f"{counted(duplicates, 'duplicate')}, {counted(errors, 'error')}")  # fmt: skip
    for line in bad:
        click.echo(one_line(line), err=True)
    if errors > len(bad):
        click.echo(f"... and {errors - len(bad):,} more lines that are not valid", err=True)
    if strict and errors:
        raise click.exceptions.Exit(1)


@contextmanager
def _opened(path: str) -> Iterator[BinaryIO]:
    if path == "-":
        yield sys.stdin.buffer
        return
    with open(path, "rb") as file:
        yield file
