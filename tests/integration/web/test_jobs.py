"""Bulk work over HTTP: jobs, how far they are, what they refused, and their end."""

from __future__ import annotations

import itertools
import tempfile
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pytest

from dee_es import Engine
from dee_es.engine.projecting.models import CaughtUp
from dee_es.web.api.csv_options import CsvOptions
from dee_es.web.api.intake import Enrolled, of_csv
from dee_es.web.api.uploads import Upload
from dee_es.web.jobs import Job
from dee_es.web.security.roles import Role
from tests.support.web.application import (
    API,
    MEANT,
    PERSON,
    SETTINGS,
    Client,
    ended,
    refused,
    served,
    start,
)
from tests.support.web.site import HTML

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


@pytest.mark.parametrize("value", [r'"\ud800"', r'"\u0000"', "NaN"])
def test_variables_that_nobody_could_keep_are_refused_with_the_file(
    client: Client, engine: Engine, value: str
) -> None:
    given = quote(f'{{"a":{value}}}')
    refused(upload(client, rows(2), f"&variables={given}"), 422, "InvalidInput", "variables.a")
    assert client.get(f"{API}/jobs").json()["jobs"] == []
    assert engine.list_runs().total == 0


def test_a_job_is_ended_between_batches_and_goes_on_under_its_key(engine: Engine) -> None:
    key = {"Idempotency-Key": "import-1"}
    total = 4_000
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
        refused(upload(client, rows(3), "", **key), 422, "IdempotencyKeyReused")
        job = ended(client, upload(client, rows(total), "&batchSize=10", **key))
        # What the broken off call had created counts as created: it is one and the same call.
        assert job["result"]["created"] == total
    assert engine.list_runs().total == total


def test_a_job_is_ended_though_no_row_is_a_contact(engine: Engine) -> None:
    """Fifty MiB of them keep the job, and the end of its server, waiting for minutes otherwise."""
    with tempfile.TemporaryFile() as file:
        file.write(b"id,email\n" + b"nobody\n" * 1_000)
        file.flush()
        job = Job("job_x", "enroll", "robin", Role.OPERATOR, b"")
        given = Upload(file, file.tell(), b"")
        plan = engine.get_plan("outreach")
        work = of_csv(engine, plan, given, CsvOptions(plan="outreach"), "robin", None)
        job.stop.set()
        found = work(job)
        assert isinstance(found, Enrolled)
        assert (found.contacts, job.refusals.count, job.cut_short) == (0, 0, True)
        job.close()


def test_many_runs_are_changed(client: Client, engine: Engine) -> None:
    ended(client, upload(client, rows(30)))
    given = {"filters": {"planId": "outreach", "status": ["active"]}, "reason": "Plan deprecated"}
    counted = client.post(f"{API}/runs/bulk-pause", json={**given, "dryRun": True})
    none = {"errors": 0, "unchanged": []}
    assert counted.json() == {"matched": 30, "changed": 0, "dryRun": True, **none}
    job = ended(client, client.post(f"{API}/runs/bulk-pause", json=given))
    assert job["result"] == {"matched": 30, "changed": 30, "dryRun": False, **none}
    resume = {"filters": {"status": "paused"}, "reason": "go on", "perTick": 7}
    job = ended(client, client.post(f"{API}/runs/bulk-resume", json=resume))
    assert job["result"]["changed"] == 30
    job = ended(client, client.post(f"{API}/runs/bulk-cancel", json=given))
    assert job["result"] == {"matched": 30, "cancelled": 30, "dryRun": False, **none}
    assert engine.list_runs("cancelled").total == 30
    actors = {each.actor for each in engine.audit.query(actions=["run.cancelled"]).entries}
    assert actors == {"robin"}


