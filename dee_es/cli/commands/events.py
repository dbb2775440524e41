"""`dee events`: what happened to messages and calls."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BufferedReader
from operator import itemgetter
from typing import TYPE_CHECKING, Final

import click

from dee_es.cli.options import json_option, strict_option
from dee_es.cli.output import say, write_json
from dee_es.cli.progress import Progress
from dee_es.cli.session import Session, pass_session
from dee_es.cli.text import counted, one_line
from dee_es.errors import DeeError, InvalidInput, StoreUnavailable

if TYPE_CHECKING:
    from dee_es.bootstrap import Engine
    from dee_es.cli.event_lines import Addressees, NumberedLine
    from dee_es.engine.models import ChannelEvent

_SHOWN: Final = 20
_INTERRUPTED: Final = (
    "the events up to line {} are in the log, maybe some of those behind it, too; give the same "
    "file again: only lines with neither eventId nor occurredAt would count twice"
)


@click.group()
def events() -> None:
    """Take in what happened to messages and calls; describe events as they are stored."""


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
    data, occurredAt (ISO 8601 with zone), eventId. An eventId is accepted once, and without one
    so is a line of the same type, contact, run, step, data and occurredAt, so that the same file
    may be given again. A line with neither eventId nor occurredAt counts anew each time.

    A line that cannot be used is reported with its number and never stops the rest, nor makes the
    command fail unless --strict is given.
    """
    from dee_es.cli.event_lines import Addressees, read_batches

    tally = _Tally()
    with session.engine() as engine, _opened(file) as stream, Progress("Events") as progress:
        addressees = Addressees(engine, contacts_file)
        size = os.fstat(stream.fileno()).st_size
        try:
            for batch in read_batches(stream):
                _take(engine, addressees, batch, tally)
                progress.update(
                    tally.lines, stream.tell() / size if size and stream.seekable() else None
                )
        except (KeyboardInterrupt, StoreUnavailable):
            progress.clear()
            click.echo(f"dee: {_INTERRUPTED.format(tally.last)}", err=True)
            raise
    if as_json:
        write_json(
            {
                "lines": tally.lines,
                "accepted": tally.accepted,
                "duplicates": tally.duplicates,
                "errors": tally.errors,
            }
        )
    else:
        say(f"{counted(tally.lines, 'event')} of {file}: {tally.accepted:,} accepted, "
            f"{counted(tally.duplicates, 'duplicate')}, {counted(tally.errors, 'error')}"
            )  # fmt: skip
    _tell(file, tally)
    if strict and tally.errors:
        raise click.exceptions.Exit(1)


@events.command()
@click.argument("name", required=False)
@click.option("--version", type=click.IntRange(1), help="Only this schema.  [default: all]")
def schema(name: str | None, version: int | None) -> None:
    """Print the JSON Schema of the event NAME as it is stored, or of all events.

    Each schema an event has or had is there: "public" stands in the log as it is, "personal" is
    encrypted under the contact's key. The database is not asked.
    """
    from dee_es.core.registry import REGISTRY
    from dee_es.core.schemas import describe, schemas_of

    if name is not None and name not in REGISTRY:
        raise InvalidInput("name", f"no event is called {name[:64]!r}; `dee events schema` has all")
    found = [
        describe(each, number)
        for each in ([name] if name is not None else REGISTRY)
        for number in schemas_of(each)
        if version in (None, number)
    ]
    if not found:
        assert name is not None or version is not None, "every event has a schema"
        raise InvalidInput("version", f"{name or 'no event'} has no schema {version}")
    write_json(found)


@dataclass(slots=True)
class _Tally:
    """What became of the lines so far; `nameless` had nothing to be known again by, `last` is the
    number of the last one, `first` are the first ones that could not be used."""

    lines: int = 0
    accepted: int = 0
    duplicates: int = 0
    errors: int = 0
    nameless: int = 0
    last: int = 0
    first: list[tuple[int, DeeError]] = field(default_factory=list)


def _tell(file: str, tally: _Tally) -> None:
    """Say on stderr what somebody should know of the lines."""
    for number, error in tally.first:
        click.echo(one_line(f"{file}:{number}: not accepted: {error}"), err=True)
    if (more := tally.errors - len(tally.first)) > 0:
        click.echo(f"... and {more:,} more lines that are not valid", err=True)
    if tally.nameless:
        lines = counted(tally.nameless, "line")
        told = f"{file}: {lines} with neither eventId nor occurredAt would count again if repeated"
        click.echo(one_line(told), err=True)


def _take(
    engine: Engine, addressees: Addressees, batch: Sequence[NumberedLine], tally: _Tally
) -> None:
    """Give a batch of lines to the engine, and count what became of them."""
    lines: list[int] = []
    events: list[ChannelEvent] = []
    refused: list[tuple[int, DeeError]] = []
    for number, line in batch:
        try:
            if isinstance(line, InvalidInput):
                raise line
            events.append(addressees.event(line))
            lines.append(number)
        except InvalidInput as error:
            refused.append((number, error))
    result = engine.ingest_events(
        events, on_error=lambda place, error: refused.append((lines[place], error))
    )
    tally.lines += len(batch)
    if batch:
        tally.last = batch[-1][0]
    tally.nameless += sum(event.event_id is None for event in events)
    tally.accepted += result.accepted
    tally.duplicates += result.known
    tally.errors += len(refused)
    room = _SHOWN - len(tally.first)
    tally.first += sorted(refused, key=itemgetter(0))[:room]


@contextmanager
def _opened(path: str) -> Iterator[BufferedReader]:
    if path == "-":
        # The real one is buffered whatever the type of `sys.stdin` promises.
        assert isinstance(sys.stdin.buffer, BufferedReader)
        yield sys.stdin.buffer
        return
    with open(path, "rb") as file:
        yield file
