"""Evidence over HTTP: who may, where files go, and that nobody names a place of his own."""

from __future__ import annotations

import io
import json
import stat
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from dee_es import Engine, EngineConfig
from dee_es.adapters.anchors import MemorySigners
from dee_es.adapters.channels.memory import MemoryChannel
from dee_es.adapters.keys import open_memory_keys
from dee_es.client import ApiRefused, DeeClient
from dee_es.client.compliance import _in_turn
from dee_es.client.jobs import telling
from dee_es.client.projections import _telling
from dee_es.engine.compliance.reading import report_of
from dee_es.engine.compliance.report import document_of
from dee_es.engine.projecting.models import RebuildProgress
from dee_es.engine.retention.models import ArchiveResult
from dee_es.errors import AnchorUnavailable, HoldInForce, InvalidInput, OutputExists
from tests.support.engines import ACTOR, DAY, EPOCH, outreach, publish_basics
from tests.support.web.application import (
    API,
    MEANT,
    SETTINGS,
    bearer,
    ended,
    refused,
    said,
    served,
    with_users,
)
from tests.support.web.listening import listening

LATER = EPOCH + timedelta(days=90)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """Runs that have ended and others, with places for everything."""
    config = EngineConfig(
        ":memory:",
        clock="manual",
        epoch=EPOCH,
        certificates=str(tmp_path / "certificates"),
        checkpoints=str(tmp_path / "checkpoints"),
        archives=str(tmp_path / "archives"),
        actor=ACTOR,
    )
    channel = MemoryChannel()
    with Engine(
        config,
        channels={"email": channel, "voice": channel},
        keys=open_memory_keys(),
        signers=MemorySigners(b"evidence"),
    ) as opened:
        publish_basics(opened)
        plan = opened.publish_plan(outreach())
        for number in range(4):
            person = {"id": f"c{number}", "email": f"c{number}@example.com", "firstName": "Ada"}
            opened.execute(plan, person)
        opened.run_until(9 * DAY)
        opened.execute(plan, {"id": "last", "email": "last@example.com", "firstName": "Bo"})
        opened.tick()
        yield opened


@pytest.fixture
def far(engine: Engine, tmp_path: Path) -> Iterator[DeeClient]:
    settings = replace(SETTINGS, archive_places=(str(tmp_path / "moved"),))
    with listening(engine, settings) as url, DeeClient(url) as client:
        yield client


# --- proofs ---------------------------------------------------------------------------------------


def test_proofs_are_the_engines(engine: Engine, far: DeeClient) -> None:
    run = engine.list_runs(limit=1).runs[0].id
    checkpoint = far.audit.checkpoint()
    assert far.audit.size() == engine.audit.size() > checkpoint.size
    proof = far.audit.prove(run, 2)
    assert proof == engine.audit.prove(run, 2)
    assert (proof.stream, proof.version, proof.size) == (run, 2, checkpoint.size)
    assert far.audit.prove("template:intro", 1) == engine.audit.prove("template:intro", 1)
    assert far.audit.consistency(3, 20) == engine.audit.consistency(3, 20) != ()
    assert far.audit.get_at(2, 6) == engine.audit.get_at(2, 6)
    assert far.audit.verify_log(workers=2) == engine.audit.verify_log()
    assert far.audit.verify_log().anchored_through == checkpoint.size


# --- files ----------------------------------------------------------------------------------------


def test_files_are_written_on_the_clients_machine(
    engine: Engine, far: DeeClient, tmp_path: Path
) -> None:
    run = engine.list_runs(limit=1).runs[0].id
    path = tmp_path / "new" / "run.csv"
    made = far.audit.export(run, format="csv", output=path)
    assert (made.content, made.target) == (None, "stream")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = far.audit.export(run, format="csv").content
    assert again is not None
    assert again.startswith(path.read_bytes().splitlines()[0])
    bundle = io.BytesIO()
    assert far.audit.bundle(run, output=bundle).format == "zip"
    assert bundle.getvalue().startswith(b"PK")
    report = far.compliance.report(EPOCH, LATER, format="pdf", output=str(tmp_path / "r.pdf"))
    assert (tmp_path / "r.pdf").read_bytes().startswith(b"%PDF")
    through = report.through
    assert report == engine.compliance.report(EPOCH, LATER, through=through)
    assert far.compliance.report(EPOCH, LATER, through=through) == report
    assert far.compliance.render(report, "pdf").startswith(b"%PDF")
    assert far.compliance.render(report, "md") == engine.compliance.render(report, "md")
    for bad in ("s3://bucket/run.csv", str(tmp_path)):
        with pytest.raises(InvalidInput, match="output"):
            far.audit.export(run, output=bad)
        with pytest.raises(InvalidInput, match="output"):
            far.compliance.report(EPOCH, LATER, output=bad)
    (tmp_path / "file").write_text("")
    before = engine.audit.size()
    with pytest.raises(AnchorUnavailable):
        far.audit.export(run, output=tmp_path / "file" / "run.csv")
    assert engine.audit.size() == before, "what cannot be written is not asked for"


