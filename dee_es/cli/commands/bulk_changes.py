"""`dee runs bulk-cancel`, `bulk-pause` and the like: all runs that match, after asking."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

import click

from dee_es.cli.asking import ask, need_terminal
from dee_es.cli.options import (
    dry_run_option,
    filter_options,
    json_option,
    must_reason_option,
    run_filters,
)
from dee_es.cli.output import say, write_json
from dee_es.cli.progress import Progress
from dee_es.cli.session import Session, pass_session
from dee_es.cli.text import counted
from dee_es.errors import StoreUnavailable

if TYPE_CHECKING:
    from dee_es.bootstrap import Engine
    from dee_es.engine.models import BulkChange

_NAMED: Final = 10
"""Runs that could not be changed of which the reasons are told; `--json` tells more."""
_Command = TypeVar("_Command", bound=Callable[..., Any])
_Change = Callable[..., "BulkChange"]
"""A bulk method of the engine; takes filters, `dry_run` and `on_progress`."""


def _bulk_options(command: _Command) -> _Command:
    """The filters, and how sure the caller is."""
    for option in (
        json_option,
        dry_run_option,
        click.option(
            "--yes", is_flag=True, help="Do not ask. Needed where there is no terminal to ask at."
        ),
        must_reason_option,
        filter_options,
    ):
        command = option(command)
    return command


_per_tick_option = click.option(
    "--per-tick",
    type=click.IntRange(1),
    default=100,
    show_default=True,
    help="Runs that go on in each of the coming ticks, so that they do not all act at once.",
)


@click.command("bulk-cancel")
@_bulk_options
@pass_session
def bulk_cancel(session: Session, /, reason: str, **given: Any) -> None:
    """End all runs that match the filters, of which at least one is needed.

    Runs that have ended do not match. Shows how many there are and asks before it begins.
    """

    def change(engine: Engine) -> _Change:
        return lambda filters, **rest: engine.bulk_cancel(filters, reason, **rest)

    _carry_out(session, change, "cancel", "cancelled", **given)


@click.command("bulk-pause")
@_bulk_options
@click.option(
    "--keep",
    type=click.Choice(["deadline", "remaining"]),
    default="deadline",
    show_default=True,
    help="Whether a wait keeps its deadline or the time that remains of it.",
)
@pass_session
def bulk_pause(
    session: Session, /, reason: str, keep: Literal["deadline", "remaining"], **given: Any
) -> None:
    """Pause all runs that match the filters and can be paused; at least one filter is needed.

    Shows how many there are and asks before it begins.
    """

    def change(engine: Engine) -> _Change:
        return lambda filters, **rest: engine.bulk_pause(filters, reason, keep=keep, **rest)

    _carry_out(session, change, "pause", "paused", **given)


@click.command("bulk-resume")
@_bulk_options
@_per_tick_option
@pass_session
def bulk_resume(session: Session, /, reason: str, per_tick: int, **given: Any) -> None:
    """Resume all paused runs that match the filters, of which at least one is needed.

    Shows how many there are and asks before it begins.
    """

    def change(engine: Engine) -> _Change:
        return lambda filters, **rest: engine.bulk_resume(
            filters, reason, per_tick=per_tick, **rest
        )

    _carry_out(session, change, "resume", "resumed", **given)


@click.command("bulk-retry")
@_bulk_options
@_per_tick_option
@pass_session
def bulk_retry(session: Session, /, reason: str, per_tick: int, **given: Any) -> None:
    """Let all failed runs that match the filters, of which at least one is needed, enter their step
    again, under the definitions that are published by now.

    A run whose last send may have arrived is left alone: `dee runs resolve` settles it. Shows how
    many there are and asks before it begins.
    """

    def change(engine: Engine) -> _Change:
        return lambda filters, **rest: engine.bulk_retry(filters, reason, per_tick=per_tick, **rest)

    left = ": where the outcome of a send is unknown, `dee runs resolve` settles it first"
    _carry_out(session, change, "retry", "retried", left, **given)


def _carry_out(
    session: Session,
    change_of: Callable[[Engine], _Change],
    verb: str,
    done: str,
    left: str = "",
    *,
    yes: bool,
    dry_run: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Count what matches, ask, change it, and say what became of it."""
    if not any(given.values()):
        raise click.UsageError(f"give at least one filter; without any it would {verb} all runs")
    need_terminal(yes or dry_run, "--yes or --dry-run")
    with session.engine() as engine:
        filters = run_filters(**given, now=engine.now().now)
        change = change_of(engine)
        result = change(filters, dry_run=True)
        if not dry_run and result.matched:
            if not yes:
                ask(f"{verb.capitalize()} {counted(result.matched, 'run')}?", done)
            result = _changed(change, filters, result.matched, done)
    if as_json:
        counts = {"matched": result.matched, done: result.changed, "errors": result.errors}
        unchanged = [{"runId": run.run_id, "detail": run.detail} for run in result.unchanged]
        write_json({**counts, "dryRun": dry_run, "unchanged": unchanged})
    elif dry_run:
        say(f"{counted(result.matched, 'run')} would be {done}")
    else:
        missed = f"; {counted(result.errors, 'run')} could not be{left}" if result.errors else ""
        say(f"{result.changed:,} of {counted(result.matched, 'run')} {done}{missed}")
        _say_why(result)
    if result.errors:
        raise click.exceptions.Exit(1)


def _say_why(result: BulkChange) -> None:
    """Name the first of the runs that could not be changed."""
    named = result.unchanged[:_NAMED]
    for run in named:
        say(f"  {run.run_id}: {run.detail}")
    if result.errors > len(named):
        say(f"  and {counted(result.errors - len(named), 'other run')}")


def _changed(change: _Change, filters: dict[str, Any], matched: int, done: str) -> BulkChange:
    with Progress("Runs", matched) as progress:
        try:
            return change(filters, on_progress=lambda so_far: progress.update(so_far.done))
        except (KeyboardInterrupt, StoreUnavailable):
            progress.clear()
            told = f"what was {done} so far stays; the same command again does the rest"
            click.echo(f"dee: {told}", err=True)
            raise
