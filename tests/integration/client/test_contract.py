"""One scenario, told once to an engine and once to a `DeeClient`: the same answers, field by field,
and the same errors with the same texts."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final

import pytest

from dee_es import ChannelEvent, Contact, Engine, RunStatus, create_plan, steps
from dee_es.client import DeeClient
from dee_es.engine.auditing.manager import Audit
from dee_es.engine.compliance.manager import Compliance
from dee_es.engine.projecting.manager import Projections
from tests.integration.client.test_signatures import PAIRS, methods
from tests.support.engines import ACTOR, EPOCH, open_engine, outreach, publish_basics
from tests.support.storage.postgres import new_database
from tests.support.twins.evidence import (
    ARCHIVES,
    archives,
    evidence,
    projections,
    suppositions,
)
from tests.support.twins.refused import refusals
from tests.support.twins.tellings import NEXT, files, fleet, holds, lists, rules, stepping
from tests.support.twins.told import Told, plain
from tests.support.web.application import SETTINGS
from tests.support.web.listening import listening


def definitions(told: Told) -> None:
    """Plans and templates."""
    ask = told.ask
    ask("publish_template", "greeting", text="Hello {{contact.firstName}}", html="<p>Hi</p>")
    ask("publish_template", "greeting", text="Hello {{contact.firstName}}", html="<p>Hi</p>")
    ask("publish_template", "broken", text="Hello {{contact.")
    ask("publish_template", "a b", text="Hello")
    ask("list_definitions", "template")
    ask("get_definition", "template", "greeting")
    ask("get_definition", "template", "intro", 1)
    for given in ({"attributes": {"firstName": "Ada"}}, {"attributes": {}}, {}):
        ask("render_template", "greeting", subject="To {{contact.firstName}}", **given)
    ask("publish_plan", outreach("a"))
    ask("publish_plan", outreach("a", metadata={"owner": "x", "n": [1, None]}))
    ask("publish_plan", outreach("a", name="Other"))
    ask("publish_plan", create_plan(id="x", name="X", steps=[steps.send_email("m", "no", "S")]))
    for version in (None, 1, 2, 9):
        ask("get_plan", "a", version)
    ask("get_plan", "nothing")
    ask("list_plans")
    ask("plan_ids")


def runs(told: Told) -> str:
    """The Runs page, one run at a time."""
    ask, api = told.ask, told.api
    plan = api.get_plan("a")
    person = {
        "id": "c1",
        "email": "ada@example.com",
        "firstName": "Ada",
        "n": 2.5,
        "deep": {"x": [1]},
    }
    run = ask("execute", plan, person, {"offer": [1, None, "x"]}).id
    ask("execute", plan, person)
    ask("execute", plan, {"id": "c2", "email": "nobody"})
    ask("execute", plan, {"id": "c 2"})
    ask("execute", plan, {"email": "x@example.com"})
    ask("execute", plan, {"id": "c2"}, {"x": float("nan")})
    ask("execute", plan, {"id": "c2"}, start_at=datetime(2026, 2, 1))
    ask("execute", plan, {"id": "c2"}, start_at=datetime(2025, 1, 1, tzinfo=UTC))
    ask("execute", plan, 5)
    ask("execute", 5, person)
    later = datetime(2026, 1, 3, tzinfo=timezone(timedelta(hours=2)))
    ask("execute", plan, Contact(id="c3", timezone="Asia/Kolkata", firstName="Bo"), start_at=later)
    told.tick()
    ask("get_run", run)
    ask("get_run", "run_none")
    for bad in ("a b", "../runs", "x" * 129, "", "é"):
        ask("get_run", bad)
    ask("pause_run", run, "on holiday", keep="remaining")
    ask("pause_run", run)
    ask("resume_run", run)
    ask("retry_run", run, "again")
    ask("resolve_step", run, "delivered", reason="seen")
    ask("cancel_run", run, " ")
    ask("list_runs")
    ask("list_runs", ["waiting", RunStatus.PENDING], "a", "c1", EPOCH, NEXT, 5)
    ask("list_runs", status="cancelled", limit=1, offset=1)
    ask("list_runs", limit=10_000)
    ask("count_runs")
    ask("count_runs", "a", "c1", EPOCH, NEXT)
    ask("count_runs", started_before=datetime(2026, 1, 1))
    for fault in ({"status": "gone"}, {"status": []}, {"limit": 0}, {"limit": 10_001},
                  {"offset": -1}, {"started_after": datetime(2026, 1, 1)}, {"cursor": "x"},
                  {"cursor": "x", "offset": 1}):  # fmt: skip
        ask("list_runs", **fault)
    return str(run)


def history(told: Told, run: str) -> None:
    """A run's past, and the audit trail."""
    ask = told.ask
    for what in ("get_timeline", "get_logs", "explain", "replay", "verify_audit_chain"):
        ask(what, run)
        ask(what, "run_none")
    ask("run_at", run, version=2)
    ask("run_at", run, tick=0)
    ask("run_at", run, time=NEXT)
    ask("run_at", run)
    ask("run_at", run, version=99)
    ask("run_at", run, time=datetime(2020, 1, 1, tzinfo=UTC))
    ask("diff_run", run, 1, 4)
    ask("diff_run", run, 4, 1)
    ask("replay", run, plan_version=1)
    ask("replay", run, plan_version=7)
    ask("audit.get_by_run", run)
    ask("audit.get_context_at", run, "intro")
    ask("audit.get_context_at", run, "nowhere")
    ask("audit.query", run_id=run, limit=3)
    ask("audit.query", actions=["run.started"], since=EPOCH, until=NEXT, text="holiday")
    ask("audit.query", plan_id="a", actor=ACTOR)
    ask("audit.query", run_id=run, actions="run.started")
    ask("audit.query", run_id=run, actions=[])
    ask("audit.verify_run", run)
    ask("step_funnel", "a")
    ask("step_funnel", "a", 1)
    ask("step_funnel", "none")


