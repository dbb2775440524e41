"""The resources over HTTP, on real engines."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from dee_es import Engine, EngineConfig
from dee_es.engine.models import ExecutionRun
from dee_es.web.job_files import MEDIA_TYPES
from tests.support.engines import EPOCH, open_engine, outreach, publish_basics
from tests.support.web import API, MEANT, SETTINGS, Client, bearer, ended, served, with_users

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
PERSON = {"id": "contact_123", "email": "jane@example.com", "attributes": {"firstName": "Jane"}}


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with open_engine(f"sqlite:///{tmp_path / 'dee.db'}") as engine:
        publish_basics(engine)
        engine.publish_plan(outreach())
        yield engine


@pytest.fixture
def client(engine: Engine) -> Iterator[Client]:
    with served(engine, **MEANT) as client:
        yield client


def start(client: Client, who: str = "contact_123", **headers: str) -> dict[str, Any]:
    given = {"plan": "outreach", "contact": {**PERSON, "id": who}}
    answer = client.post(f"{API}/runs", json=given, headers=headers)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def refused(answer: Any, status: int, error: str, field: str | None = None) -> dict[str, Any]:
    """The problem that an answer is."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    said: dict[str, Any] = answer.json()
    assert (answer.status_code, said["status"], said["error"]) == (status, status, error), said
    assert said.get("field") == field, said
    return said


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
    assert said["detail"] == f"run {run} cannot go from paused to paused"
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
    refused(far, 422, "InvalidInput")


def test_a_plan_may_be_written_out(client: Client) -> None:
    definition = outreach("written").definition()
    started = client.post(
        f"{API}/runs", json={"plan": definition, "contact": PERSON, "variables": {"a": [1]}}
    )
    assert started.status_code == 201
    assert started.headers["location"] == f"{API}/runs/{started.json()['id']}"
    assert started.json()["variables"] == {"a": [1]}
    assert client.get(f"{API}/plans/written").json()["version"] == 1


# --- history, plans, templates, contacts, events, audit, projections -----------------------------


def test_the_past_of_a_run(client: Client, engine: Engine) -> None:
    run = start(client)["id"]
    engine.tick()
    at = f"{API}/runs/{run}"
    timeline = client.get(f"{at}/timeline").json()
    assert [entry["action"] for entry in timeline][:2] == ["run.started", "step.entered"]
    assert {"stepId", "untilTick"} < set(timeline[0])
    (first, *_) = client.get(f"{at}/logs").json()
    assert first["data"]["personal"]["email"] == "jane@example.com"
    assert client.get(f"{at}/explain").json()["about"] == run
    assert client.get(f"{at}/at?version=1").json()["run"]["version"] == 1
    assert client.get(f"{at}/at?tick=0").status_code == 200
    assert client.get(f"{at}/at?time=2026-01-01T00:00:00Z").status_code == 200
    refused(client.get(f"{at}/at?version=1&tick=0"), 422, "InvalidInput", "version, tick, time")
    refused(client.get(f"{at}/at?version=99"), 422, "InvalidInput", "version")
    assert client.get(f"{at}/diff?from=1&to=3").json()
    assert client.get(f"{at}/replay").json()["identical"] is True
    assert client.get(f"{at}/verify").json()["valid"] is True
    context = client.get(f"{API}/audit/runs/{run}/context?stepId=intro").json()
    assert context["contact"]["email"] == "jane@example.com"
    entries = client.get(f"{API}/audit/runs/{run}").json()
    assert [entry["version"] for entry in entries] == list(range(1, len(timeline) + 1))