def test_a_certificate_is_written_on_the_clients_machine_too(
    engine: Engine, far: DeeClient, tmp_path: Path
) -> None:
    here = tmp_path / "here"
    erased = far.erase_contact("c1", "asked", certificate=str(here))
    (own,) = here.iterdir()
    (servers,) = (tmp_path / "certificates").iterdir()
    assert erased.written_to == str(own)
    assert own.read_text() == servers.read_text() == erased.certificate
    assert stat.S_IMODE(own.stat().st_mode) == 0o600
    assert far.erase_contact("c1", "asked").written_to == str(servers)
    (tmp_path / "file").write_text("")
    before = engine.audit.size()
    for bad, error in ((str(tmp_path / "file"), AnchorUnavailable),
                       ("s3://bucket/here", InvalidInput), (" ", InvalidInput)):  # fmt: skip
        with pytest.raises(error):
            far.erase_contact("c2", "asked", certificate=bad)
    assert engine.audit.size() == before, "nobody is erased whose certificate has no place"
    far.place_hold(contact_id="c2", reason="court order")
    with pytest.raises(HoldInForce):
        far.erase_contact("c2", "asked", certificate=str(here))
    assert [each.name for each in here.iterdir()] == [own.name]


def test_a_report_that_was_not_made_is_not_written(far: DeeClient) -> None:
    report = far.compliance.report(EPOCH, LATER)
    document = document_of(report)
    assert report_of(document) == report
    for change in ({"through": "12"}, {"sections": {"sends": {}}}, {"report": "other"},
                   {"more": 1}, {"since": "2026-01-01T00:00:00"}, {"entries": None},
                   {"notInTheDatabase": [[5, 2]]}, {"notInTheDatabase": [[-1, 2]]},
                   {"notInTheDatabase": [[1, 2**64]]}):  # fmt: skip
        with pytest.raises(InvalidInput, match="report: is no compliance report"):
            report_of({**document, **change})
    with pytest.raises(ApiRefused) as long:
        far.compliance.render(replace(report, zone="x" * SETTINGS.max_body), "md")
    assert long.value.error == "BodyTooLarge"


# --- archives -------------------------------------------------------------------------------------


def test_archives_go_to_places_that_the_server_knows(
    engine: Engine, far: DeeClient, tmp_path: Path
) -> None:
    before = engine.now().now
    size = engine.audit.size()
    for place in (str(tmp_path / "mine"), f"file://{tmp_path}/moved", f"{tmp_path}/moved/../mine",
                  "memory://mine", " "):  # fmt: skip
        with pytest.raises(InvalidInput, match="place: is none that this server archives to"):
            far.audit.archive(before, place=place)
        with pytest.raises(InvalidInput, match="place: is none that this server archives to"):
            far.audit.verify_archives(place)
    assert engine.audit.size() == size
    assert not (tmp_path / "mine").exists()
    assert far.audit.archive(before, dry_run=True).runs == 4
    told: list[ArchiveResult] = []
    done = far.audit.archive(before, reason="old", command_id="a1", on_progress=told.append)
    assert (done.runs, [each.runs for each in done.archives]) == (4, [4])
    assert told[-1] == done
    (archive,) = far.audit.archives()
    assert [archive] == engine.audit.archives() == done.archives
    assert (archive.actor, archive.reason) == ("robin", "old")
    assert archive.place == str(tmp_path / "archives")
    assert far.audit.archive(before, reason="old", command_id="a1") == done
    (verdict,) = far.audit.verify_archives()
    assert verdict.valid
    (gone,) = far.audit.verify_archives(str(tmp_path / "moved"))
    assert (gone.valid, gone.archive) == (None, archive)
    (tmp_path / "archives").rename(tmp_path / "moved")
    (there,) = far.audit.verify_archives(str(tmp_path / "moved"))
    assert there.valid


# --- who may --------------------------------------------------------------------------------------


def test_each_needs_its_role(engine: Engine, tmp_path: Path) -> None:
    settings, tokens = with_users(tmp_path)
    given: dict[str, Any] = {"before": EPOCH.isoformat(), "dryRun": True}
    with served(engine, settings) as client:
        for role in ("viewer", "operator"):
            headers = bearer(tokens[role])
            refused(client.post(f"{API}/audit/archive", json=given, headers=headers), 403,
                    "NotAllowed")  # fmt: skip
            refused(client.post(f"{API}/projections/run_list/drop", headers=headers), 403,
                    "NotAllowed")  # fmt: skip
        viewer = bearer(tokens["viewer"])
        run = engine.list_runs(limit=1).runs[0].id
        for path in ("audit/archives/verify", "report/render", f"runs/{run}/go-on",
                     "projections/run_list/refold", "projections/run_list/catch-up"):  # fmt: skip
            assert said(client.post(f"{API}/{path}", json={}, headers=viewer))[0] == 403
        for path in ("audit/size", "audit/archives", "audit/entries?first=1",
                     "audit/consistency?old=1&new=2", "projections/run_list/estimate"):  # fmt: skip
            assert client.get(f"{API}/{path}", headers=viewer).status_code == 200, path
        answer = client.post(f"{API}/runs/{run}/replay", json={"planVersion": 1}, headers=viewer)
        assert answer.json()["identical"] is True
        operator = bearer(tokens["operator"])
        period = {"since": EPOCH.isoformat(), "until": LATER.isoformat(), "format": "md"}
        job = ended(client, client.post(f"{API}/report", json=period, headers=operator), **operator)
        assert said(client.get(f"{job['file']}?form=json", headers=viewer))[0] == 403
        assert client.get(f"{job['file']}?form=json", headers=operator).json()["through"] > 0
        scope = {"runId": run}
        answer = client.post(f"{API}/audit/export", json=scope, headers=operator)
        file = ended(client, answer, **operator)["file"]
        refused(client.get(f"{file}?form=json", headers=operator), 404, "FileNotFound")


