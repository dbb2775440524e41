"""`dee replay`: runs decided again from the log."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dee_es.cli.options import filter_options, json_option, run_filters
from dee_es.cli.output import Column, say, write_json, write_table
from dee_es.cli.progress import Progress
from dee_es.cli.session import Session, pass_session
from dee_es.cli.text import counted
from dee_es.errors import InvalidInput

if TYPE_CHECKING:
    from dee_es.bootstrap import Engine
    from dee_es.engine.past.replay_results import (
        Divergence,
        ReplayDiff,
        ReplayResult,
        ReplaySummary,
    )

_STEPS = (Column("STEP", 8), Column("THEN", 12), Column("NOW", 12), Column("SAME"))
_PARTS = {".txt": "text", ".html": "html"}


@click.command()
@click.argument("run_id", metavar="[RUN]", required=False)
@click.option("--all", "fleet", is_flag=True, help="All runs that match the filters.")
@click.option("--plan-version", type=click.IntRange(1), help="Under this version of its plan.")
@click.option("--plan-file", metavar="FILE", help="Under the plan in this file.")
@click.option(
    "--templates",
    metavar="DIR",
    help="With the templates in this folder, ID.txt and ID.html, in place of those it had.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    default=None,
    help="Processes that share the work of --all.  [default: as many as there are cores]",
)
@filter_options
@json_option
@pass_session
def replay(
    session: Session,
    /,
    run_id: str | None,
    fleet: bool,
    plan_version: int | None,
    plan_file: str | None,
    templates: str | None,
    workers: int | None,
    as_json: bool,
    **filters: Any,
) -> None:
    """Decide RUN again from its log, and compare event by event, field by field.

    Nothing is sent and nothing is written. With another plan or other templates it says what would
    have been different; what a channel would have said of a message that was never sent is not
    known, so it counts as delivered.

    Exits with 1 if anything differs, or if filters choose no run.
    """
    other = plan_version is not None or plan_file is not None or templates is not None
    if fleet == (run_id is not None):
        raise click.UsageError("name a RUN, or give --all")
    if fleet and other:
        raise click.UsageError("--all replays runs as they were; name a RUN for another plan")
    if plan_version is not None and plan_file is not None:
        raise click.UsageError("choose one of --plan-version and --plan-file")
    if not fleet and (workers is not None or any(filters.values())):
        raise click.UsageError("filters and --workers go with --all")
    with session.engine() as engine:
        if run_id is None:
            ok = _fleet(engine, workers or os.cpu_count() or 1, filters, as_json)
        else:
            plan, known = None, dict[str, Mapping[str, Any]]()
            if plan_file is not None:
                from dee_es.cli.plan_file import read_plan_file

                file = read_plan_file(plan_file)
                plan, known = file.plan, {**file.templates}
            if templates is not None:
                known |= _templates_in(templates)
            result = engine.replay(
                run_id, plan_version=plan_version, plan=plan, templates=known or None
            )
            ok = result.verdict != "different"
            _show(result, as_json)
    if not ok:
        raise click.exceptions.Exit(1)


def _templates_in(folder: str) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for path in sorted(Path(folder).iterdir()):
        part = _PARTS.get(path.suffix)
        if part is not None:
            try:
                text = path.read_bytes().decode("utf-8-sig")
            except UnicodeDecodeError:
                raise InvalidInput(str(path), "is not UTF-8 text") from None
            found.setdefault(path.stem, {})[part] = text
    if not found:
        raise InvalidInput(folder, "holds no templates: they are named ID.txt and ID.html")
    for name, parts in found.items():
        if "text" not in parts:
            raise InvalidInput(folder, f"holds {name}.html without {name}.txt")
    return found


def _show(result: ReplayResult, as_json: bool) -> None:
    if as_json:
        write_json(result.model_dump(mode="json", by_alias=True))
        return
    under = f" under {result.against}" if result.against is not None else ""
    if result.verdict == "identical":
        say(f"{result.run_id} is identical{under}: {counted(len(result.steps), 'step')}")
    elif result.verdict == "erased":
        say(f"{result.run_id}: its contact was erased; nothing differs, as far as it can be told.")
    else:
        say(f"{result.run_id} is DIFFERENT{under}:")
    same = {True: "yes", False: "erased" if result.verdict == "erased" else "NO"}
    write_table(
        _STEPS,
        [
            (step.id, step.original_result, step.replayed_result, same[step.identical])
            for step in result.steps
        ],
    )
    for diff in result.diffs:
        say(f"  {diff_line(diff)}")
    for diff in result.erased:
        say(f"  cannot be compared: {diff_line(diff)}")
    if result.assumed:
        say(f"taken as delivered, since nobody knows: {', '.join(result.assumed)}")


def diff_line(diff: ReplayDiff) -> str:
    """One difference for people."""
    step = f" step {diff.step}" if diff.step is not None else ""
    was = "nothing" if diff.expected is None else repr(diff.expected)
    now = "nothing" if diff.actual is None else repr(diff.actual)
    return f"entry {diff.version}{step}: {diff.field} was {was}, is now {now}"


def _fleet(engine: Engine, workers: int, given: dict[str, Any], as_json: bool) -> bool:
    filters = run_filters(now=engine.clock.time(engine.clock.now()), **given)
    total = engine.list_runs(limit=1, **filters).total
    found: list[Divergence] = []
    with Progress("Replaying runs", total) as progress:

        def diverged(divergence: Divergence) -> None:
            if as_json:
                found.append(divergence)
                return
            progress.clear()
            what = divergence.cause if divergence.diff is None else diff_line(divergence.diff)
            say(f"{divergence.run_id}: {what}")

        def went_on(summary: ReplaySummary) -> None:
            progress.update(summary.runs)

        summary = engine.replay_all(
            **filters, workers=workers, on_progress=went_on, on_divergence=diverged
        )
    ok = summary.ok
    if filters and not summary.runs:
        # A misspelt filter would have everything look well.
        click.echo("dee: no run matches the filters; nothing was replayed", err=True)
        ok = False
    if as_json:
        write_json({**_numbers(summary), "divergences": [_plain(each) for each in found]})
        return ok
    numbers = _numbers(summary)
    causes = numbers.pop("causes")
    say(", ".join(f"{name} {number:,}" for name, number in numbers.items()))
    for cause, number in causes.items():
        say(f"  {counted(number, 'run')}: {cause}")
    return ok


def _numbers(summary: ReplaySummary) -> dict[str, Any]:
    return {
        "runs": summary.runs,
        "events": summary.events,
        "identical": summary.identical,
        "different": summary.different,
        "erased": summary.erased,
        "unreadable": summary.unreadable,
        "causes": dict(summary.causes.most_common()),
    }


def _plain(divergence: Divergence) -> dict[str, Any]:
    diff = divergence.diff
    return {
        "runId": divergence.run_id,
        "cause": divergence.cause,
        "diff": None if diff is None else diff.model_dump(mode="json", by_alias=True),
    }