def test_plans_and_templates(client: Client) -> None:
    definition = outreach("second").definition()
    assert client.post(f"{API}/plans/validate", json=definition).json() == {
        "valid": True,
        "faults": [],
    }
    published = client.post(f"{API}/plans", json=definition).json()
    assert (published["id"], published["version"]) == ("second", 1)
    changed = {**definition, "name": "Renamed"}
    assert client.post(f"{API}/plans", json=changed).json()["version"] == 2
    found = client.get(f"{API}/plans/second?version=1").json()
    assert found["name"] == "Outreach"
    assert found["steps"] == definition["steps"]
    assert [plan["id"] for plan in client.get(f"{API}/plans").json()["plans"]] == [
        "outreach",
        "second",
    ]
    versions = client.get(f"{API}/plans/second/versions").json()["plans"]
    assert [plan["version"] for plan in versions] == [2, 1]
    lacking = {**definition, "steps": [{**definition["steps"][0], "templateId": "gone"}]}
    (fault,) = client.post(f"{API}/plans/validate", json=lacking).json()["faults"]
    assert "gone" in fault["problem"]
    template = {"id": "greeting", "text": "Hello {{contact.firstName}}"}
    assert client.post(f"{API}/templates", json=template).json() == {"id": "greeting", "version": 1}
    rendered = client.post(
        f"{API}/templates/greeting/render", json={"attributes": {"firstName": "Ada"}}
    )
    assert rendered.json()["text"] == "Hello Ada"
    refused(client.get(f"{API}/templates/none"), 404, "TemplateNotFound")
    names = [each["id"] for each in client.get(f"{API}/templates").json()["templates"]]
    assert names == ["follow", "greeting", "intro"]


def test_contacts_as_of_any_date(client: Client, engine: Engine) -> None:
    run = start(client)["id"]
    engine.run_until(10)
    assert client.post(f"{API}/contacts/suppress", json={"contactId": "contact_123"}).json() == {
        "changed": True
    }
    again = client.post(f"{API}/contacts/suppress", json={"contactId": "contact_123"})
    assert again.json() == {"changed": False}
    now = client.get(f"{API}/contacts/contact_123").json()
    then = client.get(f"{API}/contacts/contact_123?tick=5").json()
    assert (now["suppressions"], then["suppressions"]) == (["global"], [])
    assert [each["id"] for each in then["runs"]] == [run]
    who = f"{API}/contacts/contact_123"
    grant = {"channel": "email", "purpose": "news", "source": "web form"}
    assert client.post(f"{who}/grant-consent", json=grant).json()["changed"]
    assert client.get(who).json()["consents"] == {"email:news": "granted"}
    revoke = {"channel": "email", "purpose": "news"}
    assert client.post(f"{who}/revoke-consent", json=revoke).json()["changed"]
    assert client.get(f"{who}/explain?planId=outreach").json()["about"] == "contact_123"
    lifted = client.post(f"{API}/contacts/unsuppress", json={"contactId": "contact_123"})
    assert lifted.json() == {"changed": True}
    erased = client.post(f"{who}/erase", json={"reason": "asked for it"}).json()
    assert erased["keyDestroyed"] is True
    assert "jane" not in client.get(f"{who}/logs").text
    refused(client.post(f"{API}/contacts/none/erase", json={"reason": "x"}), 422, "InvalidInput",
            "contactId")  # fmt: skip


def test_channel_events_one_and_many(client: Client, engine: Engine) -> None:
    run = start(client)["id"]
    event = {"type": "email.opened", "runId": run, "eventId": "e1"}
    assert client.post(f"{API}/channel-events", json=event).json() == {"accepted": True}
    assert client.post(f"{API}/channel-events", json=event).json() == {"accepted": False}
    refused(client.post(f"{API}/channel-events", json={"type": "email.opened"}), 422,
            "InvalidInput", "contactId")  # fmt: skip
    given = [
        event,
        {"type": "email.clicked", "contactId": "contact_123"},
        {"type": "email.sent", "contactId": "contact_123"},
        {"type": "email.opened", "contactId": "contact_123", "extra": 1},
        {"type": "email.opened", "runId": "run_none"},
        "x",
    ]
    found = client.post(f"{API}/channel-events/batch", json={"events": given}).json()
    assert (found["accepted"], found["known"], found["errors"]) == (1, 1, 4)
    told = [(each["index"], each["error"], each["field"]) for each in found["faults"]]
    assert told[:2] == [(2, "InvalidInput", "type"), (3, "InvalidInput", "extra")]
    assert told[2][:2] == (4, "RunNotFound")
    assert told[3] == (5, "InvalidInput", "body")


