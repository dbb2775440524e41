"""`dee runs`: the list, one run, and everything that changes runs."""

from __future__ import annotations

from datetime import tzinfo
from typing import Any, Final, Literal

import click

from dee_es.cli.lazy import Lazy, LazyGroup
from dee_es.cli.options import (
    chosen_format,
    filter_options,
    format_options,
    json_option,
    must_reason_option,
    run_filters,
    told_as,
)
from dee_es.cli.run_view import as_json as run_as_json
from dee_es.cli.run_view import show_changed, show_page, show_run
from dee_es.cli.session import Session, pass_session
from dee_es.cli.times import refuse_distances, zone_option

_COMMANDS: Final = {
    "list": Lazy("runs:list_runs", "List runs, newest first."),
    "show": Lazy("runs:show", "Show one run."),
    "diff": Lazy("run_diff:diff", "Show what changed between two versions of a run."),
    "pause": Lazy("runs:pause", "Stop a run until it is resumed."),
    "resume": Lazy("runs:resume", "Let a paused run go on."),
    "cancel": Lazy("runs:cancel", "End a run."),
    "retry": Lazy("runs:retry", "Let a failed run enter its step again."),
    "resolve": Lazy("runs:resolve", "Settle a send whose outcome is unknown."),
    "export": Lazy("run_export:export_run", "Write a run to a file, for a bug report."),
    "import": Lazy("run_export:import_run", "Take in a run from a file."),
    "bulk-cancel": Lazy("bulk_changes:bulk_cancel", "End all runs that match filters."),
    "bulk-pause": Lazy("bulk_changes:bulk_pause", "Pause all runs that match filters."),
    "bulk-retry": Lazy("bulk_changes:bulk_retry", "Retry all failed runs that match filters."),
    "bulk-resume": Lazy("bulk_changes:bulk_resume", "Resume paused runs that match, at a pace."),
}


@click.group(cls=LazyGroup, lazy=_COMMANDS)
def runs() -> None:
    """List runs; show, pause, resume, cancel, retry or resolve one."""


@click.command("list")
@filter_options
@click.option(
    "--limit",
    type=click.IntRange(1, 10_000),
    default=50,
    show_default=True,
    help="Most runs to show.",
)
@click.option("--offset", type=click.IntRange(0), default=0, help="Leave out so many runs first.")
@click.option("--cursor", metavar="CURSOR", help="Go on where a page ended, with the same filters.")
@zone_option
@format_options
@pass_session
def list_runs(
    session: Session,
    /,
    limit: int,
    offset: int,
    cursor: str | None,
    zone: tzinfo,
    as_json: bool,
    as_csv: bool,
    **given: Any,
) -> None:
    """List runs, newest first, with the exact number of all that match."""
    shape = chosen_format(as_json, as_csv)
    if cursor is not None and offset:
        raise click.UsageError(
            "a cursor already says where to go on; give one of --cursor, --offset"
        )
    moments = {"--after": given["after"], "--before": given["before"]}
    refuse_distances(cursor, moments)
    with session.engine() as engine:
        now = engine.now().now
        filters = run_filters(**given, now=now)
        with told_as({"cursor": "--cursor"}):
            page = engine.list_runs(**filters, limit=limit, offset=offset, cursor=cursor)
    show_page(page, shape, now, moments, zone)


@click.command()
@click.argument("run_id", metavar="RUN")
@zone_option
@json_option
@pass_session
def show(session: Session, run_id: str, zone: tzinfo, as_json: bool) -> None:
    """Show everything about one RUN; its variables are personal data.

    Says what the policy refused it: by which rule, since when and until when.
    """
    from dee_es.cli.refusals import find_refusals

    with session.engine() as engine:
        run = engine.get_run(run_id)
        timeline = engine.get_timeline(run_id)
        now = engine.now().now
        resume_at = None if run.resume_tick is None else engine.clock.time(run.resume_tick)
    refusals = find_refusals(timeline, run)
    if as_json:
        from dee_es.cli.output import plain, write_json

        write_json({**run_as_json(run), "refusals": plain(refusals)})
        return
    show_run(run, resume_at, refusals, now, zone)


_run = click.argument("run_id", metavar="RUN")
_may_reason = click.option("--reason", metavar="TEXT", help="Why, for the log; kept readable.")


@click.command()
@_run
@_may_reason
@click.option(
    "--keep",
    type=click.Choice(["deadline", "remaining"]),
    default="deadline",
    show_default=True,
    help="Whether a wait keeps its deadline or the time that remains of it.",
)
@json_option
@pass_session
def pause(
    session: Session,
    run_id: str,
    reason: str | None,
    keep: Literal["deadline", "remaining"],
    as_json: bool,
) -> None:
    """Stop a RUN until it is resumed."""
    with session.engine() as engine:
        run = engine.pause_run(run_id, reason, keep=keep)
    show_changed(run, as_json)


@click.command()
@_run
@_may_reason
@json_option
@pass_session
def resume(session: Session, run_id: str, reason: str | None, as_json: bool) -> None:
    """Let a paused RUN go on from the next tick."""
    with session.engine() as engine:
        run = engine.resume_run(run_id, reason)
    show_changed(run, as_json)


@click.command()
@_run
@must_reason_option
@json_option
@pass_session
def cancel(session: Session, run_id: str, reason: str, as_json: bool) -> None:
    """End a RUN for good."""
    with session.engine() as engine:
        run = engine.cancel_run(run_id, reason)
    show_changed(run, as_json)


@click.command()
@_run
@must_reason_option
@json_option
@pass_session
def retry(session: Session, run_id: str, reason: str, as_json: bool) -> None:
    """Let a failed RUN enter its step again; refused while a send's outcome is unknown.

    It goes on under the templates, scripts, sender and policy that are published by now.
    """
    with session.engine() as engine:
        run = engine.retry_run(run_id, reason)
    show_changed(run, as_json)


@click.command()
@_run
@click.option(
    "--outcome",
    type=click.Choice(["delivered", "failed", "resend"]),
    required=True,
    help="What became of the send, or that it is to be sent again.",
)
@must_reason_option
@json_option
@pass_session
def resolve(
    session: Session,
    run_id: str,
    outcome: Literal["delivered", "failed", "resend"],
    reason: str,
    as_json: bool,
) -> None:
    """Settle a send of RUN whose outcome nobody knows."""
    with session.engine() as engine:
        run = engine.resolve_step(run_id, outcome, reason=reason)
    show_changed(run, as_json)
