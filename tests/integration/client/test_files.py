"""Runs as files and runs decided again over HTTP: who may, what is recorded, and how much."""

from __future__ import annotations

import io
import json
import sqlite3
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dee_es import Engine, EngineConfig
from dee_es.adapters.channels.memory import MemoryChannel
from dee_es.client import ApiRefused, DeeClient
from dee_es.client.history import _event
from dee_es.core.ids import is_run
from dee_es.engine.past.replay_results import Divergence, ReplaySummary
from dee_es.errors import AnchorUnavailable, InvalidInput, OutputExists, UnknownEventVersion
from tests.support.engines import EPOCH, open_engine, outreach, publish_basics
from tests.support.waiting import PATIENCE_S
from tests.support.web.application import (
    API,
    MEANT,
    SETTINGS,
    Client,
    bearer,
    ended,
    refused,
    said,
    served,
    start,
    with_users,
)
from tests.support.web.listening import listening

BINARY = {"content-type": "application/octet-stream"}


@pytest.fixture
def far(engine: Engine) -> Iterator[DeeClient]:
    """A client of a server on the engine."""
    with listening(engine) as url, DeeClient(url) as client:
        yield client


@pytest.fixture
def run(engine: Engine) -> str:
    person = {"id": "c1", "email": "ada@example.com", "firstName": "Ada"}
    run = engine.execute(engine.get_plan("outreach"), person, {"offer": 7}).id
    engine.tick()
    return run


def exports(engine: Engine) -> list[dict[str, Any]]:
    """What the log says of runs that were exported, with who did so."""
    found = engine.audit.query(actions=["log.exported"]).entries
    told = [{**(e.input or {}), **(e.output or {}), "actor": e.actor} for e in found]
    # Looking at the trail is recorded as well.
    return [each for each in told if each["format"] == "dee-run/1"]


# --- out ------------------------------------------------------------------------------------------


def test_a_file_on_this_machine_is_the_owners_alone(
    far: DeeClient, engine: Engine, run: str, tmp_path: Path
) -> None:
    path = tmp_path / "new" / "run.json"
    content = far.export_run(run, output=path, reason="ticket 77")
    assert path.read_bytes() == content == engine.export_run(run)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = len(exports(engine))
    with pytest.raises(OutputExists, match="is there already"):
        far.export_run(run, output=str(path), replace=False)
    assert len(exports(engine)) == before, "what is not given out is not recorded"
    other = far.export_run(run, personal_data=False, output=str(path))
    assert path.read_bytes() == other != content
    assert far.export_run(run, output=path.with_name("b.json"), replace=False) == content
    assert sorted(each.name for each in path.parent.iterdir()) == ["b.json", "run.json"]
    stream = io.BytesIO()
    assert far.export_run(run, output=stream) == stream.getvalue() == content
    assert far.export_run(run, target="a colleague") == content
    told = exports(engine)
    assert [each.get("target") for each in told] == [
        str(path), None, str(path), str(path.with_name("b.json")), "stream", "a colleague"
    ]  # fmt: skip
    assert [each["actor"] for each in told] == ["robin", "tester", *["robin"] * 4]
    personal = [bool(each.get("personal_data")) for each in told]
    assert personal == [True, True, False, True, True, True]


