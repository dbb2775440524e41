"""`dee projections`: how they stand, and rebuilding them while everybody goes on working."""

from __future__ import annotations

from contextlib import suppress
from datetime import tzinfo
from typing import TYPE_CHECKING, Any

import click

from dee_es.cli.options import chosen_format, dry_run_option, format_options, json_option
from dee_es.cli.output import Column, say, write_csv, write_fields, write_json, write_table
from dee_es.cli.progress import Progress
from dee_es.cli.session import Session, pass_session
from dee_es.cli.text import counted
from dee_es.cli.times import local, span, zone_option

if TYPE_CHECKING:
    from dee_es.bootstrap import Engine
    from dee_es.engine.projecting.models import ProjectionStatus, RebuildProgress, Rebuilt

_STATUS = (
    Column("NAME", 8),
    Column("VERSION", right=True),
    Column("POSITION", right=True),
    Column("LAG", right=True),
    Column("ROWS", right=True),
    Column("SIZE", right=True),
    Column("PARKED", right=True),
    Column("LAST REBUILD", 12),
)
_PARKED = (
    Column("PROJECTION", 8),
    Column("STREAM", 12),
    Column("ENTRY", right=True),
    Column("POSITION", right=True),
    Column("EVENT", 8),
    Column("HELD BACK", right=True),
    Column("ERROR", 12),
)
_CSV = (
    "name", "version", "wanted", "read", "position", "lagEvents", "lagSeconds", "rows",
    "rowsExact", "bytes", "parked", "advice",
)  # fmt: skip
_PHASES = {
    "reading": "Folding events",
    "indexing": "Making indexes",
    "catching up": "Catching up what is served",
    "comparing": "Comparing rows",
    "swapping": "Swapping",
}
_SHORT_S = 10
_throttle_option = click.option(
    "--throttle",
    type=click.IntRange(1, 100),
    default=100,
    metavar="PERCENT",
    help="Work this much of the time only, in short pieces, so that others are hardly held up.",
)
_page_option = click.option(
    "--page",
    type=click.IntRange(1, 100_000),
    default=5_000,
    show_default=True,
    help="Events folded in one transaction, at most.",
)


@click.group()
def projections() -> None:
    """Show, rebuild, verify and mend the projections: run list, audit trail and the others."""


@projections.command()
@click.option("--count", is_flag=True, help="Count rows and bytes, which takes a while if many.")
@zone_option
@format_options
@pass_session
def status(session: Session, count: bool, zone: tzinfo, as_json: bool, as_csv: bool) -> None:
    """Show version, position, lag and size of each projection, and what is parked.

    Rows are told by the number of runs, as about so many where a projection is behind. A lag is no
    fault: a projection is caught up by the query that needs it. A parked stream is one whose event
    could not be folded; the others go on.
    """
    shape = chosen_format(as_json, as_csv)
    with session.engine() as engine:
        found = engine.projections.status(count)
        parked = engine.projections.parked()
    rows = [each.model_dump(mode="json", by_alias=True) for each in found]
    if shape == "csv":
        write_csv(_CSV, rows)
        return
    if shape == "json":
        held = [each.model_dump(mode="json", by_alias=True) for each in parked]
        write_json({"projections": rows, "parked": held})
        return
    write_table(_STATUS, [_row(each, zone) for each in found])
    if not count and any(not each.rows_exact or each.bytes is None for each in found):
        say("rows that are about so many, and sizes, are counted by --count")
    for each in found:
        for other in each.others:
            number = f" (build {other.number})" if other.number > 1 else ""
            at = f"{other.state}, at position {other.position:,}"
            say(f"{each.name} version {other.version}{number}: {at}")
    for each in found:
        if each.advice is not None:
            say(f"{each.name}: {each.advice}")
    if parked:
        say()
        write_table(
            _PARKED,
            [(p.name, p.stream_id, p.entry, p.position, p.event, p.held_back, p.error)
             for p in parked],
        )  # fmt: skip


def _row(each: ProjectionStatus, zone: tzinfo) -> tuple[str | int | None, ...]:
    lag = "0"
    if each.lag_events:
        lag = f"{each.lag_events:,} ({_seconds(each.lag_seconds)})"
    last = each.last_rebuild
    rebuilt = None
    if last is not None:
        took = f"{_seconds(last.seconds)}, {last.rate:,.0f} events/s"
        rebuilt = (
            f"{local(last.finished.replace(microsecond=0), zone)}, {took}"
            if last.finished is not None
            else "not finished"
        )
    version = str(each.version)
    if each.wanted != each.version:
        version += f" (code: {each.wanted})"
    size = None if each.bytes is None else _bytes(each.bytes)
    rows = f"{each.rows:,}" if each.rows_exact else f"about {each.rows:,}"
    return each.name, version, each.position, lag, rows, size, each.parked, rebuilt


