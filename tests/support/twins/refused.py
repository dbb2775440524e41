"""Calls with a value that is refused, one at a time: what is told is the same at every door."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from tests.support.twins.told import Told

NAIVE: Final = datetime(2026, 1, 1)
BAD_IDS: Final = ("a b", "")


def refusals(told: Told, run: str) -> None:
    """Of runs, of the past, of contacts, of definitions and of the audit trail."""
    _of_runs(told, run)
    _of_the_past(told, run)
    _of_contacts(told, run)
    _of_definitions(told)
    _of_the_trail(told, run)


def _of_runs(told: Told, run: str) -> None:
    ask, plan = told.ask, told.api.get_plan("a")
    ask("pause_run", run, keep="none")
    ask("pause_run", "a b", keep="none")
    ask("resolve_step", run, "lost", reason="x")
    ask("resolve_step", run, "lost", reason=" ")
    ask("bulk_pause", {"plan_id": "a"}, "wait", keep="none")
    ask("bulk_pause", {"plan_id": "a"}, "wait", dry_run=1)
    ask("bulk_cancel", {"plan_id": "a"}, "wait", dry_run="yes")
    ask("bulk_resume", {"plan_id": "a"}, "wait", dry_run=None)
    ask("bulk_execute", plan, [], dry_run=1)
    ask("bulk_execute", plan, 5)
    ask("execute", plan, {"id": "c9"}, 5)
    for bad in BAD_IDS:
        ask("execute", plan, {"id": "c9"}, command_id=bad)
        ask("bulk_execute", plan, [{"id": "c9"}], command_id=bad)
        ask("bulk_cancel", {"plan_id": "a"}, "over", command_id=bad)
        ask("pause_run", run, command_id=bad)
        ask("cancel_run", run, "over", command_id=bad)
        ask("suppress", "c9", command_id=bad)
        ask("publish_plan", plan, command_id=bad)
        ask("publish_template", "x", text="x", command_id=bad)
        ask("place_hold", run_id=run, reason="x", command_id=bad)
        ask("ingest_event", "email.opened", "c1", command_id=bad)
    ask("list_runs", limit=True)
    ask("list_runs", limit="5")
    ask("place_hold", run_id="a b", reason="x")
    ask("lift_hold", "a b", "x")


def _of_the_past(told: Told, run: str) -> None:
    ask = told.ask
    for version in (0, -1, 99):
        ask("run_at", run, version=version)
        ask("diff_run", run, version, 2)
        ask("diff_run", run, 1, version)
        ask("replay", run, plan_version=version)
        ask("audit.get_context_at", run, "intro", visit=version)
    ask("run_at", run, tick=-1)
    ask("run_at", run, time=NAIVE)
    ask("run_at", run, version=1, tick=1)
    ask("replay", run, dry_run=1)
    ask("audit.get_context_at", run, "a b")
    ask("contact_at", "c1", tick=10**15)
    ask("contact_at", "c1", tick=1, time=told.api.get_run(run).started_at)
    ask("contact_at", "a b")
    ask("get_contact_logs", "a b")


def _of_contacts(told: Told, run: str) -> None:
    ask = told.ask
    for verb in ("suppress", "unsuppress"):
        ask(verb, "c9", level="none")
        ask(verb, "c9", level="channel", channel="fax")
        ask(verb, "c9", channel="email")
        ask(verb, "c9", plan_id="a")
        ask(verb, "c9", level="plan", plan_id="a b")
        ask(verb, "c9", level="plan")
        ask(verb, "a b")
        ask(verb, phone="12")
        ask(verb)
    ask("grant_consent", "c9", "fax")
    ask("grant_consent", "a b", "email")
    ask("grant_consent", "c9", "email", purpose="a b")
    ask("grant_consent", "c9", "email", expires_at=NAIVE)
    ask("grant_consent", "c9", "email", source=" ")
    ask("revoke_consent", "c9", "fax")
    ask("revoke_consent", "a b", "fax")
    ask("revoke_consent", "c9", "email", purpose="a b")
    ask("contact_id_for")
    ask("contact_id_for", email="nobody")
    ask("ingest_event", "email.opened", "a b")
    for field in ("event_id", "run_id", "step_id"):
        ask("ingest_event", "email.opened", "c1", **{field: "a b"})
    ask("ingest_event", "email.opened", "c1", occurred_at=NAIVE)
    ask("ingest_event", "email.opened", "c1", data=5)


def _of_definitions(told: Told) -> None:
    ask = told.ask
    for version in (0, -1, 99):
        ask("get_plan", "a", version)
        ask("step_funnel", "a", version)
        ask("get_definition", "template", "intro", version)
        ask("render_template", "intro", attributes={}, version=version)
    ask("list_definitions", "plan")
    ask("get_definition", "plan", "a")
    ask("get_definition", "template", "nosuch")
    ask("get_plan", "a b")
    ask("step_funnel", "a b")
    ask("render_template", "a b", attributes={})
    ask("render_template", "nosuch", attributes={})
    ask("render_template", "intro", contact_id="a b")
    ask("render_template", "intro")


def _of_the_trail(told: Told, run: str) -> None:
    ask = told.ask
    for limit in (0, -1, 10_001):
        ask("audit.query", run_id=run, limit=limit)
    for field in ("run_id", "contact_id", "plan_id"):
        ask("audit.query", **{field: "a b"})
    ask("audit.query", run_id=run, actor=" ")
    ask("audit.query", run_id=run, text=" ")
    ask("audit.query", run_id=run, since=NAIVE)
    ask("audit.query", run_id=run, cursor="x")
    ask("audit.query", run_id=run, actions=["nothing"])
    ask("audit.get_at", 0)
    ask("audit.get_at", 5, 1)
    ask("audit.get_at", 1, 5_000)
    ask("audit.prove", run, 0)
    ask("audit.prove", "", 1)
    ask("audit.consistency", -1, 1)
    ask("audit.consistency", 1, -1)
    ask("audit.consistency", 5, 1)
    ask("audit.verify_log", workers=0)