def test_what_cannot_be_written_is_not_given_out(
    far: DeeClient, engine: Engine, run: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(AnchorUnavailable):
        far.export_run(run, output=tmp_path / "file" / "run.json")
    for bad in ("s3://bucket/run.json", str(tmp_path), "", 5):
        with pytest.raises(InvalidInput, match="output"):
            far.export_run(run, output=bad)  # type: ignore[arg-type]
    assert exports(engine) == []


def test_a_file_that_an_admin_asked_for_is_not_for_others(engine: Engine, tmp_path: Path) -> None:
    settings, tokens = with_users(tmp_path)
    with served(engine, settings) as client:
        run = start(client, **bearer(tokens["admin"]))["id"]
        path, key = f"{API}/runs/{run}/export", {"Idempotency-Key": "once"}
        refused(client.post(path, headers=bearer(tokens["operator"])), 403, "NotAllowed")
        admin = bearer(tokens["admin"])
        answer = client.post(path, headers={**admin, **key})
        job = ended(client, answer, **admin)
        assert said(client.get(job["file"], headers=bearer(tokens["operator"])))[0] == 403
        file = client.get(job["file"], headers=admin)
        assert json.loads(file.content)["runId"] == run
        again = client.post(path, headers={**admin, **key})
        assert again.headers["location"] == answer.headers["location"]
        other = client.post(path, json={"personalData": False}, headers={**admin, **key})
        refused(other, 422, "IdempotencyKeyReused")
        (told,) = exports(engine)
        assert (told["actor"], told["digest"]) == ("admin-token", job["result"]["digest"])
        nobody = client.post(f"{API}/runs/run_none/export", headers=admin)
        assert ended(client, nobody, **admin)["problem"]["error"] == "RunNotFound"


@pytest.mark.parametrize("target", [r'"\ud800"', '"' + "x" * 10_001 + '"'])
def test_a_target_that_nobody_could_keep_is_refused(engine: Engine, run: str, target: str) -> None:
    with served(engine, **MEANT) as client:
        as_json = {"content-type": "application/json"}
        content = f'{{"target":{target}}}'
        answer = client.post(f"{API}/runs/{run}/export", content=content, headers=as_json)
    refused(answer, 422, "InvalidInput", "target")
    assert exports(engine) == []


# --- in -------------------------------------------------------------------------------------------


def test_a_run_goes_from_server_to_server(far: DeeClient, engine: Engine, run: str) -> None:
    content = far.export_run(run)
    with open_engine(":memory:") as scratch, listening(scratch) as url, DeeClient(url) as there:
        assert there.import_run(content) == run
        assert there.import_run(content) == run
        assert there.replay(run).identical
        assert there.verify_log().valid
        assert there.get_run(run) == far.get_run(run) == engine.get_run(run)
        assert there.export_run(run) == content
        original = [(e.name, e.event, e.meta) for e in engine.get_events(run)]
        assert [(e.name, e.event, e.meta) for e in there.get_events(run)] == original


def long_run(engine: Engine) -> tuple[str, bytes]:
    """A run whose file is longer than a body that is no file may be."""
    variables = {f"v{n}": "x" * 50_000 for n in range(4)}
    run = engine.execute(engine.get_plan("outreach"), {"id": "long"}, variables).id
    for _ in range(40):
        engine.ingest_event("email.opened", "long", data={"text": "y" * 50_000})
    return run, engine.export_run(run)


def test_a_file_is_streamed_up_to_its_limit(engine: Engine) -> None:
    run, content = long_run(engine)
    assert len(content) > SETTINGS.max_body
    path = f"{API}/runs/import"
    with open_engine(":memory:") as scratch, served(scratch, **MEANT) as client:
        answer = client.post(path, content=content, headers={**BINARY, "Idempotency-Key": "a"})
        assert (answer.status_code, answer.json()) == (200, {"runId": run})
        again = client.post(path, content=content, headers={**BINARY, "Idempotency-Key": "a"})
        assert again.json() == answer.json()
        other = client.post(path, content=content[:-1], headers={**BINARY, "Idempotency-Key": "a"})
        refused(other, 422, "IdempotencyKeyReused")
        cut = client.post(path, content=content[:-9], headers=BINARY)
        refused(cut, 422, "InvalidInput", "file")
        kind = {"content-type": "application/json"}
        refused(client.post(path, json={}, headers=kind), 415, "UnsupportedMediaType")
    settings = replace(SETTINGS, max_upload=len(content) - 1)
    with open_engine(":memory:") as scratch:
        with served(scratch, settings, **MEANT) as client:
            refused(client.post(path, content=content, headers=BINARY), 413, "BodyTooLarge")
        with listening(scratch, settings) as url, DeeClient(url) as there:
            with pytest.raises(ApiRefused) as error:
                there.import_run(content)
            assert error.value.error == "BodyTooLarge"
        assert scratch.list_runs().total == 0


def test_a_file_of_a_newer_program_is_no_failure_of_the_server(engine: Engine, run: str) -> None:
    file = json.loads(engine.export_run(run))
    file["streams"][-1]["events"][0]["name"] = "RunImagined"
    with served(engine, **MEANT) as client:
        content = json.dumps(file).encode()
        answer = client.post(f"{API}/runs/import", content=content, headers=BINARY)
    refused(answer, 422, "UnknownEventVersion")


# --- decided again --------------------------------------------------------------------------------


def test_runs_that_cannot_be_read_are_told_and_stop_nothing(
    far: DeeClient, engine: Engine, tmp_path: Path
) -> None:
    engine.bulk_execute(outreach(), ({"id": f"d{n}"} for n in range(600)))
    engine.tick()
    victims = [each.id for each in engine.list_runs(limit=3).runs]
    with closing(sqlite3.connect(tmp_path / "dee.db")) as raw, raw:
        for (name,) in raw.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'"):
            raw.execute(f"DROP TRIGGER {name}")
        for victim in victims:
            raw.execute(
                "UPDATE stored_events SET state = substr(state, 1, 40) "
                "WHERE originator_id = ? AND originator_version > 1",
                (victim,),
            )
    theirs: list[Divergence] = []
    ours: list[Divergence] = []
    sums: list[int] = []
    summary = far.replay_all(
        on_progress=lambda so_far: sums.append(so_far.runs), on_divergence=theirs.append
    )
    assert summary == engine.replay_all(on_divergence=ours.append)
    assert (summary.runs, summary.unreadable, summary.ok) == (600, 3, False)
    assert theirs == ours
    assert sorted(each.run_id for each in theirs) == sorted(victims)
    assert sums == sorted(sums)
    assert sums[-1] == 600


def test_several_processes_of_the_server_share_a_replay(tmp_path: Path) -> None:
    config = EngineConfig(
        f"sqlite:///{tmp_path / 'dee.db'}",
        keys=f"sqlite:///{tmp_path / 'keys.db'}",
        clock="manual",
        epoch=EPOCH,
    )
    with Engine(config, channels={"email": MemoryChannel()}) as engine:
        publish_basics(engine)
        engine.bulk_execute(outreach(), ({"id": f"d{n}"} for n in range(1_100)), batch_size=1_100)
        with listening(engine) as url, DeeClient(url) as far:
            summary = far.replay_all(workers=2)
            assert (summary.runs, summary.identical) == (1_100, 1_100)


def test_a_replay_is_ended_early(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """It gets no further than it was when that was asked for."""
    engine.bulk_execute(outreach(), ({"id": f"d{n}"} for n in range(3_000)), batch_size=3_000)
    asked = threading.Event()
    replay_all = engine.replay_all

    def waiting(*, on_progress: Callable[[ReplaySummary], None], **given: Any) -> ReplaySummary:
        def told(so_far: ReplaySummary) -> None:
            assert asked.wait(PATIENCE_S)
            on_progress(so_far)

        return replay_all(on_progress=told, **given)

    monkeypatch.setattr(engine, "replay_all", waiting)
    with served(engine, **MEANT) as client:
        answer = client.post(f"{API}/runs/bulk-replay")
        client.delete(answer.headers["location"])
        asked.set()
        job = ended(client, answer)
        assert job["state"] == "aborted"
        assert job["result"] is None or job["result"]["runs"] < 3_000
        refused(client.get(f"{API}/jobs/{job['id']}/file"), 404, "FileNotFound")


# --- events ---------------------------------------------------------------------------------------


def test_events_are_the_very_ones(far: DeeClient, engine: Engine, run: str) -> None:
    engine.ingest_event("email.bounced", "c1", data={"kind": "soft", "n": [1, 2.5, None]})
    engine.cancel_run(run, "over")
    for each in (run, start_of_another(engine)):
        assert is_run(each)
        assert far.get_events(each) == engine.get_events(each)
    engine.erase_contact("c1", "asked")
    assert far.get_events(run) == engine.get_events(run)
    assert far.get_events(run)[0].erased


def start_of_another(engine: Engine) -> str:
    later = EPOCH.replace(month=2)
    return engine.execute(engine.get_plan("outreach"), {"id": "c2"}, start_at=later).id


def test_events_of_a_later_server_are_refused(client: Client, engine: Engine, run: str) -> None:
    first = client.get(f"{API}/runs/{run}/events").json()[0]
    assert _event(first) == engine.get_events(run)[0]
    for changed in ({"name": "RunTeleported"}, {"event": {"plan_id": 5}}):
        with pytest.raises(UnknownEventVersion):
            _event({**first, **changed})


# --- stepped through ------------------------------------------------------------------------------


def test_what_a_run_is_debugged_by(client: Client, engine: Engine, run: str) -> None:
    path, position = f"{API}/runs/{run}", engine.health().position
    first = client.get(f"{path}/debug").json()
    assert (first["version"], first["lastVersion"], first["next"]["context"]) == (0, 6, None)
    assert client.get(f"{path}/debug?version=6").json()["next"] is None
    refused(client.get(f"{path}/debug?version=7"), 422, "InvalidInput", "version")
    replied = {"type": "email.replied"}
    found = client.post(f"{path}/what-if", json={"version": 5, "event": replied}).json()
    assert found["events"][0]["event"] == "event.received"
    assert found == client.post(f"{path}/what-if", json={"version": 5, "event": replied}).json()
    twice = {"version": 5, "event": replied, "variable": {"name": "offer", "value": 8}}
    refused(client.post(f"{path}/what-if", json=twice), 422, "InvalidInput", "variable")
    refused(client.post(f"{path}/what-if", json={"version": 0}), 422, "InvalidInput", "version")
    assert engine.health().position == position


def test_a_session_is_of_the_run_as_it_was_then(far: DeeClient, engine: Engine, run: str) -> None:
    there, here = far.debug(run), engine.debug(run)
    engine.cancel_run(run, "over")
    there.goto(6)
    here.goto(6)
    assert not there.has_next()
    assert there.at() == here.at()
    with pytest.raises(InvalidInput, match="is the last"):
        there.step_forward()