@pytest.mark.parametrize("reason", ["", "  ", "a\0b", None, 3])
def test_what_is_refused_is_refused_before_a_job_begins(client: Client, reason: Any) -> None:
    given = {"filters": {"planId": "outreach"}, "reason": reason}
    answer = client.post(f"{API}/runs/bulk-cancel", json=given)
    refused(answer, 422, "InvalidInput", "reason")
    assert "Value error" not in answer.text
    assert client.get(f"{API}/jobs").json()["jobs"] == []


def test_an_empty_list_of_statuses_is_not_taken_for_all(client: Client, engine: Engine) -> None:
    ended(client, upload(client, rows(3)))
    given = {"filters": {"planId": "outreach", "status": []}, "reason": "Plan deprecated"}
    for verb in ("cancel", "pause", "resume"):
        for dry_run in (True, False):
            answer = client.post(f"{API}/runs/bulk-{verb}", json={**given, "dryRun": dry_run})
            refused(answer, 422, "InvalidInput", "filters.status")
    assert engine.list_runs("active").total == 3


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


def test_catching_up_is_ended_early_and_has_an_end(
    client: Client, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, let, far = threading.Event(), threading.Event(), itertools.count(1)

    def slow(name: str, *, within_s: float | None = None) -> CaughtUp:
        begun.set()
        assert let.wait(60)
        return CaughtUp(name=name, position=min(5, next(far)), head=9)

    place = f"{API}/projections/run_list/catch-up"
    with monkeypatch.context() as patched:
        patched.setattr(engine.projections, "catch_up", slow)
        answer = client.post(place)
        assert begun.wait(60)
        client.delete(answer.headers["location"])
        let.set()
        assert ended(client, answer)["state"] == "aborted"
        assert next(far) == 2
        stuck = ended(client, client.post(place))
        assert (stuck["state"], stuck["result"]["position"]) == ("done", 5)
        assert stuck["progress"]["total"] == 9
    for given in ({}, {"withinS": 0}, {"withinS": 0.001}, {"withinS": 60}):
        job = ended(client, client.post(place, json=given))
        assert (job["state"], job["result"]["head"]) == ("done", engine.metrics().position)
    assert engine.projections.lag()["run_list"] == 0


def test_what_jobs_made_is_not_to_be_had_after_an_erasure(client: Client, engine: Engine) -> None:
    run = start(client, "c1")
    asked = {"runId": run["id"], "format": "json"}
    key = {"Idempotency-Key": "export-1"}

    def exported() -> dict[str, Any]:
        return ended(client, client.post(f"{API}/audit/export", json=asked, headers=key))

    job = exported()
    before = client.get(job["file"])
    assert (before.status_code, PERSON["email"] in before.text) == (200, True)
    erased = client.post(f"{API}/contacts/c1/erase", json={"reason": "asked to"})
    assert erased.status_code == 200, erased.text
    refused(client.get(job["file"]), 410, "FileGone")
    assert client.get(f"{API}/jobs/{job['id']}").json()["file"] is None
    again = exported()
    assert again["id"] != job["id"]
    after = client.get(again["file"])
    assert (after.status_code, PERSON["email"] in after.text) == (200, False)


def test_nor_after_one_that_failed_when_the_key_was_destroyed(
    client: Client, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "certificates").write_text("no folder")
    elsewhere = msgspec.structs.replace(engine._parts, certificates=str(tmp_path / "certificates"))
    asked = {"runId": start(client, "c1")["id"], "format": "json"}
    for path, body, headers in (
        (f"{API}/contacts/c1/erase", {"json": {"reason": "asked to"}}, {}),
        ("/contacts/c1/erase", {"data": {"confirm": "c1", "reason": "x", "key": "k" * 24}}, HTML),
    ):
        job = ended(client, client.post(f"{API}/audit/export", json=asked))
        assert client.get(job["file"]).status_code == 200
        with monkeypatch.context() as patched:
            patched.setattr(engine, "_parts", elsewhere)
            answer = client.post(path, **body, headers={**MEANT, **headers})
        assert answer.status_code == 503, answer.text
        refused(client.get(job["file"]), 410, "FileGone")