def contacts(told: Told) -> None:
    """Suppression, consent, channel events, erasure."""
    ask, api = told.ask, told.api
    ask("suppress", "s1", reason="asked")
    ask("suppress", "s1")
    ask("suppress", email="bob@example.com", phone="+15550100", level="regulatory")
    ask("suppress", "s2", level="channel", channel="voice")
    ask("suppress", "s2", level="channel")
    ask("suppress", email="nobody")
    ask("suppress")
    ask("execute", api.get_plan("a"), {"id": "s1"})
    ask("unsuppress", "s1")
    run = ask("execute", api.get_plan("a"), {"id": "s1", "email": "s1@example.com"}).id
    ask("grant_consent", "s1", "email", purpose="news", expires_at=NEXT, source="form")
    ask("grant_consent", "s1", "email", purpose="news", expires_at=NEXT, source="form")
    ask("revoke_consent", "s1", "email", purpose="news", reason="asked")
    ask("ingest_event", "email.opened", "s1", event_id="o1", data={"ip": "x"}, occurred_at=EPOCH)
    ask("ingest_event", "email.opened", "s1", event_id="o1")
    ask("ingest_event", "email.read", "s1")
    faults: list[tuple[int, str, str]] = []
    events = [
        ChannelEvent("email.clicked", run_id=run, event_id="e1"),
        ChannelEvent("email.clicked", "s1", data={"url": "https://example.com"}),
        ChannelEvent("email.clicked", run_id=run, event_id="e1"),
        ChannelEvent("email.seen", "s1"),
        ChannelEvent("email.opened"),
        ChannelEvent("email.opened", "a b"),
        ChannelEvent("email.opened", "c1", run_id=run),
        ChannelEvent("email.opened", run_id="run_none"),
        ChannelEvent("email.opened", "s1", occurred_at=datetime(2026, 1, 1)),
        ChannelEvent("email.opened", "s1", event_id="not an id"),
        ChannelEvent("email.opened", "s1", data={"x": float("inf")}),
    ]
    ask(
        "ingest_events",
        events,
        on_error=lambda n, error: faults.append((n, type(error).__name__, str(error))),
    )
    told.answers.append(("faults", sorted(faults)))
    ask("ingest_events", events[:1], batch_size=0)
    grown = [ChannelEvent("email.opened", "s1", data={"n": n}) for n in range(3)]
    for count in (1, 3):
        ask("ingest_events", grown[:count], batch_size=2, command_id="grown")
    for moment in ({}, {"tick": 0}, {"time": NEXT}, {"time": datetime(2026, 1, 1)}):
        ask("contact_at", "s1", **moment)
    ask("contact_at", "s1", time=datetime(2020, 1, 1, tzinfo=UTC))
    ask("contact_at", "nobody")
    ask("get_contact_logs", "s1")
    ask("explain_contact", "s1", "a")
    ask("explain_contact", "nobody")
    ask("erase_contact", "s1", " ")
    ask("erase_contact", "s1", "asked")
    ask("erase_contact", "nobody", "asked")
    ask("get_run", run)
    ask("replay", run)