def test_the_audit_trail_and_projections(client: Client) -> None:
    start(client)
    page = client.get(f"{API}/audit?actions=run.started&actor=robin").json()
    assert (page["total"], page["entries"][0]["action"]) == (1, "run.started")
    assert client.get(f"{API}/audit?since=2027-01-01T00:00:00Z").json()["total"] == 0
    refused(client.get(f"{API}/audit?actions=run.jumped"), 422, "InvalidInput", "actions")
    job = ended(client, client.post(f"{API}/audit/verify"))
    assert (job["state"], job["result"]["valid"]) == ("done", True)
    assert job["progress"]["fraction"] == 1
    refused(client.post(f"{API}/audit/checkpoint"), 422, "InvalidInput", "checkpoints")
    assert client.get(f"{API}/audit/checkpoints").json()["total"] == 0
    job = ended(client, client.post(f"{API}/projections/run_list/rebuild"))
    assert (job["state"], job["result"]["rows"]) == ("done", 1)
    job = ended(client, client.post(f"{API}/projections/run_list/verify", json={"throttle": 1}))
    assert (job["state"], job["result"]["ok"]) == ("done", True)
    refused(client.post(f"{API}/projections/nothing/verify"), 404, "ProjectionNotFound")
    names = [each["name"] for each in client.get(f"{API}/projections").json()["projections"]]
    assert "run_list" in names


def test_a_checkpoint_is_signed_and_listed(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'dee.db'}"
    config = EngineConfig(url, clock="manual", epoch=EPOCH, checkpoints=str(tmp_path / "c"))
    with Engine(config) as engine, served(engine, **MEANT) as client:
        signed = client.post(f"{API}/audit/checkpoint").json()
        assert signed["size"] == 1
        (entry,) = client.get(f"{API}/audit/checkpoints").json()["entries"]
        assert (entry["action"], entry["actor"]) == ("checkpoint.signed", "robin")


@pytest.mark.parametrize("kind", ["json", "jsonl", "csv", "pdf", "zip"])
def test_evidence_is_given_out_and_recorded(client: Client, engine: Engine, kind: str) -> None:
    run = start(client)["id"]
    given = {"runId": run, "format": kind, "reason": "asked", "personalData": False}
    job = ended(client, client.post(f"{API}/audit/export", json=given))
    assert job["state"] == "done", job
    file = client.get(job["file"])
    assert hashlib.sha256(file.content).hexdigest() == job["result"]["digest"]
    assert file.headers["content-disposition"] == f'attachment; filename="export.{kind}"'
    assert file.headers["content-type"].split(";")[0] == MEDIA_TYPES[kind]
    assert b"jane@example.com" not in file.content
    (entry,) = engine.audit.query(actions=["log.exported"]).entries
    assert (entry.actor, entry.reason) == ("robin", "asked")


@pytest.mark.parametrize("kind", ["json", "md", "html", "pdf"])
def test_a_report_is_made(client: Client, engine: Engine, kind: str) -> None:
    start(client)
    given = {"since": "2026-01-01T00:00:00Z", "until": "2026-02-01T00:00:00Z", "format": kind}
    job = ended(client, client.post(f"{API}/report", json=given))
    assert (job["state"], job["result"]["violations"]) == ("done", 0), job
    file = client.get(job["file"])
    assert hashlib.sha256(file.content).hexdigest() == job["result"]["digest"]
    assert file.headers["content-disposition"].startswith("attachment")
    other = ended(client, client.post(f"{API}/report", json={**given, "zone": "Nowhere"}))
    assert (other["problem"]["error"], other["problem"]["field"]) == ("InvalidInput", "zone")
    refused(client.get(f"{API}/jobs/{other['id']}/file"), 404, "FileNotFound")
    bad = client.post(f"{API}/report", json={**given, "include": ["everything"]})
    refused(bad, 422, "InvalidInput", "include.0")


