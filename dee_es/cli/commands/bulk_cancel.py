"""`dee runs bulk-cancel`: ends all runs that match, after asking."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from dee_es.cli.options import dry_run_option, filter_options, json_option, run_filters
from dee_es.cli.output import say, write_json
from dee_es.cli.progress import Progress
from dee_es.cli.session import Session, pass_session
from dee_es.cli.times import Moment


@click.command("bulk-cancel")
@filter_options
@click.option("--reason", metavar="TEXT", required=True, help="Why, for the log; kept readable.")
@click.option(
    "--yes", is_flag=True, help="Do not ask. Needed where there is no terminal to ask at."
)
@dry_run_option
@json_option
@pass_session
def bulk_cancel(
    session: Session,
    status: Sequence[str],
    plan: str | None,
    contact: str | None,
    after: Moment | None,
    before: Moment | None,
    reason: str,
    yes: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """End all runs that match the filters, of which at least one is needed.

    Runs that have ended do not match. Shows how many there are and asks before it begins.
    """
    if not any((status, plan, contact, after, before)):
        raise click.UsageError("give at least one filter; without any, all runs would be ended")
    if not (yes or dry_run or sys.stdin.isatty()):
        raise click.UsageError("there is no terminal to ask at; say --yes or --dry-run")
    with session.engine() as engine:
        filters = run_filters(status, plan, contact, after, before, engine.now().now)
        result = engine.bulk_cancel(filters, reason, session.actor, dry_run=True)
        if not dry_run and result.matched:
            if not yes and not click.confirm(f"End {_runs(result.matched)}?", err=True):
                click.echo("dee: nothing was cancelled", err=True)
                raise click.exceptions.Exit(1)
            with Progress("Cancelling", result.matched) as progress:
                result = engine.bulk_cancel(
                    filters,
                    reason,
                    session.actor,
                    on_progress=lambda change: progress.update(change.done),
                )
    if as_json:
        write_json({"matched": result.matched, "cancelled": result.cancelled,
                    "errors": result.errors, "dryRun": dry_run})  # fmt: skip
    elif dry_run:
        say(f"{_runs(result.matched)} would be cancelled")
    else:
        missed = f"; {_runs(result.errors)} could not be" if result.errors else ""
        say(f"{result.cancelled:,} of {_runs(result.matched)} cancelled{missed}")
    if result.errors:
        raise click.exceptions.Exit(1)


def _runs(count: int) -> str:
    return f"{count:,} run{'' if count == 1 else 's'}"
