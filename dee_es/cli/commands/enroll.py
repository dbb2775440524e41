"""`dee enroll`: a run for every contact of a CSV file."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import click

from dee_es.cli.options import dry_run_option, json_option, strict_option, variables_option
from dee_es.cli.output import say, write_json
from dee_es.cli.progress import Progress
from dee_es.cli.session import Session, pass_session
from dee_es.cli.text import counted, one_line
from dee_es.errors import InvalidInput, StoreUnavailable

if TYPE_CHECKING:
    from dee_es.bootstrap import Engine
    from dee_es.cli.refused_rows import Refusals
    from dee_es.core.plans.plan import ExecutionPlan
    from dee_es.doors.contacts_header import Columns, Kind
    from dee_es.doors.enroll_rows import Dedupe, Intake
    from dee_es.engine.models import BulkResult

_INTERRUPTED: Final = (
    "what was enrolled so far stays; the same command again creates only what is missing"
)


@click.command()
@click.argument("plan", metavar="PLAN")
@click.argument("contacts", metavar="CONTACTS.csv")
@click.option(
    "--batch-size",
    type=click.IntRange(1, 100_000),
    default=1000,
    show_default=True,
    help="Contacts of one transaction.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Processes that share the batches; with several, those are not in the order of the rows.",
)
@click.option(
    "--dedupe",
    type=click.Choice(["address", "id"]),
    default="address",
    show_default=True,
    help="Whether two rows with one address are one contact whatever their ids, or only two rows"
    " with one id. By address about 200 MB are needed for a million rows.",
)
@click.option(
    "--number",
    "numbers",
    metavar="COLUMN",
    multiple=True,
    help="A column that holds numbers, for conditions that compare; may be given several times.",
)
@click.option(
    "--boolean",
    "booleans",
    metavar="COLUMN",
    multiple=True,
    help="A column that holds true and false (or yes and no, 1 and 0); likewise.",
)
@click.option("--errors", "errors_file", metavar="FILE", help="Write all refused rows as CSV.")
@variables_option
@dry_run_option
@strict_option
@json_option
@pass_session
def enroll(
    session: Session,
    plan: str,
    contacts: str,
    batch_size: int,
    workers: int,
    dedupe: Dedupe,
    numbers: tuple[str, ...],
    booleans: tuple[str, ...],
    errors_file: str | None,
    variables: dict[str, Any],
    dry_run: bool,
    strict: bool,
    as_json: bool,
) -> None:
    """Start a run of PLAN for every contact of CONTACTS.csv.

    PLAN is a file, which is published if it equals no version yet, or a published plan's id or
    id@version. The first line of the CSV names the columns: id, email, phone, timezone; every other
    one becomes an attribute, as text unless --number or --boolean names it. Commas, semicolons or
    tabs separate the columns, as the first line has it. A row without an id gets one that is
    derived from its address.

    A row that cannot be used is refused with its line and a reason and never stops the rest. The
    counts of the summary add up to the rows of the file. Refused rows do not make the command
    fail, unless --strict is given.
    """
    with ExitStack() as stack:
        engine = stack.enter_context(session.engine())
        source = stack.enter_context(_opened(contacts))
        if errors_file is not None:
            _require_unused(session, errors_file, {"contacts": source.fileno(), "plan": plan})
        from dee_es.cli.refused_rows import Refusals, refused_file
        from dee_es.doors.contacts_csv import read_contacts
        from dee_es.doors.enroll_rows import Intake

        kinds = _kinds(numbers, booleans)
        rows = stack.enter_context(closing(read_contacts(source, kinds)))
        ready = _ready(engine, plan, variables, dry_run)
        _warn(ready, rows.columns)
        # Opened before the work begins rather than after it.
        file = None if errors_file is None else stack.enter_context(refused_file(errors_file))
        refusals = Refusals(file)
        intake = Intake(engine, rows, dedupe, refusals, batch_size, workers)
        result = _enroll(engine, ready, intake, source, variables, batch_size, workers, dry_run)
    between = rows.columns.delimiter
    _summary(contacts, between, intake, result, refusals, dry_run, as_json)
    _show_refused(contacts, refusals, errors_file)
    if strict and refusals.counts["invalid"]:
        raise click.exceptions.Exit(1)


def _kinds(numbers: tuple[str, ...], booleans: tuple[str, ...]) -> dict[str, Kind]:
    if both := sorted({*numbers} & {*booleans}):
        raise click.UsageError(f"--number and --boolean both name the column {both[0]!r}")
    return {**dict.fromkeys(numbers, "number"), **dict.fromkeys(booleans, "boolean")}


def _warn(plan: ExecutionPlan, columns: Columns) -> None:
    """Before runs begin that would all take the wrong way."""
    from dee_es.doors.never_text import never_text

    for each in never_text(plan, columns):
        claim = f"{each.where} asks for {each.claim}, but the column of {each.attribute} is text"
        remedy = f"--{each.kind} {each.attribute} reads it as a {each.kind}"
        click.echo(one_line(f"dee: warning: {claim}; {remedy}"), err=True)


def _ready(
    engine: Engine, reference: str, variables: dict[str, Any], dry_run: bool
) -> ExecutionPlan:
    """The plan, what it refers to published; in a dry run only found to be there."""
    from dee_es.cli.plan_file import find_plan, publish_bundle

    file = find_plan(reference, engine)
    file.require_publishable(engine)
    if not dry_run:
        # What the whole call would be refused for must not leave half of the file published.
        engine.bulk_execute(file.plan, (), variables, dry_run=True, bundled=True)
        publish_bundle(engine, file)
    return file.plan


def _enroll(
    engine: Engine,
    plan: ExecutionPlan,
    intake: Intake,
    source: BinaryIO,
    variables: dict[str, Any],
    batch_size: int,
    workers: int,
    dry_run: bool,
) -> BulkResult:
    size = os.fstat(source.fileno()).st_size
    with Progress("Enrolling") as progress:

        def on_progress(result: BulkResult) -> None:
            # A pipe has no size; then there is no time left to tell.
            read = source.tell() / size if size and source.seekable() else None
            progress.update(result.done + intake.held_back, read)

        try:
            return engine.bulk_execute(
                plan,
                intake.contacts(),
                variables,
                batch_size,
                on_progress,
                intake.on_refusal,
                dry_run,
                workers=workers,
                bundled=dry_run,
            )
        except (KeyboardInterrupt, StoreUnavailable):
            progress.clear()
            if not dry_run:
                click.echo(f"dee: {_INTERRUPTED}", err=True)
            raise


def _summary(
    name: str,
    delimiter: str,
    intake: Intake,
    result: BulkResult,
    refusals: Refusals,
    dry_run: bool,
    as_json: bool,
) -> None:
    skipped = result.skipped + intake.duplicates
    errors = result.errors + intake.refused
    assert result.created + skipped + errors == intake.rows, "every row is accounted for"
    counts = refusals.counts
    if as_json:
        write_json(
            {
                "rows": intake.rows,
                "created": result.created,
                "skipped": skipped,
                "errors": errors,
                "alreadyEnrolled": counts["already_enrolled"],
                "suppressed": counts["suppressed"],
                "dryRun": dry_run,
            }
        )
        return
    why = [
        f"{counts[reason]:,} {text}"
        for reason, text in (("already_enrolled", "already enrolled"), ("suppressed", "suppressed"))
        if counts[reason]
    ]
    because = f" ({', '.join(why)})" if why else ""
    begin = "dry run: " if dry_run else ""
    if delimiter != ",":
        from dee_es.doors.contacts_header import DELIMITER_NAMES

        name += f" ({DELIMITER_NAMES[delimiter]} between columns, as its first line has them)"
    say(f"{begin}{counted(intake.rows, 'row')} of {name}: {result.created:,} created, "
        f"{skipped:,} skipped{because}, {counted(errors, 'error')}")  # fmt: skip


def _show_refused(name: str, refusals: Refusals, errors_file: str | None) -> None:
    for line, detail in refusals.first:
        where = f"{name}:{line}" if line is not None else name
        click.echo(one_line(f"{where}: not enrolled: {detail}"), err=True)
    more = refusals.counts["invalid"] - len(refusals.first)
    if more > 0:
        where = errors_file if errors_file is not None else "--errors FILE takes all of them"
        click.echo(f"... and {more:,} more rows that are not valid: {where}", err=True)


def _same_file(one: str, other: str | int) -> bool:
    """Whether both are one file on a disk; the other one may be given as its descriptor."""
    try:
        # What is written to a device or a pipe overwrites nothing.
        return os.path.isfile(one) and os.path.samestat(os.stat(one), os.stat(other))
    except OSError:
        return False


def _require_unused(session: Session, path: str, read: Mapping[str, int | str]) -> None:
    """Raise `UsageError` if the file is one of those that are read, and `InvalidInput` if the
    settings name it for something else."""
    from dee_es.bootstrap import places_of

    for name, each in read.items():
        if _same_file(path, each):
            raise click.UsageError(f"--errors names the {name} file, which it would overwrite")
    folder, name = os.path.split(os.path.abspath(path))
    # What was refused before is written over: the same call again is how an enrolment goes on.
    places_of(session.config())(folder).require_free(name, replace=True)


@contextmanager
def _opened(path: str) -> Iterator[BinaryIO]:
    if path == "-":
        yield sys.stdin.buffer
        return
    try:
        file = open(path, "rb")  # noqa: SIM115 - closed below
    except OSError as error:
        raise InvalidInput(f"contacts file {path}", f"cannot be read: {error.strerror}") from None
    with file:
        yield file
