"""Requests repeated under one `Idempotency-Key`: at once, after a crash, and after an erasure."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from dee_es import Engine, EngineConfig
from dee_es.adapters.anchors import MemorySigners
from dee_es.adapters.channels.memory import MemoryChannel
from dee_es.engine import idempotency
from tests.support.engines import EPOCH, outreach, publish_basics
from tests.support.storage.postgres import FreshPostgres
from tests.support.waiting import PATIENCE_S
from tests.support.web.application import API, MEANT, PERSON, Client, refused, served, start

ROOT = Path(__file__).parents[3]


def opened(url: str, folder: Path) -> Engine:
    """An engine that finds its keys again."""
    chosen = EngineConfig(
        url,
        keys=f"sqlite:///{folder / 'keys.db'}",
        clock="manual",
        epoch=EPOCH,
        certificates=str(folder / "certificates"),
    )
    channel = MemoryChannel()
    both = {"email": channel, "voice": channel}
    return Engine(chosen, channels=both, signers=MemorySigners(b"calls"))


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind that outlives a process."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'dee.db'}"
    fresh: FreshPostgres = request.getfixturevalue("fresh_postgres")
    return fresh()


@pytest.fixture
def engine(url: str, tmp_path: Path) -> Iterator[Engine]:
    with opened(url, tmp_path) as engine:
        publish_basics(engine)
        engine.publish_plan(outreach())
        yield engine


def key(name: str = "once") -> dict[str, str]:
    return {"Idempotency-Key": name}


def rows(url: str) -> list[tuple[Any, ...]]:
    """What the database keeps of requests, by its own shell."""
    statement = "SELECT * FROM kept_calls"
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
            return connection.execute(statement).fetchall()
    with psycopg.connect(url) as connection:
        return connection.execute(statement).fetchall()


def test_an_answer_outlives_the_server(engine: Engine, url: str, tmp_path: Path) -> None:
    with served(engine, **MEANT) as client:
        run = start(client, **key())
        path = f"{API}/runs/{run['id']}/pause"
        first = client.post(path, headers=key("p"))
        client.post(f"{API}/runs/{run['id']}/resume")
    engine.close()
    with opened(url, tmp_path) as other, served(other, **MEANT) as client:
        again = client.post(path, headers=key("p"))
        assert again.headers["idempotent-replay"] == "true"
        assert again.headers["content-type"] == first.headers["content-type"]
        assert again.json() == first.json()
        assert other.get_run(run["id"]).status == "active", "it was not paused once more"
        assert start(client, **key()) == run
        refused(client.post(path, json={"reason": "x"}, headers=key("p")), 422,
                "IdempotencyKeyReused")  # fmt: skip
        assert other.list_runs().total == 1


def test_neither_addresses_nor_keys_are_in_the_database_in_plain(engine: Engine, url: str) -> None:
    with served(engine, **MEANT) as client:
        given = {
            "plan": "outreach",
            "contact": PERSON,
            "variables": {"secret": "only for jane"},
        }
        answer = client.post(f"{API}/runs", json=given, headers=key("the-callers-own-key"))
        assert "only for jane" in answer.text
        again = client.post(f"{API}/runs", json=given, headers=key("the-callers-own-key"))
        assert again.json() == answer.json()
    ((request_id, _, _, _, _, sealed),) = rows(url)
    held = repr(rows(url))
    assert sealed
    for told in ("jane", "only for", "the-callers", "contact_123"):
        assert told not in held
        assert told.encode() not in bytes(sealed)
    assert request_id.startswith("http.")


def test_an_erasure_lets_answers_go(engine: Engine, url: str) -> None:
    with served(engine, **MEANT) as client:
        start(client)
        run = start(client, "other", **key())
        assert rows(url)[0][-1] is not None
        erased = client.post(f"{API}/contacts/contact_123/erase", json={"reason": "asked to"})
        assert erased.status_code == 200, erased.text
        assert [row[-1] for row in rows(url)] == [None], "whomever they are about"
        # It is decided again, and does nothing again: the log knows the command.
        assert start(client, "other", **key()) == run
        assert engine.list_runs().total == 2
        other = client.post(f"{API}/runs", json={"plan": "outreach"}, headers=key())
        refused(other, 422, "IdempotencyKeyReused")


CRASH = """
import os, sys
from pathlib import Path
from dee_es.engine.idempotency import Idempotency
from tests.integration.web.test_repeated import API, MEANT, key, opened, served, start
url, folder = sys.argv[1], Path(sys.argv[2])
engine = opened(url, folder)
Idempotency.end = lambda *_: os._exit(9)
with served(engine, **MEANT) as client:
    start(client, **key())