def test_how_everything_stands(client: Client) -> None:
    start(client)
    assert client.get(f"{API}/health").json()["ok"] is True
    assert client.get(f"{API}/metrics").json()["runs"]["active"] == 1
    session = client.get(f"{API}/session").json()
    assert (session["actor"], session["role"]) == ("robin", "admin")
    description = client.get(f"{API}/openapi.json").json()
    run = description["components"]["schemas"]["ExecutionRun"]
    assert list(run["properties"]) == PAGE + ADDITIONS
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            assert operation["x-dee-role"] in ("viewer", "operator", "admin"), (path, method)
            assert {"403", "404", "409", "422", "503"} <= set(operation["responses"])
            assert operation["summary"], (path, method)
            if method == "post":
                assert "Idempotency-Key" in json.dumps(operation) or path.endswith(
                    ("/validate", "/render")
                ), path


def test_examples_are_what_is_sent_and_answered(client: Client) -> None:
    document = client.get(f"{API}/openapi.json").json()
    schemas = document["components"]["schemas"]
    bundle = {"components": document["components"]}
    tried = 0
    for name, schema in schemas.items():
        for example in schema.get("examples", []):
            validator = jsonschema_rs.validator_for(
                {"$ref": f"#/components/schemas/{name}", **bundle}
            )
            assert [str(error) for error in validator.iter_errors(example)] == [], name
            tried += 1
    assert tried > 30
    # Whatever a request may hold has an example.
    for path, methods in document["paths"].items():
        for operation in methods.values():
            body = operation.get("requestBody", {"content": {}})["content"].get("application/json")
            if body is not None:
                names = re.findall(r"#/components/schemas/(\w+)", json.dumps(body["schema"]))
                assert all(schemas[each].get("examples") for each in names), path
                assert names or "examples" in json.dumps(body), path


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
        return str(start(client, **{"Idempotency-Key": "burst"})["id"])

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(call, range(16)))) == 1
    assert engine.list_runs().total == 1


# --- jobs -----------------------------------------------------------------------------------------


def rows(count: int) -> bytes:
    return b"id,email\n" + b"".join(b"c%d,c%d@example.com\n" % (n, n) for n in range(count))


def upload(client: Client, content: bytes, query: str = "", **headers: str) -> Any:
    path = f"{API}/runs/bulk-execute?plan=outreach{query}"
    return client.post(path, content=content, headers={"content-type": "text/csv", **headers})


def test_contacts_of_a_document_are_enrolled(client: Client, engine: Engine) -> None:
    start(client, "c1")
    engine.suppress("c2")
    contacts = [{"id": "c1"}, {"id": "c2"}, {"id": "c3"}, {"id": "a b"}, {"nobody": 1}, 3]
    body = {"plan": "outreach", "contacts": contacts, "batchSize": 2}
    job = ended(client, client.post(f"{API}/runs/bulk-execute", json=body))
    assert job["state"] == "done"
    assert job["result"] == {
        "contacts": 6,
        "created": 1,
        "skipped": 2,
        "errors": 3,
        "alreadyEnrolled": 1,
        "suppressed": 1,
        "dryRun": False,
    }
    told = client.get(f"{API}/jobs/{job['id']}/refusals?limit=4").json()
    assert (told["total"], len(told["refusals"])) == (5, 4)
    rest = client.get(f"{API}/jobs/{job['id']}/refusals?cursor={told['nextCursor']}").json()
    assert (len(rest["refusals"]), rest["nextCursor"]) == (1, None)
    reasons = [each["reason"] for each in told["refusals"] + rest["refusals"]]
    assert sorted(reasons) == ["already_enrolled", *["invalid"] * 3, "suppressed"]
    assert client.get(f"{API}/jobs").json()["jobs"][0]["id"] == job["id"]