def test_going_on_is_recorded_under_the_callers_name(engine: Engine, far: DeeClient) -> None:
    person = {"id": "new", "email": "n@example.com", "firstName": "Cy"}
    run = engine.execute(engine.get_plan("outreach"), person).id
    assert far.replay(run, dry_run=False).identical
    assert engine.get_run(run).status == "waiting"
    # What a channel answered nobody did.
    assert {each.actor for each in engine.audit.get_by_run(run)[1:]} == {"robin", None}


def test_a_repeated_drop_is_answered_as_before(engine: Engine) -> None:
    engine.projections.rebuild("run_list")
    with served(engine, **MEANT) as client:
        path, key = f"{API}/projections/run_list/drop", {"Idempotency-Key": "once"}
        answer = client.post(path, headers=key)
        assert answer.json()["tables"], answer.text
        again = client.post(path, headers=key)
        assert (again.status_code, again.json()) == (200, answer.json())
        refused(client.post(path), 422, "InvalidInput", "version")


def test_an_output_that_is_there_is_kept_if_asked_for(far: DeeClient, tmp_path: Path) -> None:
    run = far.list_runs(limit=1).runs[0].id
    (tmp_path / "run.json").write_text("mine")
    with pytest.raises(OutputExists):
        far.export_run(run, output=tmp_path / "run.json", replace=False)
    assert (tmp_path / "run.json").read_text() == "mine"


# --- how far it is --------------------------------------------------------------------------------


def test_progress_is_told_in_the_engines_words(engine: Engine, far: DeeClient) -> None:
    rebuilt: list[RebuildProgress] = []
    far.projections.verify("audit_trail", page=1, on_progress=rebuilt.append)
    assert {each.name for each in rebuilt} <= {"audit_trail"}
    phase = {"name": "run_list", "version": 2, "phase": "reading", "done": 3, "total": 9,
             "rate": 1.5, "secondsLeft": None}  # fmt: skip
    told: list[Any] = []
    seen = _telling(told.append)
    assert seen is not None
    for result in (None, phase, {"name": "run_list", "ok": True}):
        seen({"result": result})
    assert told == [RebuildProgress("run_list", 2, "reading", 3, 9, 1.5, None)]
    counted: list[Any] = []
    far_told = telling(lambda far_done, total: counted.append((far_done, total)))
    assert far_told is not None
    for total in (None, 20):
        far_told({"progress": {"done": 7, "total": total}})
    assert counted == [(7, 20)]
    turns: list[Any] = []
    in_turn = _in_turn(lambda *each: turns.append(each))
    for done in (0, 10, 11, 20):
        in_turn(done, 20)
    assert turns == [
        ("counting", 0, 10), ("counting", 10, 10), ("verifying", 1, 10), ("verifying", 10, 10)
    ]  # fmt: skip
    whats: list[Any] = []
    far.compliance.report(EPOCH, LATER, on_progress=lambda *each: whats.append(each))
    end = engine.audit.size()
    assert all(what in ("counting", "verifying") and at <= total <= end
               for what, at, total in whats)  # fmt: skip
    positions: list[int] = []
    far.verify_log(positions.append)
    assert all(type(each) is int for each in positions)


@pytest.mark.parametrize("format", ["json", "md", "html", "pdf"])
def test_a_report_of_what_is_no_text_is_refused(engine: Engine, format: str) -> None:
    document = document_of(engine.compliance.report(EPOCH, LATER))
    document["sections"]["sends"]["title"] = "\ud800"
    with served(engine, **MEANT) as client:
        content = json.dumps({"report": document, "format": format})
        as_json = {"content-type": "application/json"}
        answer = client.post(f"{API}/report/render", content=content, headers=as_json)
    refused(answer, 422, "InvalidInput", "report")
    with pytest.raises(InvalidInput, match="report"):
        report_of(document)


def test_a_report_given_again_is_not_shown_in_place(engine: Engine) -> None:
    given = {"report": document_of(engine.compliance.report(EPOCH, LATER)), "format": "html"}
    with served(engine, **MEANT) as client:
        key = {"Idempotency-Key": "once"}
        first, again = (
            client.post(f"{API}/report/render", json=given, headers=key) for _ in range(2)
        )
    assert again.headers["idempotent-replay"] == "true"
    assert again.content == first.content
    for answer in (first, again):
        assert answer.headers["content-disposition"] == 'attachment; filename="report.html"'
