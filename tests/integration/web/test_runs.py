"""The Runs page over HTTP, and calls that are repeated."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from dee_es import Engine
from dee_es.adapters.channels.memory import MemoryChannel
from dee_es.engine.models import ExecutionRun
from dee_es.ports import ChannelResult
from tests.support.engines import open_engine, outreach, publish_basics
from tests.support.web.application import (
    API,
    MEANT,
    PERSON,
    Client,
    bearer,
    refused,
    served,
    start,
    with_users,
)

PAGE = [
    "id",
    "planId",
    "planVersion",
    "contactId",
    "status",
    "currentStep",
    "stepsCompleted",
    "stepsRemaining",
    "startTick",
    "currentTick",
    "startedAt",
    "completedAt",
    "outcome",
    "variables",
]
"""The interface of the Runs page, in its order."""
ADDITIONS = ["statusReason", "resumeTick", "version", "enrollment", "ordinal", "parked"]


# --- the Runs page --------------------------------------------------------------------------------


def test_a_run_has_the_fields_of_the_page_and_the_additions(client: Client, engine: Engine) -> None:
    run = start(client)
    assert list(run) == PAGE + ADDITIONS
    assert (run["status"], run["startedAt"], run["completedAt"]) == (
        "active",
        "2026-01-01T00:00:00Z",
        None,
    )
    page = client.get(f"{API}/runs").json()
    assert list(page) == ["runs", "total", "nextCursor"]
    assert page["runs"] == [run]
    found = engine.get_run(run["id"])
    assert run == json.loads(found.model_dump_json(by_alias=True))
    assert ExecutionRun.model_validate(run) == found


def test_the_lifecycle_of_the_page(client: Client) -> None:
    run = start(client)["id"]
    assert client.post(f"{API}/runs/{run}/pause").json()["status"] == "paused"
    again = client.post(f"{API}/runs/{run}/pause")
    said = refused(again, 409, "InvalidTransition")
    assert said["detail"] == (
        f"run {run} cannot go from paused to paused: it may be resumed or cancelled"
    )
    assert said["instance"] == f"{API}/runs/{run}/pause"
    assert client.post(f"{API}/runs/{run}/resume", json={}).json()["status"] == "active"
    kept = client.post(f"{API}/runs/{run}/pause", json={"reason": "hm", "keep": "remaining"})
    assert kept.json()["status"] == "paused"
    refused(client.post(f"{API}/runs/{run}/cancel", json={}), 422, "InvalidInput", "reason")
    blank = client.post(f"{API}/runs/{run}/cancel", json={"reason": " "})
    refused(blank, 422, "InvalidInput", "reason")
    reason = {"reason": "Contact requested removal"}
    assert client.post(f"{API}/runs/{run}/cancel", json=reason).json()["status"] == "cancelled"
    (entry,) = client.get(f"{API}/audit?actions=run.cancelled").json()["entries"]
    assert (entry["actor"], entry["reason"]) == ("robin", reason["reason"])
    retry = client.post(f"{API}/runs/{run}/retry", json=reason)
    refused(retry, 409, "InvalidTransition")
    resolve = {**reason, "outcome": "delivered"}
    refused(client.post(f"{API}/runs/{run}/resolve", json=resolve), 409, "InvalidTransition")


def test_a_send_that_may_have_arrived_is_settled_before_a_retry() -> None:
    lost = MemoryChannel(lambda *_: ChannelResult("unknown", error="connection lost"))
    with open_engine(":memory:", channel=lost) as engine, served(engine, **MEANT) as client:
        publish_basics(engine)
        engine.publish_plan(outreach())
        run = start(client)["id"]
        engine.tick()
        retry = client.post(f"{API}/runs/{run}/retry", json={"reason": "again"})
        said = refused(retry, 409, "OutcomeUnknownError")
        assert said["title"] == "The outcome of a send is unknown"
        assert f"dee runs resolve {run} --outcome" in said["detail"]


def test_every_filter_of_the_list(client: Client) -> None:
    runs = [start(client, f"c{number}")["id"] for number in range(5)]
    client.post(f"{API}/runs/{runs[0]}/pause")
    client.post(f"{API}/runs/{runs[1]}/cancel", json={"reason": "x"})

    def listed(query: str) -> list[str]:
        page = client.get(f"{API}/runs?{query}").json()
        assert page["total"] >= len(page["runs"])
        return [runs.index(run["id"]) for run in page["runs"]]

    assert listed("") == [4, 3, 2, 1, 0]
    assert listed("status=paused") == [0]
    assert listed("status=paused&status=cancelled") == [1, 0]
    assert listed("planId=outreach&contactId=c3") == [3]
    assert listed("planId=other") == []
    assert listed("startedAfter=2026-01-01T00:00:00Z&limit=2&offset=1") == [3, 2]
    assert listed("startedAfter=2026-01-01T01:00:00%2B01:00&limit=1") == [4]
    assert listed("startedBefore=2026-01-01T00:00:00Z") == []
    page = client.get(f"{API}/runs?limit=3").json()
    assert listed(f"limit=3&cursor={page['nextCursor']}") == [1, 0]


@pytest.mark.parametrize(
    "query, field",
    [
        ("stauts=active", "stauts"),
        ("status=sleeping", "status.0"),
        ("limit=0", "limit"),
        ("limit=x", "limit"),
        ("startedAfter=2026-01-01T00:00:00", "startedAfter"),
        ("startedAfter=0", "startedAfter"),
        ("startedAfter=0001-01-01T00:00:00%2B14:00", "startedAfter"),
        ("planId=a%20b", "planId"),
        ("cursor=nonsense", "cursor"),
        ("plan_id=outreach", "plan_id"),
    ],
)
def test_bad_filters_are_named(client: Client, query: str, field: str) -> None:
    refused(client.get(f"{API}/runs?{query}"), 422, "InvalidInput", field)


@pytest.mark.parametrize(
    "given, problem",
    [
        ("24h", "takes a time in full, not how long ago"),
        ("999999d", "takes a time in full, not how long ago"),
        ("2026-01-01T00:00:00", "has no time zone"),
        ("yesterday", "must be a time in ISO 8601 with a zone"),
        ("2026-13-01T00:00:00Z", "must be a time in ISO 8601 with a zone"),
        ("1767225600", "must be a time in ISO 8601 with a zone"),
    ],
)
def test_a_time_that_cannot_be_used_is_told_with_one_that_can(
    client: Client, given: str, problem: str
) -> None:
    for path, field in (("runs", "startedBefore"), ("audit", "since")):
        said = client.get(f"{API}/{path}", params={field: given}).json()
        assert said["detail"] == f"{field}: {problem}; write for example 2026-01-31T12:00:00Z"


@pytest.mark.parametrize(
    "given, field",
    [
        ({"plan": "outreach", "contact": PERSON, "startsAt": "x"}, "startsAt"),
        ({"plan": "outreach", "contact": {**PERSON, "firstName": "x"}}, "contact.firstName"),
        ({"plan": "outreach", "contact": {"id": "a b"}}, "contact.id"),
        ({"plan": "outreach", "contact": {**PERSON, "email": "jane.example"}}, "contact.email"),
        ({"plan": "outreach", "contact": PERSON, "variables": {"n": 2**60}}, "variables.n"),
        ({"plan": "outreach", "contact": PERSON, "startAt": "2025-01-01T00:00:00Z"}, "startAt"),
        ({"plan": "outreach", "contact": {**PERSON, "jane@example.com": 1}}, "contact.(a key)"),
        ({"contact": PERSON}, "plan"),
    ],
)
def test_bad_bodies_are_named_without_their_values(
    client: Client, engine: Engine, given: dict[str, Any], field: str
) -> None:
    said = refused(client.post(f"{API}/runs", json=given), 422, "InvalidInput", field)
    assert "jane" not in json.dumps(said)
    assert engine.list_runs().total == 0


def test_errors_of_the_engine_over_http(client: Client, engine: Engine) -> None:
    start(client)
    body = {"plan": "outreach", "contact": PERSON}
    refused(client.post(f"{API}/runs", json=body), 409, "AlreadyEnrolled")
    engine.suppress("c9")
    suppressed = {"plan": "outreach", "contact": {"id": "c9"}}
    refused(client.post(f"{API}/runs", json=suppressed), 409, "ContactSuppressed")
    refused(client.get(f"{API}/runs/run_none"), 404, "RunNotFound")
    missing = {**body, "plan": "other@3"}
    refused(client.post(f"{API}/runs", json=missing), 404, "PlanNotFound")
    faulty = client.post(f"{API}/runs", json={**body, "plan": {"id": "p", "steps": 3}})
    said = refused(faulty, 422, "PlanValidationError")
    assert {"stepId", "problem", "remedy"} == set(said["faults"][0])
    empty = client.post(f"{API}/runs/bulk-cancel", json={"filters": {}, "reason": "x"})
    refused(empty, 422, "EmptyFilter")
    refused(client.get(f"{API}/nothing"), 404, "NotFound")
    refused(client.request("PUT", f"{API}/runs"), 405, "MethodNotAllowed")
    broken = client.post(
        f"{API}/runs", content=b'{"plan":', headers={"content-type": "application/json"}
    )
    refused(broken, 422, "InvalidInput", "body")
    far = client.get(f"{API}/contacts/c1?tick={2**53}")
    refused(far, 422, "InvalidInput", "tick")


def test_a_plan_may_be_written_out(client: Client) -> None:
    definition = outreach("written").definition()
    started = client.post(
        f"{API}/runs", json={"plan": definition, "contact": PERSON, "variables": {"a": [1]}}
    )
    assert started.status_code == 201
    assert started.headers["location"] == f"{API}/runs/{started.json()['id']}"
    assert started.json()["variables"] == {"a": [1]}
    assert client.get(f"{API}/plans/written").json()["version"] == 1


# --- Idempotency-Key ------------------------------------------------------------------------------


def test_a_repeated_call_acts_once_and_is_answered_alike(client: Client, engine: Engine) -> None:
    key = {"Idempotency-Key": "order-77"}
    run = start(client, **key)
    assert start(client, **key) == run
    assert engine.list_runs().total == 1
    path = f"{API}/runs/{run['id']}/pause"
    paused = client.post(path, headers={"Idempotency-Key": "p1"})
    client.post(f"{API}/runs/{run['id']}/resume")
    again = client.post(path, headers={"Idempotency-Key": "p1"})
    # The answer is that of the first time, although the run has gone on meanwhile.
    assert (again.json(), again.headers["idempotent-replay"]) == (paused.json(), "true")
    assert engine.get_run(run["id"]).status == "active"
    other = client.post(f"{API}/runs/{run['id']}/resume", headers={"Idempotency-Key": "p1"})
    refused(other, 422, "IdempotencyKeyReused")
    bad = client.post(path, headers={"Idempotency-Key": "x" * 129})
    refused(bad, 422, "InvalidInput", "Idempotency-Key")


def test_a_refused_call_may_be_repeated_under_its_key(client: Client) -> None:
    run = start(client)["id"]
    key = {"Idempotency-Key": "later"}
    refused(client.post(f"{API}/runs/{run}/resume", headers=key), 409, "InvalidTransition")
    client.post(f"{API}/runs/{run}/pause")
    assert client.post(f"{API}/runs/{run}/resume", headers=key).status_code == 200


def test_a_key_holds_across_a_restart(engine: Engine) -> None:
    key = {"Idempotency-Key": "once"}
    with served(engine, **MEANT) as client:
        run = start(client, **key)
        path = f"{API}/runs/{run['id']}/cancel"
        client.post(path, json={"reason": "x"}, headers=key)
        template = {"id": "t", "text": "one"}
        client.post(f"{API}/templates", json=template, headers={"Idempotency-Key": "t1"})
        client.post(f"{API}/templates", json={"id": "t", "text": "two"})
    with served(engine, **MEANT) as client:
        assert start(client, **key)["id"] == run["id"]
        again = client.post(f"{API}/templates", json=template, headers={"Idempotency-Key": "t1"})
        assert again.json() == {"id": "t", "version": 1}
    assert engine.list_runs().total == 1
    assert engine.list_definitions("template")["t"] == 2


def test_keys_belong_to_those_who_send_them(engine: Engine, tmp_path: Path) -> None:
    settings, tokens = with_users(tmp_path)
    key = {"Idempotency-Key": "mine"}
    with served(engine, settings) as client:
        start(client, "c1", **key, **bearer(tokens["operator"]))
        start(client, "c2", **key, **bearer(tokens["admin"]))
    actors = {entry.actor for entry in engine.audit.query(actions=["run.started"]).entries}
    assert actors == {"operator-token", "admin-token"}


def test_many_at_once_under_one_key_are_one(client: Client, engine: Engine) -> None:
    def call(_: int) -> str:
        given = {"plan": "outreach", "contact": PERSON}
        while True:
            answer = client.post(f"{API}/runs", json=given, headers={"Idempotency-Key": "burst"})
            if answer.status_code != 409:
                return str(answer.json()["id"])
            assert answer.json()["error"] == "CallUnderWay"

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(call, range(16)))) == 1
    assert engine.list_runs().total == 1
