"""`dee archive`: ended runs, taken out of the log into verified files."""

from __future__ import annotations

from datetime import tzinfo
from pathlib import Path
from typing import Final

import click

from dee_es.cli.asking import ask, need_terminal
from dee_es.cli.commands.run_export import write_run
from dee_es.cli.options import (
    chosen_format,
    dry_run_option,
    force_option,
    format_options,
    json_option,
)
from dee_es.cli.output import Column, plain, say, write_csv, write_json, write_table
from dee_es.cli.progress import Progress
from dee_es.cli.session import Session, pass_session
from dee_es.cli.text import counted
from dee_es.cli.times import Moment, iso, local, moment_option, zone_option

_COLUMNS: Final = (
    Column("ARCHIVE", right=True),
    Column("ARCHIVED"),
    Column("ENDED BEFORE"),
    Column("RUNS", right=True),
    Column("ENTRIES", right=True),
    Column("FILE", 16),
    Column("PLACE", 10),
    Column("BY", 6),
)
_CSV: Final = (
    "number", "archivedAt", "before", "runs", "entries", "first", "last", "root", "digest", "name",
    "place", "actor", "reason",
)  # fmt: skip
_from_option = click.option(
    "--from", "place", metavar="PLACE", help="Where the files are now, if they were moved."
)


@click.group()
def archive() -> None:
    """Take ended runs out of the log into files, and look after these."""


@archive.command()
@click.option(
    "--before",
    metavar="TIME",
    callback=moment_option,
    required=True,
    help="Runs that ended before this time (ISO 8601 with zone), or more than 400d, 24h ago.",
)
@click.option(
    "--to", "place", metavar="PLACE", help="A folder, or a URL such as s3://bucket/path.  "
    "[DEE_ARCHIVES]",
)  # fmt: skip
@click.option("--reason", metavar="TEXT", help="Why, for the log; kept readable.")
@click.option("--yes", is_flag=True, help="Do not ask; needed where there is no terminal.")
@dry_run_option
@json_option
@pass_session
def create(
    session: Session,
    /,
    before: Moment,
    place: str | None,
    reason: str | None,
    yes: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Write ended runs to archive files, and take them out of the log.

    Each file is read back and verified before anything of it leaves. What stays of an entry is its
    place and checksum, so that the log verifies as before; the runs are no longer in lists, counts,
    funnels and the audit trail. What is personal stays encrypted under the contacts' keys. Runs
    under a legal hold stay. If this is broken off, call it again.
    """
    need_terminal(yes or dry_run, "--yes or --dry-run")
    with session.engine() as engine:
        until = before.before(engine.now().now)
        found = engine.audit.archive(until, place=place, dry_run=True)
        if not dry_run and found.runs:
            what = f"{counted(found.runs, 'run')} with {counted(found.entries, 'entry', 'entries')}"
            if not yes:
                ask(f"Take {what} out of the log?", "archived")
        done = found
        if not dry_run:
            with Progress("Archiving runs", found.runs) as progress:
                done = engine.audit.archive(
                    until,
                    place=place,
                    reason=reason,
                    on_progress=lambda so_far: progress.update(so_far.runs),
                )
    if as_json:
        write_json({**plain(done), "holds": sorted(done.holds)})
        return
    verb = "would leave" if dry_run else "have left"
    say(
        f"{counted(done.runs, 'run')} that ended before {iso(until)} {verb} the log, with "
        f"{counted(done.entries, 'entry', 'entries')}"
    )
    for each in done.archives:
        say(f"  archive {each.number}: {each.place}/{each.name}")
    if done.held:
        holds = ", ".join(sorted(done.holds))
        say(f"HELD: {counted(done.held, 'run')} kept by legal holds: {holds}")


@archive.command("list")
@zone_option
@format_options
@pass_session
def list_archives(session: Session, zone: tzinfo, as_json: bool, as_csv: bool) -> None:
    """Show all archives, as the log tells them."""
    shape = chosen_format(as_json, as_csv)
    with session.engine() as engine:
        archives = engine.audit.archives()
    if shape == "json":
        write_json(archives)
    elif shape == "csv":
        write_csv(_CSV, [plain(each) for each in archives])
    else:
        write_table(
            _COLUMNS,
            [
                (
                    each.number, local(each.archived_at, zone), local(each.before, zone), each.runs,
                    each.entries, each.name, each.place, each.actor,
                )
                for each in archives
            ],
        )  # fmt: skip


@archive.command()
@_from_option
@json_option
@pass_session
def verify(session: Session, place: str | None, as_json: bool) -> None:
    """Read every archive and compare it with what the log says of it.

    Exits with 1 if one cannot be read (with --json "valid" is null then), or is not what was
    archived (false).
    """
    with session.engine() as engine:
        total = sum(each.runs for each in engine.audit.archives())
        with Progress("Verifying archived runs", total) as progress:
            verdicts = engine.audit.verify_archives(
                place, on_progress=lambda so_far: progress.update(so_far.runs)
            )
    if as_json:
        write_json(verdicts)
    else:
        for verdict in verdicts:
            number = verdict.archive.number
            if verdict.valid:
                say(f"archive {number} is valid: {counted(verdict.archive.runs, 'run')}")
            elif verdict.valid is None:
                say(f"archive {number} could NOT be read: {verdict.problem}")
            else:
                say(f"archive {number} is NOT valid: {verdict.problem}")
        if not verdicts:
            say("nothing was archived")
    if not all(verdict.valid for verdict in verdicts):
        raise click.exceptions.Exit(1)


@archive.command()
@click.argument("run_id", metavar="RUN")
@click.argument("path", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--no-personal-data", is_flag=True, help="Leave out the key to the contact's data.")
@force_option
@pass_session
def export(
    session: Session, /, run_id: str, path: Path, no_personal_data: bool, force: bool
) -> None:
    """Write RUN, archived or not, to FILE, for `dee runs import` into a scratch database.

    There it is looked at, replayed and explained like any other.
    """
    with session.engine() as engine:
        write_run(engine, run_id, path, not no_personal_data, force, session.actor)
