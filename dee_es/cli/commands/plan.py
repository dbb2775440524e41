"""`dee plan`: validates plan files, publishes them, shows what is published."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from dee_es.cli.commands.plan_funnel import funnel
from dee_es.cli.options import chosen_format, format_options, json_option
from dee_es.cli.output import Column, plain, say, write_csv, write_json, write_table, write_yaml
from dee_es.cli.plan_file import PlanFile, publish_bundle, read_plan_file, split_reference
from dee_es.cli.session import Session, pass_session
from dee_es.cli.text import counted
from dee_es.core.views import RunStatus
from dee_es.errors import PlanNotFound, PlanValidationError

if TYPE_CHECKING:
    from dee_es.bootstrap import Engine


@click.group()
def plan() -> None:
    """Validate, publish and show plans, and what became of their runs."""


plan.add_command(funnel)


@plan.command()
@click.argument("file", metavar="FILE")
@json_option
def validate(file: str, as_json: bool) -> None:
    """Check a plan FILE in YAML or JSON, and what it holds beside the plan.

    Needs no database. Lists every fault with its step and a remedy, and exits with 1 if there is
    any.
    """
    try:
        read = read_plan_file(file)
        read.require_renderable()
    except PlanValidationError as error:
        if not as_json:
            raise
        write_json({"valid": False, "planId": error.plan_id, "faults": plain(error.faults)})
        raise click.exceptions.Exit(1) from None
    if as_json:
        write_json({"valid": True, "planId": read.plan.id, "faults": []})
        return
    say(f"plan {read.plan.id!r} is valid: {len(read.plan.steps)} steps{_beside(read)}")
    for fault in read.missing():
        # Not a fault of the file: somebody may have published it by itself.
        say(f"  note: {fault.problem.replace('is not published', 'is not in this file')}; "
            f"step {fault.step_id!r} needs it published before the plan")  # fmt: skip


def _beside(file: PlanFile) -> str:
    parts = [
        counted(len(entries), name)
        for name, entries in (("template", file.templates), ("script", file.scripts))
        if entries
    ]
    if file.sender is not None:
        parts.append("a sender")
    if file.policy is not None:
        parts.append("a policy")
    return f", with {', '.join(parts)}" if parts else ""


@plan.command()
@click.argument("file", metavar="FILE")
@json_option
@pass_session
def publish(session: Session, file: str, as_json: bool) -> None:
    """Publish the plan in FILE; its templates, scripts, sender and policy first.

    What equals its latest version stays at that version. Runs that are there keep the version they
    began with, paused ones too.
    """
    read = read_plan_file(file)
    with session.engine() as engine:
        read.require_publishable(engine)
        done = publish_bundle(engine, read)
        before = _latest(engine, read.plan.id)
        published = engine.publish_plan(read.plan)
        counts = engine.count_runs(plan_id=published.id) if published.version > before else {}
    if as_json:
        bundle = [plain(each) for each in done]
        write_json({"planId": published.id, "version": published.version, "bundle": bundle})
        return
    for each in done:
        state = "unchanged" if each.unchanged else "published"
        say(f"{each.kind} {each.id} {state}: version {each.version}")
    say(f"plan {published.id}: version {published.version}")
    if going := sum(count for status, count in counts.items() if not RunStatus(status).ended):
        say(_kept(going, published.version))


def _latest(engine: Engine, plan_id: str) -> int:
    try:
        return engine.get_plan(plan_id).version
    except PlanNotFound:
        return 0


def _kept(runs: int, version: int) -> str:
    told = (
        "that has not ended goes on by the version it began with"
        if runs == 1
        else "that have not ended go on by the version they began with"
    )
    return (
        f"  note: {counted(runs, 'run')} of it {told}; version {version} is for runs that begin "
        "from now on"
    )


@plan.command("list")
@format_options
@pass_session
def list_plans(session: Session, as_json: bool, as_csv: bool) -> None:
    """List all published plans, each in its latest version."""
    shape = chosen_format(as_json, as_csv)
    with session.engine() as engine:
        plans = engine.list_plans()
    rows: list[dict[str, Any]] = [
        {
            "id": each.id,
            "version": each.version,
            "name": each.name,
            "steps": len(each.steps),
            "reenroll": each.reenroll,
        }
        for each in plans
    ]
    if shape == "json":
        write_json({"plans": rows, "total": len(rows)})
    elif shape == "csv":
        write_csv(["id", "version", "name", "steps", "reenroll"], rows)
    else:
        columns = [Column("PLAN"), Column("VERSION", right=True), Column("NAME", 10),
                   Column("STEPS", right=True), Column("REENROLL")]  # fmt: skip
        write_table(columns, [list(row.values()) for row in rows])
        say(counted(len(rows), "plan"))


@plan.command()
@click.argument("reference", metavar="PLAN")
@json_option
@pass_session
def show(session: Session, reference: str, as_json: bool) -> None:
    """Show a published PLAN, by id or id@version, as a YAML file that can be published again."""
    plan_id, version = split_reference(reference)
    with session.engine() as engine:
        found = engine.get_plan(plan_id, version)
    if as_json:
        write_json({"version": found.version, **found.definition()})
    else:
        write_yaml(f"plan {found.id}, version {found.version}", found.definition())
