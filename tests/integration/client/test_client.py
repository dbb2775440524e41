"""`DeeClient` against a server of its own: what it answers and raises is what an engine does."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from dee_es import Engine, create_plan, steps
from dee_es.adapters.channels.memory import MemoryChannel
from dee_es.client import ApiRefused, DeeClient
from dee_es.client.reading import read
from dee_es.client.transport import error_of
from dee_es.core.contact import Contact
from dee_es.engine.models import Refusal
from dee_es.engine.projecting.models import ProjectionStatus
from dee_es.errors import (
    AlreadyEnrolled,
    ContactSuppressed,
    EmptyFilter,
    InvalidInput,
    InvalidTransition,
    PlanNotFound,
    PlanValidationError,
    RunNotFound,
    StoreUnavailable,
)
from dee_es.ports import ChannelResult
from tests.support.engines import open_engine, outreach, publish_basics
from tests.support.web.application import with_users
from tests.support.web.listening import listening

PERSON = {"id": "c1", "email": "ada@example.com", "firstName": "Ada"}


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Engine, DeeClient]]:
    with open_engine(":memory:") as engine:
        publish_basics(engine)
        with listening(engine) as url, DeeClient(url) as client:
            yield engine, client


def test_what_it_answers_is_what_the_engine_answers(pair: tuple[Engine, DeeClient]) -> None:
    engine, client = pair
    plan = client.publish_plan(outreach("one"))
    assert plan == engine.get_plan("one")
    assert client.publish_template("greeting", text="Hello") == 1
    run = client.execute(plan, PERSON, {"n": [1, 2.5, None]})
    assert run == engine.get_run(run.id)
    engine.tick()
    assert client.get_run(run.id) == engine.get_run(run.id)
    now = datetime(2026, 1, 1, tzinfo=UTC)
    asked: dict[str, Any] = {"status": ["waiting", "active"], "started_after": now, "limit": 5}
    assert client.list_runs(**asked) == engine.list_runs(**asked)
    assert client.get_timeline(run.id) == engine.get_timeline(run.id)
    assert client.get_logs(run.id) == engine.get_logs(run.id)
    assert client.explain(run.id) == engine.explain(run.id)
    assert client.run_at(run.id, version=2) == engine.run_at(run.id, version=2)
    assert client.run_at(run.id, time=now) == engine.run_at(run.id, time=now)
    assert client.diff_run(run.id, 1, 3) == engine.diff_run(run.id, 1, 3)
    assert client.replay(run.id) == engine.replay(run.id)
    assert client.verify_audit_chain(run.id) == engine.verify_audit_chain(run.id)
    assert client.verify_log() == engine.verify_log()
    assert client.list_plans() == engine.list_plans()
    assert client.step_funnel("one") == engine.step_funnel("one")
    assert client.contact_at("c1") == engine.contact_at("c1")
    assert client.audit.query(run_id=run.id) == engine.audit.query(run_id=run.id)
    assert client.audit.get_by_run(run.id) == engine.audit.get_by_run(run.id)
    context = client.audit.get_context_at(run.id, "intro")
    assert context == engine.audit.get_context_at(run.id, "intro")
    assert client.health() == engine.health()
    assert client.metrics() == engine.metrics()
    assert client.projections.status() == engine.projections.status()
    assert client.projections.status(count=True) == engine.projections.status(count=True)
    assert client.projections.rebuild("run_list").rows == engine.list_runs().total
    assert client.projections.verify("run_list").ok
    content = client.audit.export(run.id, format="csv").content
    assert content is not None
    assert content.startswith(b"id,position,")


def test_the_lifecycle_and_its_errors(pair: tuple[Engine, DeeClient]) -> None:
    _, client = pair
    client.publish_plan(outreach("two"))
    run = client.execute("two", Contact(**{**PERSON, "id": "c2"})).id
    assert client.pause_run(run, "on holiday", "remaining").status == "paused"
    with pytest.raises(InvalidTransition) as moved:
        client.pause_run(run)
    assert (moved.value.run_id, moved.value.source, moved.value.target) == (
        run,
        "paused",
        "paused",
    )
    assert client.resume_run(run).status == "active"
    with pytest.raises(AlreadyEnrolled):
        client.execute("two", {**PERSON, "id": "c2"})
    assert client.cancel_run(run, "asked").status == "cancelled"
    with pytest.raises(InvalidInput) as blank:
        client.cancel_run(run, " ")
    assert (blank.value.field, "blank" in blank.value.problem) == ("reason", True)
    with pytest.raises(InvalidInput) as past:
        client.execute("two", {"id": "c3"}, start_at=datetime(2025, 1, 1, tzinfo=UTC))
    assert past.value.field == "start_at"
    with pytest.raises(RunNotFound):
        client.get_run("run_none")
    with pytest.raises(PlanNotFound):
        client.get_plan("none")
    unpublished = create_plan(
        id="three", name="Three", steps=[steps.send_email("mail", "nowhere", "Hello")]
    )
    with pytest.raises(PlanValidationError) as faulty:
        client.publish_plan(unpublished)
    assert (faulty.value.plan_id, faulty.value.faults[0].step_id) == ("three", "mail")
    with pytest.raises(InvalidTransition):
        client.retry_run(run, "again")
    with pytest.raises(InvalidTransition):
        client.resolve_step(run, "delivered", reason="seen")


def test_contacts_and_events(pair: tuple[Engine, DeeClient]) -> None:
    engine, client = pair
    assert client.suppress("s1", reason="asked") is True
    assert client.suppress("s1") is False
    client.publish_plan(outreach("four"))
    with pytest.raises(ContactSuppressed):
        client.execute("four", {"id": "s1"})
    assert client.unsuppress("s1") is True
    run = client.execute("four", {**PERSON, "id": "s1"})
    expires = datetime(2027, 1, 1, tzinfo=UTC)
    assert client.grant_consent("s1", "email", purpose="news", expires_at=expires)
    assert engine.contact_at("s1").consents == {"email:news": "granted"}
    assert client.revoke_consent("s1", "email", purpose="news")
    assert client.ingest_event("email.opened", run_id=run.id, event_id="o1")
    assert not client.ingest_event("email.opened", run_id=run.id, event_id="o1")
    erased = client.erase_contact("s1", "asked")
    assert (erased.cancelled, erased.key_destroyed) == ((run.id,), True)


def test_many_runs(pair: tuple[Engine, DeeClient]) -> None:
    engine, client = pair
    client.publish_plan(outreach("five"))
    given = [{"id": f"m{n}", "email": f"m{n}@example.com"} for n in range(1_200)]
    told: list[Refusal] = []
    done: list[int] = []
    result = client.bulk_execute(
        "five",
        (each for each in [*given, {"id": "m1"}, {"id": "a b"}, {"email": "x@example.com"}]),
        on_progress=lambda so_far: done.append(so_far.done),
        on_refusal=told.append,
    )
    assert (result.created, result.skipped, result.errors) == (1_200, 1, 2)
    assert done == sorted(done)
    assert done[-1] == 1_203
    assert told == result.refusals
    assert [each.reason for each in told].count("invalid") == 2
    filters = {"plan_id": "five", "started_before": datetime(2027, 1, 1, tzinfo=UTC)}
    assert client.bulk_pause(filters, "wait", dry_run=True).matched == 1_200
    assert client.bulk_pause(filters, "wait").changed == 1_200
    assert client.bulk_resume(filters, "go", per_tick=500).changed == 1_200
    assert client.bulk_cancel(filters, "over").cancelled == 1_200
    assert engine.list_runs(plan_id="five", status="cancelled").total == 1_200
    with pytest.raises(EmptyFilter):
        client.bulk_cancel({}, "all")


def test_runs_that_cannot_be_changed_are_named() -> None:
    unknown = MemoryChannel(lambda *_: ChannelResult("unknown", error="connection lost"))
    with open_engine(":memory:", channel=unknown) as engine:
        publish_basics(engine)
        run = engine.execute(outreach(), PERSON)
        engine.tick()
        with listening(engine) as url, DeeClient(url) as client:
            found = client.bulk_retry({"plan_id": "outreach"}, "it is over")
        assert found == engine.bulk_retry({"plan_id": "outreach"}, "it is over")
    assert (found.matched, found.changed, found.errors) == (1, 0, 1)
    assert [each.run_id for each in found.unchanged] == [run.id]
    assert "outcome of its last send is unknown" in found.unchanged[0].detail


def test_a_call_is_made_once_under_its_id(pair: tuple[Engine, DeeClient]) -> None:
    _, client = pair
    client.publish_plan(outreach("six"))
    first = client.execute("six", {"id": "k1"}, command_id="order-1")
    assert client.execute("six", {"id": "k1"}, command_id="order-1") == first
    with pytest.raises(AlreadyEnrolled):
        client.execute("six", {"id": "k1"})


def test_roles_and_a_server_that_is_gone(pair: tuple[Engine, DeeClient], tmp_path: Path) -> None:
    engine, _ = pair
    settings, tokens = with_users(tmp_path)
    with listening(engine, settings) as url:
        with DeeClient(url, tokens["viewer"]) as client:
            assert client.health().ok
            with pytest.raises(ApiRefused) as refused:
                client.suppress("x")
            assert (refused.value.status, refused.value.error) == (403, "NotAllowed")
        with DeeClient(url) as client, pytest.raises(ApiRefused, match="NotSignedIn"):
            client.health()
    nobody = DeeClient(url, patience_s=0)
    with nobody as client, pytest.raises(StoreUnavailable, match="did not answer"):
        client.health()


def test_what_is_no_problem_is_none_of_ours() -> None:
    for content in (b"<html>", b"[]", b"{}", b'"x"'):
        error = error_of(httpx.Response(502, content=content))
        assert isinstance(error, ApiRefused)
        assert error.status == 502


def test_a_server_of_a_former_version_says_nothing_of_exact_rows() -> None:
    told = {"name": "run_list", "version": 1, "wanted": 1, "read": 1, "position": 7, "rows": 3}
    more = {"lagEvents": 0, "lagSeconds": 0.0, "bytes": None, "parked": 0, "others": []}
    found = read(ProjectionStatus, {**told, **more, "lastRebuild": None, "advice": None})
    assert (found.rows, found.rows_exact) == (3, True)
