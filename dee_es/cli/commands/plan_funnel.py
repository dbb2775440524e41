"""`dee plan funnel`: a plan's steps in numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from dee_es.cli.options import chosen_format, format_options
from dee_es.cli.output import Column, say, write_csv, write_json, write_table
from dee_es.cli.plan_file import split_reference
from dee_es.cli.session import Session, pass_session

if TYPE_CHECKING:
    from dee_es.engine.insights import FunnelStep

NUMBERS = ("entered", "sent", "skipped", "deferred", "failed", "exited", "in_progress")
_COLUMNS = (
    Column("VERSION", right=True),
    Column("STEP", 8),
    *(Column(name.upper().replace("_", " "), right=True) for name in NUMBERS),
)


@click.command()
@click.argument("reference", metavar="PLAN")
@click.option("--plan-version", type=click.IntRange(1), help="Of this version.  [default: of all]")
@click.option(
    "--reasons",
    is_flag=True,
    help="Say why visits were skipped, put off, or failed; --json always does.",
)
@format_options
@pass_session
def funnel(
    session: Session,
    /,
    reference: str,
    plan_version: int | None,
    reasons: bool,
    as_json: bool,
    as_csv: bool,
) -> None:
    """Show what became of every visit of every step of PLAN, by id (in all its versions) or
    id@version.

    ENTERED is always the sum of the others. SENT counts what did its job (a message that arrived,
    a wait that was over, a branch taken, an end reached), DEFERRED what a rule holds now, EXITED
    what was under way when its run ended otherwise. A loop enters a step several times.
    """
    shape = chosen_format(as_json, as_csv)
    plan_id, version = split_reference(reference)
    if version not in (None, plan_version or version):
        raise click.UsageError(
            f"{reference} and --plan-version {plan_version} name two versions; give one of them"
        )
    with session.engine() as engine:
        steps = engine.step_funnel(plan_id, version or plan_version)
    rows = [step.model_dump(mode="json", by_alias=True) for step in steps]
    if shape == "json":
        write_json({"planId": plan_id, "steps": rows, "total": len(rows)})
        return
    if shape == "csv":
        # A row stays a step, so that what a spreadsheet adds up stays true.
        split = [_counted(step) if reasons else {} for step in steps]
        added = sorted({name for counts in split for name in counts})
        header = ("planVersion", "stepId", *NUMBERS[:-1], "inProgress", *added)
        none = dict.fromkeys(added, 0)
        write_csv(header, [none | row | counts for row, counts in zip(rows, split, strict=True)])
        return
    write_table(
        _COLUMNS,
        [(s.plan_version, s.step_id, *(getattr(s, name) for name in NUMBERS)) for s in steps],
    )
    if reasons:
        for step in steps:
            for state, why in step.reasons.items():
                told = ", ".join(f"{reason} {n:,}" for reason, n in sorted(why.items()))
                say(f"{step.step_id}@{step.plan_version} {state.replace('_', ' ')}: {told}")


def _counted(step: FunnelStep) -> dict[str, int]:
    """The reasons of a step's visits as further columns: `failed: cannot be rendered`."""
    return {
        f"{state.replace('_', ' ')}: {reason}": number
        for state, numbers in step.reasons.items()
        for reason, number in numbers.items()
    }
