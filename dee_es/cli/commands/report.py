"""`dee report`: what was sent in a period, to whom it was allowed, and when."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

import click

from dee_es.cli.options import force_option, told_as, unless_forced
from dee_es.cli.output import say
from dee_es.cli.progress import Progress
from dee_es.cli.session import Session, pass_session
from dee_es.cli.text import counted
from dee_es.cli.times import Moment, moment_option

if TYPE_CHECKING:
    from dee_es.engine.compliance.manager import OnReport
    from dee_es.engine.compliance.report import ComplianceReport, ReportFormat

_SECTIONS: Final = (
    "sends",
    "consent",
    "suppressions",
    "windows",
    "unsubscribes",
    "verification",
)
_FORMATS: Final[tuple[ReportFormat, ...]] = ("md", "json", "html", "pdf")
_OPTIONS: Final = {"since": "--from", "until": "--to", "zone": "--tz", "through": "--through"}
_WORK: Final = {"counting": "Counting entries", "verifying": "Verifying entries"}


@click.command()
@click.option(
    "--from",
    "since",
    metavar="TIME",
    required=True,
    callback=moment_option,
    help="From this time on (ISO 8601 with zone), or from 24h, 7d, 90m ago.",
)
@click.option(
    "--to",
    "until",
    metavar="TIME",
    required=True,
    callback=moment_option,
    help="Before this time; 0s is now.",
)
@click.option(
    "--include",
    type=click.Choice(_SECTIONS),
    multiple=True,
    help="Only this section; may be given several times.",
)
@click.option(
    "--format",
    type=click.Choice(_FORMATS),
    help="How to write it.  [default: by the name of the file, else md]",
)
@click.option("--output", metavar="FILE", help="Write to this file, or to a URL such as s3://...")
@force_option
@click.option(
    "--tz",
    "zone",
    metavar="ZONE",
    default="UTC",
    show_default=True,
    help="The zone whose business days are counted.",
)
@click.option(
    "--through",
    type=click.IntRange(1),
    metavar="POSITION",
    help="Read the log up to this position, as a report made before did; default its end.",
)
@click.option("--reason", metavar="TEXT", help="Why it was made, for the log.")
@pass_session
def report(
    session: Session,
    /,
    since: Moment,
    until: Moment,
    include: Sequence[str],
    format: ReportFormat | None,
    output: str | None,
    force: bool,
    zone: str,
    through: int | None,
    reason: str | None,
) -> None:
    """Report on a period: sends by channel, consent, suppressions, calling hours, unsubscribes, and
    whether the log verifies.

    Every number comes with the positions of the entries it counts. The report holds no personal
    data. That it was made is put on record in the log first. Exits with 1 if the log does not
    verify.
    """
    chosen = format or _by_name(output)
    if chosen == "pdf" and output is None:
        raise click.UsageError("a PDF file needs a place: --output FILE")
    with session.engine() as engine, told_as(_OPTIONS), unless_forced():
        now = engine.now().now
        # What is shown is on record with its SHA-256 like a file, and waits for the lines of
        # progress to be gone.
        shown = io.BytesIO()
        made = _made(
            lambda told: engine.compliance.report(
                since.before(now),
                until.before(now),
                include or None,
                format=chosen,
                output=shown if output is None else output,
                replace=force,
                zone=zone,
                through=through,
                reason=reason,
                actor=session.actor,
                on_progress=told,
            )
        )
    if output is None:
        sys.stdout.buffer.write(shown.getvalue())
    else:
        _tell(made, output)
    if made.verification is not None and not made.verification.intact:
        raise click.exceptions.Exit(1)


def _by_name(output: str | None) -> ReportFormat:
    ending = (output or "").rpartition(".")[2].lower()
    for known in _FORMATS:
        if ending == known:
            return known
    return "md"


def _made(make: Callable[[OnReport], ComplianceReport]) -> ComplianceReport:
    """The report, with a line for each of its two ways through the log."""
    with ExitStack() as stack:
        lines: dict[str, Progress] = {}

        def told(what: str, done: int, total: int) -> None:
            if what not in lines:
                lines[what] = stack.enter_context(Progress(_WORK[what], total))
            lines[what].update(done)

        return make(told)


def _tell(made: ComplianceReport, output: str) -> None:
    entries = counted(made.entries, "entry", "entries")
    say(f"{output}: {entries} of the period, the log up to position {made.through:,}")
    for section, figure in made.violations():
        say(f"  to be looked into: {section.title}: {figure.label}: {figure.value:,}")
    found = made.verification
    if found is not None:
        say("  the log verifies" if found.intact else "  the log does NOT verify")
        covered = "cover the period" if found.complete else "do not cover the whole period"
        say(f"  signed checkpoints {covered}")