def bulk(told: Told) -> None:
    """Many runs at once."""
    ask, api = told.ask, told.api
    plan = api.get_plan("a")
    given: list[Any] = [{"id": f"b{n}", "email": f"b{n}@example.com", "n": n} for n in range(60)]
    odd: list[Any] = [
        {"id": "x y"}, 5, {"id": "b99", "email": "no"}, {}, {"id": "c1"},
        {"id": "b98", "n": {1: 2}},
        {"id": "b97", "email": "bob@example.com"}, {"id": 7}, {"id": "b96", "z": "x" * 300_000},
    ]  # fmt: skip
    for dry_run in (True, False, False):
        refused: list[Any] = []
        ask(
            "bulk_execute",
            plan,
            iter([*given, *odd]),
            {"v": 1},
            1_000,
            on_refusal=refused.append,
            dry_run=dry_run,
        )
        told.answers.append(("refused", plain(refused)))
    ask("bulk_execute", plan, iter([{"id": "t1"}, {"id": "t1"}, {"id": "t1"}]), batch_size=1)
    ask("bulk_execute", plan, {"id": "c1"})
    ask("bulk_execute", plan, [], batch_size=0)
    ask("bulk_execute", plan, [])
    filters = {"plan_id": "a", "status": ["pending", "active"], "startedAfter": EPOCH}
    ask("bulk_pause", filters, "wait", dry_run=True)
    ask("bulk_pause", filters, "wait", keep="remaining")
    ask("bulk_resume", {"planId": "a", "status": "paused"}, "go", per_tick=7)
    ask("bulk_retry", {"planId": "a", "status": "failed"}, "again", dry_run=True)
    ask("bulk_retry", {"planId": "a"}, "again", per_tick=7)
    ask("bulk_cancel", plan_id="a", status="pending", reason="over")
    for fault in ({"filters": {}, "reason": "all"}, {"filters": {"plan": "a"}, "reason": "x"},
                  {"plan_id": "a", "reason": " "}, {"filters": [], "reason": "x"},
                  {"status": "gone", "reason": "x"}):  # fmt: skip
        ask("bulk_cancel", **fault)
    ask("bulk_resume", {"plan_id": "a"}, "go", per_tick=0)
    ask("bulk_retry", {"plan_id": "a"}, "again", per_tick=0)
    ask("list_runs", plan_id="a", limit=1_000)


def whole(told: Told) -> None:
    """The log, projections, health."""
    ask = told.ask
    ask("verify_log")
    ask("projections.status")
    ask("projections.parked")
    ask("projections.rebuild", "run_list")
    ask("projections.verify", "audit_trail")
    ask("projections.catch_up", "run_list", within_s=math.inf)
    ask("projections.retry", "run_list")
    ask("projections.retry", "run_list", "run_nobody")
    ask("audit.checkpoint")
    ask("health")
    ask("metrics")


def tell(told: Told) -> list[tuple[str, Any]]:
    """The whole scenario."""
    definitions(told)
    rules(told)
    run = runs(told)
    history(told, run)
    stepping(told, run)
    contacts(told)
    lists(told)
    holds(told, run)
    bulk(told)
    fleet(told)
    files(told, run)
    suppositions(told, run)
    evidence(told, run)
    projections(told, run)
    archives(told)
    refusals(told, run)
    whole(told)
    return told.answers


@pytest.fixture(scope="module", params=["memory", "postgres"])
def told(
    request: pytest.FixtureRequest,
) -> Iterator[tuple[list[tuple[str, Any]], list[tuple[str, Any]]]]:
    """The answers of an engine, and those of a client of its twin."""
    settings = dataclasses.replace(SETTINGS, local_actor=ACTOR, archive_places=(ARCHIVES,))
    with ExitStack() as stack:

        def opened() -> Engine:
            database = ":memory:"
            if request.param == "postgres":
                server = request.getfixturevalue("postgres_url")
                database = stack.enter_context(new_database(server))
            engine = stack.enter_context(open_engine(database, seed="contract"))
            publish_basics(engine)
            return engine

        engine = opened()
        direct = tell(Told(engine, engine.tick))
        twin = opened()
        url = stack.enter_context(listening(twin, settings))
        client = stack.enter_context(DeeClient(url))
        yield direct, tell(Told(client, twin.tick))


def test_every_answer_and_every_error_is_the_same(told: tuple[list[Any], list[Any]]) -> None:
    direct, remote = told
    assert len(direct) == len(remote) > 430
    different = [
        (number, ours, theirs)
        for number, (ours, theirs) in enumerate(zip(direct, remote, strict=True))
        if ours != theirs
    ]
    assert different == [], len(different)


NAMED: Final = {Engine: "", Audit: "audit.", Compliance: "compliance.", Projections: "projections."}


@pytest.mark.parametrize("engine, client", [pair for pair in PAIRS if pair[0] in NAMED])
def test_every_method_of_the_client_was_asked(
    told: tuple[list[Any], list[Any]], engine: type[Any], client: type[Any]
) -> None:
    _, remote = told
    asked = {name for name, _ in remote}
    called = {name for name, member in methods(client).items() if callable(member)}
    unasked = {name for name in called if NAMED[engine] + name not in asked}
    assert unasked == ({"close"} if client is DeeClient else set())
