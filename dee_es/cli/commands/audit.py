"""`dee audit`: what was done and by whom, and whether the log still is what was written."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from datetime import tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from dee_es.cli.commands.audit_export import export
from dee_es.cli.options import (
    chosen_format,
    force_option,
    format_options,
    json_option,
    position_ranges,
    told_as,
    unless_forced,
)
from dee_es.cli.output import Column, plain, say, write_csv, write_fields, write_json, write_table
from dee_es.cli.progress import Progress
from dee_es.cli.run_view import context_fields
from dee_es.cli.session import Session, pass_session
from dee_es.cli.text import counted
from dee_es.cli.times import (
    Moment,
    go_on,
    in_full,
    local,
    moment_option,
    refuse_distances,
    zone_option,
)

if TYPE_CHECKING:
    from dee_es.bootstrap import Engine
    from dee_es.engine.auditing.entries import AuditPage

_LOG: Final = (
    Column("TIME"),
    Column("ACTION"),
    Column("RUN OR STREAM", 12),
    Column("PLAN", 8),
    Column("CONTACT", 8),
    Column("STEP", 6),
    Column("BY", 6),
    Column("REASON", 10),
)
_FILTERS: Final = {
    "run_id": "--run",
    "contact_id": "--contact",
    "plan_id": "--plan",
    "actions": "--action",
    "actor": "--by",
    "text": "--text",
    "cursor": "--cursor",
}
_AT_ONCE: Final = 1000
_PUT_RIGHT: Final = (
    "somebody wrote to these tables past dee-es: stop the workers, find out who it was, and have "
    "`dee audit verify` say whether the log is whole; then restore a copy of the database from "
    "before, or, where the log is right, give the suppression or consent again, and pause and "
    "resume the run; what is counted for a day is asked for on that day alone"
)
_CSV: Final = (
    "id", "position", "stream", "version", "tick", "timestamp", "action", "runId", "planId",
    "contactId", "stepId", "actor", "reason", "command", "commandId", "recordedAt", "erased",
    "checksum", "previousChecksum",
)  # fmt: skip


@click.group()
def audit() -> None:
    """Search the audit trail, and verify that the log is what was written."""


audit.add_command(export)


@audit.command()
@click.option("--run", "run_id", metavar="ID", help="Entries of this run.")
@click.option("--contact", "contact_id", metavar="ID", help="Entries about this contact.")
@click.option("--plan", "plan_id", metavar="ID", help="Entries of this plan and its runs.")
@click.option(
    "--action",
    "actions",
    metavar="ACTION",
    multiple=True,
    help="Such as run.cancelled or step.executed; may be given several times.",
)
@click.option("--by", "actor", metavar="NAME", help="What this person or program did.")
@click.option(
    "--since",
    metavar="TIME",
    callback=moment_option,
    help="At or after this time (ISO 8601 with zone), or 24h, 7d, 90m ago.",
)
@click.option("--until", metavar="TIME", callback=moment_option, help="Before this time.")
@click.option("--text", metavar="TEXT", help="Whose reason has this text in it.")
@click.option(
    "--limit",
    type=click.IntRange(1, 1000),
    default=100,
    show_default=True,
    help="Most entries to show.",
)
@click.option("--cursor", metavar="CURSOR", help="Go on where a page ended, with the same filters.")
@click.option(
    "--position",
    "positions",
    metavar="A-B",
    multiple=True,
    help="Exactly these places in the log, such as 7 or 7-9 or 3,7-9; without other filters.",
)
@zone_option
@format_options
@pass_session
def log(
    session: Session,
    /,
    run_id: str | None,
    contact_id: str | None,
    plan_id: str | None,
    actions: Sequence[str],
    actor: str | None,
    since: Moment | None,
    until: Moment | None,
    text: str | None,
    limit: int,
    cursor: str | None,
    positions: Sequence[str],
    zone: tzinfo,
    as_json: bool,
    as_csv: bool,
) -> None:
    """Show the entries of the whole log that match all filters, by time, with their exact number.

    JSON has all that was recorded, personal data too. Unless it is about one run or one contact,
    the log says that somebody asked.
    """
    shape = chosen_format(as_json, as_csv)
    filters = (run_id, contact_id, plan_id, actions, actor, since, until, text, cursor)
    if positions:
        _show_page(_at(session, positions, any(filters)), shape, zone)
        return
    moments = {"--since": since, "--until": until}
    refuse_distances(cursor, moments)
    with session.engine() as engine, told_as(_FILTERS):
        now = engine.now().now
        page = engine.audit.query(
            run_id=run_id,
            contact_id=contact_id,
            plan_id=plan_id,
            actions=actions or None,
            actor=actor,
            since=None if since is None else since.before(now),
            until=None if until is None else until.before(now),
            text=text,
            limit=limit,
            cursor=cursor,
            asked_by=session.actor,
        )
    _show_page(page, shape, zone, in_full(moments, now))
    if shape is None and page.next_cursor is not None:
        say(f"more: {go_on(page.next_cursor, moments, now)}")


def _at(session: Session, positions: Sequence[str], filtered: bool) -> AuditPage:
    if filtered:
        raise click.UsageError("--position goes without other filters")
    ranges = [each for given in positions for each in position_ranges(given)]
    from dee_es.engine.auditing.entries import AuditPage

    with session.engine() as engine:
        end = engine.audit.size()
        found = [
            entry
            for first, given in ranges
            for last in [min(given, end)]
            for begin in range(first, last + 1, _AT_ONCE)
            for entry in engine.audit.get_at(
                begin, min(last, begin + _AT_ONCE - 1), asked_by=session.actor
            )
        ]
    return AuditPage(entries=tuple(found), total=len(found))


def _show_page(
    page: AuditPage, shape: str | None, zone: tzinfo, times: Mapping[str, str] | None = None
) -> None:
    if shape == "json":
        write_json(page.model_dump(mode="json", by_alias=True) | dict(times or {}))
    elif shape == "csv":
        write_csv(_CSV, [entry.model_dump(mode="json", by_alias=True) for entry in page.entries])
    else:
        _show(page, zone)


def _show(page: AuditPage, zone: tzinfo) -> None:
    write_table(
        _LOG,
        [
            (
                local(e.timestamp, zone), e.action, e.run_id or e.stream, e.plan_id, e.contact_id,
                e.step_id, e.actor, e.reason,
            )
            for e in page.entries
        ],
    )  # fmt: skip
    say(f"{len(page.entries):,} of {counted(page.total, 'entry', 'entries')}")


@audit.command()
@click.argument("run_id", metavar="RUN")
@click.argument("step_id", metavar="STEP")
@click.option("--visit", type=click.IntRange(1), help="Which time the run was there; default last.")
@json_option
@pass_session
def context(session: Session, run_id: str, step_id: str, visit: int | None, as_json: bool) -> None:
    """Show what the decision of a STEP of RUN read; personal data is among it."""
    with session.engine() as engine, told_as({"visit": "--visit"}):
        found = engine.audit.get_context_at(run_id, step_id, visit=visit)
    if as_json:
        write_json(found.model_dump(mode="json", by_alias=True))
    else:
        write_fields(context_fields(found))


@audit.command()
@click.argument("run_id", metavar="[RUN]", required=False)
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    default=None,
    help="Processes that share the work on a long log.  [default: as many as there are cores]",
)
@click.option(
    "--indexes",
    is_flag=True,
    help="Compare instead what is decided by beside the log with what the log says: when runs are "
    "due, suppressions, consents, keys, ids of channel events, counters of limits and budgets.",
)
@json_option
@pass_session
def verify(
    session: Session, run_id: str | None, workers: int | None, indexes: bool, as_json: bool
) -> None:
    """Check the chain of checksums of RUN, or of the whole log without one.

    Exits with 1 if anything was changed, cut or put in; the entry is named.
    """
    if run_id is not None and workers is not None:
        raise click.UsageError("--workers goes with the whole log, not with a RUN")
    if indexes and (run_id is not None or workers is not None):
        raise click.UsageError("--indexes goes without a RUN and without --workers")
    with session.engine() as engine:
        if indexes:
            valid = _indexes(engine, as_json)
        elif run_id is not None:
            valid = _run(engine, run_id, as_json)
        else:
            valid = _log(engine, workers or os.cpu_count() or 1, as_json)
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
        if verdict.anchored_through:
            through = f"signed up to entry {verdict.anchored_through:,}"
            say(f"{through}, if the whole log verifies, which `dee audit verify` says")
        else:
            say("none of it is signed yet; `dee audit checkpoint` signs")
    else:
        say(f"{run_id} is NOT valid: entry {verdict.first_bad_entry}: {verdict.problem}")
    return verdict.valid


def _log(engine: Engine, workers: int, as_json: bool) -> bool:
    with Progress("Verifying entries", engine.audit.size()) as progress:
        verdict = engine.verify_log(progress.update, workers=workers)
    if as_json:
        write_json(verdict)
        return verdict.valid
    entries = counted(verdict.entries, "entry", "entries")
    what = f"{entries} in {counted(verdict.streams, 'stream')}"
    say(f"the log is valid: {what}" if verdict.valid else f"the log is NOT valid, of {what}:")
    for problem in verdict.problems:
        say(f"  - {problem}")
    if verdict.checkpoints:
        signed = counted(verdict.checkpoints, "signed checkpoint")
        say(f"complete up to position {verdict.anchored_through:,}, by {signed}")
    else:
        say("no signed checkpoint was compared: a log cut at its end would look the same")
    if verdict.checkpoints and verdict.unanchored_events:
        tail = counted(verdict.unanchored_events, "entry", "entries")
        say(f"not signed yet: the last {tail}, the oldest {verdict.unanchored_seconds:,.0f} s old")
    for told in verdict.unchecked:
        say(f"NOT CHECKED: {told}")
    return verdict.valid


def _indexes(engine: Engine, as_json: bool) -> bool:
    with Progress("Comparing entries", engine.audit.size()) as progress:
        verdict = engine.audit.verify_indexes(progress.update)
    if as_json:
        write_json(verdict)
        return verdict.valid
    runs, contacts = counted(verdict.runs, "run"), counted(verdict.contacts, "contact")
    what = f"{counted(verdict.entries, 'entry', 'entries')}, {runs}, {contacts}"
    if verdict.valid:
        say(f"the tables beside the log are what it says: {what}")
    else:
        say(f"the tables beside the log are NOT what it says, of {what}:")
    for difference in verdict.differences:
        say(f"  - {difference}")
    for told in verdict.unread:
        say(f"NOT COMPARED: {told}")
    if not verdict.valid:
        say(_PUT_RIGHT)
    return verdict.valid


@audit.command()
@json_option
@pass_session
def checkpoint(session: Session, as_json: bool) -> None:
    """Put the log as it stands under a signed root, and keep that outside the database.

    The places are those of DEE_CHECKPOINTS, separated by spaces: folders, git:FOLDER, or URLs such
    as s3://bucket/path. Exits with 1 if one of them could not be reached.
    """
    with session.engine() as engine:
        done = engine.audit.checkpoint()
    if as_json:
        write_json(done)
    else:
        say(f"signed {counted(done.size, 'entry', 'entries')}, root {done.root}")
        for place in done.places:
            say(f"  kept in {place}")
        for failed in done.failed:
            say(f"  NOT kept: {failed}")
    if done.failed:
        raise click.exceptions.Exit(1)


@audit.command()
@click.argument("stream", metavar="RUN")
@click.option("--entry", type=click.IntRange(1), required=True, help="Which entry of it.")
@click.option(
    "--output",
    "path",
    metavar="FILE",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Where to write the proof; without it, to standard output.",
)
@force_option
@pass_session
def prove(session: Session, stream: str, entry: int, path: Path | None, force: bool) -> None:
    """Write a proof that an entry of RUN (or of another stream) is in the signed log.

    It holds the entry as stored, what is personal encrypted, and can be checked without the
    database.
    """
    from dee_es.bootstrap import places_of

    with session.engine() as engine:
        proof = engine.audit.prove(stream, entry)
    if path is None:
        write_json(proof)
        return
    text = json.dumps(plain(proof), ensure_ascii=False, indent=2) + "\n"
    whole = path.absolute()
    place = places_of(session.config())(str(whole.parent))
    with unless_forced():
        place.write(whole.name, [text.encode()], replace=force)
    say(f"{path}: entry {entry} of {stream} is in the log of {proof.size:,} entries")
