"""The other resources over HTTP, on real engines."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import jsonschema_rs
import pytest
from pydantic.alias_generators import to_camel

from dee_es import Engine, EngineConfig
from dee_es.engine.models import ExecutionRun
from dee_es.web.job_files import MEDIA_TYPES
from tests.support.engines import EPOCH, outreach
from tests.support.web.application import (
    API,
    MEANT,
    UNCHANGING,
    Client,
    ended,
    refused,
    served,
    start,
)

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


@pytest.mark.parametrize("path", ["/plans", "/plans/validate", "/runs"])
def test_faults_of_steps_that_nobody_could_name_are_told(client: Client, path: str) -> None:
    body = '{"id": "x", "name": "x", "steps": [{"id": "a\\ud800", "type": "b\\udfff"}]}'
    if path == "/runs":
        body = f'{{"plan": {body}, "contact": {{"id": "c1"}}}}'
    json_type = {"content-type": "application/json"}
    answer = client.post(f"{API}{path}", content=body, headers=json_type)
    assert answer.status_code == (200 if path == "/plans/validate" else 422)
    assert "a\\ud800" in {fault["stepId"] for fault in answer.json()["faults"]}


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
    assert [each["known"] for each in (now, then)] == [True, True]
    # Whoever is not known yet can be suppressed: no address of this API is that of nobody.
    nobody = client.get(f"{API}/contacts/none").json()
    assert (nobody["contactId"], nobody["known"], nobody["runs"]) == ("none", False, [])
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
    # Whoever searches all runs is recorded, by name.
    asked = client.get(f"{API}/audit?actions=log.exported&actor=robin").json()
    assert asked["total"] > 0
    refused(client.get(f"{API}/audit?actions=run.jumped"), 422, "InvalidInput", "actions")
    job = ended(client, client.post(f"{API}/audit/verify"))
    assert (job["state"], job["result"]["valid"]) == ("done", True)
    assert job["progress"]["fraction"] == 1
    refused(client.post(f"{API}/audit/checkpoint"), 422, "InvalidInput", "checkpoints")
    assert client.get(f"{API}/audit/checkpoints").json()["total"] == 0
    job = ended(client, client.post(f"{API}/projections/run_list/rebuild"))
    assert (job["state"], job["result"]["rows"]) == ("done", 1)
    told = job["progress"]
    assert (told["done"], told["fraction"]) == (told["total"], 1)
    job = ended(client, client.post(f"{API}/projections/run_list/verify", json={"throttle": 1}))
    assert (job["state"], job["result"]["ok"]) == ("done", True)
    assert job["progress"]["fraction"] == 1
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
    (entry,) = engine.audit.query(actions=["log.exported"]).entries
    told = {**(entry.input or {}), **(entry.output or {})}
    assert (entry.actor, told["digest"]) == ("robin", job["result"]["digest"])
    assert (told["format"], told["target"]) == (kind, "stream")
    bad = client.post(f"{API}/report", json={**given, "zone": "Nowhere"})
    refused(bad, 422, "InvalidInput", "zone")
    backwards = {**given, "since": given["until"], "until": given["since"]}
    refused(client.post(f"{API}/report", json=backwards), 422, "InvalidInput", "until")
    bad = client.post(f"{API}/audit/export", json={"reason": "asked"})
    refused(bad, 422, "InvalidInput", "runId")
    assert len(client.get(f"{API}/jobs").json()["jobs"]) == 1, "none of these became a job"
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
    assert list(run["properties"]) == [to_camel(name) for name in ExecutionRun.model_fields]
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            assert operation["x-dee-role"] in ("viewer", "operator", "admin"), (path, method)
            assert {"403", "404", "409", "422", "503"} <= set(operation["responses"])
            assert operation["summary"], (path, method)
            if method == "post":
                keyed = "Idempotency-Key" in json.dumps(operation)
                assert keyed or path.endswith(UNCHANGING), path


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