def test_contacts_of_a_file_are_enrolled(client: Client, engine: Engine) -> None:
    content = rows(250) + b"c1,again@example.com\nc999,c2@example.com\nx,not an address\n"
    rehearsed = ended(client, upload(client, content, "&dryRun=true"))
    assert rehearsed["result"]["created"] == 250
    assert engine.list_runs().total == 0
    job = ended(client, upload(client, content, "&batchSize=50&variables=%7B%22a%22%3A1%7D"))
    counts = {"contacts": 253, "created": 250, "skipped": 2, "errors": 1}
    assert counts.items() <= job["result"].items()
    told = client.get(f"{API}/jobs/{job['id']}/refusals").json()["refusals"]
    assert {each["line"] for each in told} == {252, 253, 254}
    assert engine.list_runs(contact_id="c7").runs[0].variables == {"a": 1}
    refused(upload(client, content, "&what=1"), 422, "InvalidInput", "what")
    bad = ended(client, upload(client, b"name\nJane\n"))
    assert (bad["state"], bad["problem"]["error"]) == ("failed", "InvalidInput")
    other = client.post(
        f"{API}/runs/bulk-execute", content=b"<a/>", headers={"content-type": "text/xml"}
    )
    refused(other, 415, "UnsupportedMediaType")


def test_a_job_is_ended_between_batches_and_goes_on_under_its_key(engine: Engine) -> None:
    key = {"Idempotency-Key": "import-1"}
    total = 20_000
    with served(engine, **MEANT) as client:
        answer = upload(client, rows(total), "&batchSize=10", **key)
        place = answer.headers["location"]
        while client.get(place).json()["progress"]["done"] < 50:
            pass
        same = upload(client, rows(total), "&batchSize=10", **key)
        assert same.headers["location"] == place
        refused(upload(client, rows(3), "", **key), 422, "IdempotencyKeyReused")
        assert client.delete(place).status_code == 202
        job = ended(client, answer)
        assert job["state"] == "aborted"
        created = job["result"]["created"]
        assert 50 <= created < total
        assert engine.list_runs().total == created
    with served(engine, **MEANT) as client:
        refused(client.get(place), 404, "JobNotFound")
        job = ended(client, upload(client, rows(300), "", **key))
        # What the broken off call had created counts as created: it is one and the same call.
        assert job["result"]["created"] == 300
    assert engine.list_runs().total == max(created, 300)


def test_many_runs_are_changed(client: Client, engine: Engine) -> None:
    ended(client, upload(client, rows(30)))
    given = {"filters": {"planId": "outreach", "status": ["active"]}, "reason": "Plan deprecated"}
    counted = client.post(f"{API}/runs/bulk-pause", json={**given, "dryRun": True})
    assert counted.json() == {"matched": 30, "changed": 0, "errors": 0, "dryRun": True}
    job = ended(client, client.post(f"{API}/runs/bulk-pause", json=given))
    assert job["result"] == {"matched": 30, "changed": 30, "errors": 0, "dryRun": False}
    resume = {"filters": {"status": "paused"}, "reason": "go on", "perTick": 7}
    job = ended(client, client.post(f"{API}/runs/bulk-resume", json=resume))
    assert job["result"]["changed"] == 30
    job = ended(client, client.post(f"{API}/runs/bulk-cancel", json=given))
    assert job["result"] == {"matched": 30, "cancelled": 30, "errors": 0, "dryRun": False}
    assert engine.list_runs("cancelled").total == 30
    actors = {each.actor for each in engine.audit.query(actions=["run.cancelled"]).entries}
    assert actors == {"robin"}


def test_jobs_are_bounded_and_end_with_the_server(engine: Engine) -> None:
    settings = replace(SETTINGS, job_workers=1, jobs_waiting=1)
    with served(engine, settings, **MEANT) as client:
        first = upload(client, rows(20_000), "&batchSize=10")
        second = client.post(f"{API}/audit/verify")
        assert second.json()["state"] == "queued"
        busy = client.post(f"{API}/audit/verify")
        refused(busy, 429, "TooManyJobs")
        assert busy.headers["retry-after"]
        refused(upload(client, rows(1)), 429, "TooManyJobs")
        waiting = client.delete(second.headers["location"])
        assert waiting.status_code == 202
        # Closing asks the first one to end after its batch.
    assert first.status_code == 202
    assert engine.list_runs().total < 20_000