"""


def test_a_process_that_died_after_acting_does_not_act_twice(
    engine: Engine, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It dies between what it did and the answer: the next one waits, and then goes on."""
    engine.close()
    sooner = "import dee_es.engine.idempotency as i; i.ATTEMPT_MS = 1_500\n"
    patched = CRASH.replace("url, folder", sooner + "url, folder", 1)
    ended = subprocess.run(
        [sys.executable, "-c", patched, url, str(tmp_path)], cwd=ROOT, timeout=60, check=False
    )
    assert ended.returncode == 9
    with opened(url, tmp_path) as other, served(other, **MEANT) as client:
        given = {"plan": "outreach", "contact": {**PERSON, "id": "contact_123"}}
        answer = client.post(f"{API}/runs", json=given, headers=key())
        if answer.status_code != 201:
            refused(answer, 409, "CallUnderWay")
            assert answer.headers["retry-after"] == "1"
        otherwise = client.post(f"{API}/runs", json={"plan": "x"}, headers=key())
        refused(otherwise, 422, "IdempotencyKeyReused")
        ends = time.monotonic() + PATIENCE_S
        while answer.status_code == 409 and time.monotonic() < ends:
            time.sleep(0.1)
            answer = client.post(f"{API}/runs", json=given, headers=key())
        assert answer.status_code == 201, answer.text
        assert other.list_runs().total == 1
        assert answer.json()["id"] == other.list_runs().runs[0].id


# --- at once --------------------------------------------------------------------------------------


@pytest.fixture
def client(engine: Engine) -> Iterator[Client]:
    with served(engine, **MEANT) as client:
        yield client


def test_an_attempt_under_way_is_told_and_its_answer_is_had_after_it(
    client: Client, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    plain = engine.publish_template

    def slow(*args: Any, **options: Any) -> int:
        begun.set()
        assert go_on.wait(60)
        return plain(*args, **options)

    monkeypatch.setattr(engine, "publish_template", slow)
    # Short enough for the attempt to count as dead, were it not renewed.
    monkeypatch.setattr(idempotency, "ATTEMPT_MS", 2_500)
    monkeypatch.setattr("dee_es.web.idempotency.RENEW_S", 0.05)
    given = {"id": "slow", "text": "Hello"}

    def publish() -> Any:
        return client.post(f"{API}/templates", json=given, headers=key())

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(publish)
        assert begun.wait(60)
        for _ in range(3):
            answer = publish()
            refused(answer, 409, "CallUnderWay")
            assert answer.headers["retry-after"] == "1"
            time.sleep(0.9)
        other = client.post(f"{API}/templates", json={**given, "text": "x"}, headers=key())
        refused(other, 422, "IdempotencyKeyReused")
        go_on.set()
        assert first.result().json() == {"id": "slow", "version": 1}
    again = publish()
    assert (again.json(), again.headers["idempotent-replay"]) == (first.result().json(), "true")


def test_a_failure_that_may_have_acted_keeps_the_key_for_its_call(
    client: Client, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> int:
        raise RuntimeError("lost")

    given = {"id": "t", "text": "Hello"}
    with monkeypatch.context() as patch:
        patch.setattr(engine, "publish_template", broken)
        failed = client.post(f"{API}/templates", json=given, headers=key())
        refused(failed, 500, "InternalError")
    other = client.post(f"{API}/templates", json={"id": "u", "text": "x"}, headers=key())
    refused(other, 422, "IdempotencyKeyReused")
    assert client.post(f"{API}/templates", json=given, headers=key()).json()["version"] == 1


def test_a_job_s_key_is_for_its_call_after_a_restart_too(engine: Engine) -> None:
    given = {"filters": {"planId": "outreach"}, "reason": "over"}
    for _ in range(2):
        with served(engine, **MEANT) as client:
            path = f"{API}/runs/bulk-cancel"
            assert client.post(path, json=given, headers=key()).status_code == 202
            other = client.post(path, json={**given, "reason": "other"}, headers=key())
            refused(other, 422, "IdempotencyKeyReused")