@projections.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@_throttle_option
@_page_option
@click.option("--run", "run_id", metavar="RUN", help="Only make the rows of this run anew.")
@click.option("--contact", "contact_id", metavar="ID", help="Only those of this contact.")
@click.option(
    "--accept", is_flag=True, help="Swap although something differs that was not declared."
)
@click.option("--no-compare", is_flag=True, help="Swap without comparing.")
@click.option("--restart", is_flag=True, help="Begin anew instead of going on where one broke off.")
@dry_run_option
@json_option
@pass_session
def rebuild(
    session: Session,
    /,
    names: tuple[str, ...],
    throttle: int,
    page: int,
    run_id: str | None,
    contact_id: str | None,
    accept: bool,
    no_compare: bool,
    restart: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Build NAME anew beside the live tables, compare, and swap.

    Reads and writes go on meanwhile: readers see the old version whole until one transaction puts
    the new one in its place. Nothing is ever sent. A rebuild that was interrupted, even by kill -9,
    goes on where it was when it is called again. If rows differ that the code does not declare to
    differ, it stops before the swap and shows some of them.

    The former version is kept until `dee projections drop NAME`.
    """
    partly = run_id is not None or contact_id is not None
    if partly and (dry_run or accept or no_compare or restart):
        raise click.UsageError("--run and --contact go with no other option")
    if run_id is not None and contact_id is not None:
        raise click.UsageError("choose one of --run and --contact")
    answers: list[Any] = []
    with session.engine() as engine:
        for name in names:
            if dry_run:
                answers.append(_estimate(engine, name, throttle, quiet=as_json))
            elif partly:
                answers.append(_refold(engine, name, run_id, contact_id, quiet=as_json))
            else:
                options = {"compare": not no_compare, "accept": accept, "restart": restart}
                answers.append(_rebuild(engine, name, page, throttle, options, quiet=as_json))
    if as_json:
        write_json([each.model_dump(mode="json", by_alias=True) for each in answers])


def _rebuild(
    engine: Engine, name: str, page: int, throttle: int, options: dict[str, bool], *, quiet: bool
) -> Rebuilt:
    with _Phases() as phases:
        done = engine.projections.rebuild(
            name, page=page, throttle=throttle / 100, on_progress=phases.tell, **options
        )
    if not quiet:
        _tell_rebuilt(name, done)
    return done


def _tell_rebuilt(name: str, done: Rebuilt) -> None:
    compared = "not compared"
    if done.comparison is not None:
        differences = done.comparison.differences
        compared = counted(differences, "difference") if differences else "compared"
        compared += f", digest {done.digest[:16]}"
    resumed = f", went on at {done.resumed_at:,}" if done.resumed_at else ""
    say(
        f"{name} version {done.version}: {counted(done.events, 'event')} into "
        f"{counted(done.rows, 'row')} in {_seconds(done.seconds)} "
        f"({done.rate:,.0f} events/s{resumed}); {compared}; it is served now, and the "
        f"former table (version {done.former_version}) kept until `dee projections drop {name}`"
    )


def _estimate(engine: Engine, name: str, throttle: int, *, quiet: bool) -> Any:
    found = engine.projections.estimate(name)
    if not quiet:
        how = "as in the last rebuild" if found.measured else "guessed from a sample"
        aside = "" if found.measured else ", comparison aside"
        aside += "" if throttle == 100 else f", at work {throttle}% of it"
        lag = None
        if found.served_lag:
            lag = f"{found.served_lag:,} events, folded first if it is compared with"
        write_fields(
            [
                ("projection", name),
                ("version", f"{found.version} (served: {found.served_version})"),
                ("events to fold", found.events),
                *([("goes on at", found.resumes_at)] if found.resumes_at else []),
                *([("served lacks", lag)] if lag else []),
                ("rows", None if found.rows is None else f"about {found.rows:,}"),
                ("room", None if found.bytes is None else f"about {_bytes(found.bytes)}"),
                ("rate", f"{found.rate:,.0f} events/s, {how}"),
                ("time", f"about {_seconds(found.seconds * 100 / throttle)}{aside}"),
            ]
        )
    return found


def _refold(
    engine: Engine, name: str, run_id: str | None, contact_id: str | None, *, quiet: bool
) -> Any:
    done = engine.projections.refold(name, run_id=run_id, contact_id=contact_id)
    if not quiet:
        left = f"; {counted(done.parked, 'stream')} cannot be folded" if done.parked else ""
        say(f"{name}: made the rows of {counted(done.streams, 'stream')} anew{left}")
    return done


@projections.command()
@click.argument("names", metavar="[NAME...]", nargs=-1)
@_throttle_option
@_page_option
@json_option
@pass_session
def verify(
    session: Session, names: tuple[str, ...], throttle: int, page: int, as_json: bool
) -> None:
    """Fold the log anew beside the live tables and compare them; all of them by default.

    Exits with 1 if a live table is not what the log says. Nothing live is changed:
    `dee projections rebuild NAME --accept` puts right what has drifted.
    """
    found = []
    with session.engine() as engine:
        for name in names or engine.projections.names:
            with _Phases() as phases:
                done = engine.projections.verify(
                    name, page=page, throttle=throttle / 100, on_progress=phases.tell
                )
            found.append(done)
            if as_json:
                continue
            told = done.comparison
            parked = (
                f", {counted(told.left_out, 'parked stream')} left out" if told.left_out else ""
            )
            at = f"{counted(told.rows, 'row')} at position {told.position:,}{parked}"
            if done.ok:
                say(f"{name} version {done.version} is what the log says: {at}, digest "
                    f"{told.digest_new[:16]}")  # fmt: skip
            else:
                say(f"{name} version {done.version} has DRIFTED: "
                    f"{counted(told.differences, 'difference')} in {at}")  # fmt: skip
                for each in told.samples:
                    say(f"  - {each.told}")
                say(f"`dee projections rebuild {name} --accept` makes it anew from the log")
    if as_json:
        write_json([each.model_dump(mode="json", by_alias=True) for each in found])
    if not all(each.ok for each in found):
        raise click.exceptions.Exit(1)


@projections.command()
@click.argument("names", metavar="[NAME...]", nargs=-1)
@click.option("--stream", metavar="ID", help="Only this run or other stream.")
@json_option
@pass_session
def retry(session: Session, names: tuple[str, ...], stream: str | None, as_json: bool) -> None:
    """Fold parked streams again, in order, after the fault was mended; of all by default.

    Exits with 1 if some are parked still.
    """
    if stream is not None and len(names) != 1:
        raise click.UsageError("--stream goes with one NAME")
    answers = {}
    with session.engine() as engine:
        for name in names or engine.projections.names:
            answers[name] = engine.projections.retry(name, stream)
    if as_json:
        write_json({n: each.model_dump(mode="json", by_alias=True) for n, each in answers.items()})
    else:
        for name, done in answers.items():
            if done.streams or done.parked:
                left = f", {counted(done.parked, 'stream')} still parked" if done.parked else ""
                say(f"{name}: folded {counted(done.streams, 'stream')}{left}")
        if not any(done.streams or done.parked for done in answers.values()):
            say("nothing is parked")
    if any(done.parked for done in answers.values()):
        raise click.exceptions.Exit(1)


@projections.command()
@click.argument("name")
@click.option("--version", type=click.IntRange(1), help="Only this version.  [default: all]")
@json_option
@pass_session
def drop(session: Session, name: str, version: int | None, as_json: bool) -> None:
    """Drop what NAME keeps beside what it serves: former versions, and rebuilds broken off.

    Code of a former version can no longer read the projection then.
    """
    with session.engine() as engine:
        gone = engine.projections.drop(name, version)
    if as_json:
        write_json({"dropped": list(gone)})
    else:
        say(f"dropped {', '.join(gone)}")


class _Phases:
    """One line of progress for each phase of a rebuild."""

    def __init__(self) -> None:
        self._phase: str | None = None
        self._line: Progress | None = None

    def tell(self, progress: RebuildProgress) -> None:
        """Show how far it is."""
        if progress.phase != self._phase or self._line is None:
            self._clear()
            self._phase = progress.phase
            what = f"{progress.name} version {progress.version}: {_PHASES[progress.phase]}"
            # What was done before is no part of the rate; an index may take long, and be the first.
            slow = progress.phase == "indexing"
            self._line = Progress(what, progress.total, start=progress.done, at_once=slow)
        # The log grows meanwhile.
        self._line.total = progress.total
        self._line.update(progress.done, progress.done / max(progress.total, 1))

    def _clear(self) -> None:
        if self._line is not None:
            with suppress(BrokenPipeError):
                self._line.clear()

    def __enter__(self) -> _Phases:
        return self

    def __exit__(self, *_: object) -> None:
        self._clear()


def _seconds(seconds: float) -> str:
    """`0.4s`, `12s`, `3m20s` or `2h5m`."""
    return f"{seconds:.1f}s" if seconds < _SHORT_S else span(seconds)


def _bytes(size: int) -> str:
    """`812 B`, `3.4 MiB`."""
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"
