"""Threads of one engine at work at the same time: none waits for another that waits for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dee_es import Engine, EngineConfig
from dee_es.adapters.channels.memory import MemoryChannel
from tests.support.engines import EPOCH, assert_replays, database_url, outreach, publish_basics
from tests.support.waiting import PATIENCE_S

WORKED_S = 3.0


def person(prefix: str, number: int) -> dict[str, str]:
    name = f"{prefix}{number}"
    return {"id": name, "email": f"{name}@example.com", "firstName": "N"}


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_enrolments_ticks_and_single_runs_go_on_beside_each_other(
    kind: str, tmp_path: Path, fresh_postgres: Callable[[], str]
) -> None:
    """The keys are in a database of the same kind, whose locks are held as well."""
    config = EngineConfig(
        database_url(kind, tmp_path, fresh_postgres),
        keys=database_url("sqlite", tmp_path / "keys", fresh_postgres)
        if kind == "sqlite"
        else fresh_postgres(),
        master_key_file=str(tmp_path / "master.key"),
        clock="manual",
        epoch=EPOCH,
        max_runs_per_tick=20,
    )
    (tmp_path / "keys").mkdir()
    channel = MemoryChannel()
    with Engine(config, channels={"email": channel, "voice": channel}) as engine:
        publish_basics(engine)
        engine.publish_policy({"limits": {"perDay": {"channel": {"email": 10**6}, "contact": 3}}})
        ends = time.monotonic() + WORKED_S
        done = {"bulk": 0, "one": 0, "two": 0}

        def enroll() -> None:
            while time.monotonic() < ends:
                people = [person("bulk", done["bulk"] + n) for n in range(90)]
                # One of them is suppressed, which is recorded behind the part.
                engine.suppress(contact_id=people[7]["id"], reason="asked")
                result = engine.bulk_execute(outreach(), people, batch_size=30)
                assert (result.created, result.skipped) == (89, 1)
                done["bulk"] += 90

        def execute(name: str) -> None:
            while time.monotonic() < ends:
                engine.execute(outreach(), person(name, done[name]))
                done[name] += 1

        def tick() -> None:
            while time.monotonic() < ends:
                engine.tick()

        threads = [
            threading.Thread(target=work, args=names, daemon=True)
            for work, names in ((enroll, ()), (tick, ()), (execute, ("one",)), (execute, ("two",)))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WORKED_S + PATIENCE_S)
            assert not thread.is_alive()
        assert min(done.values()) > 0
        engine.tick()
        created = done["bulk"] * 89 // 90 + done["one"] + done["two"]
        assert engine.list_runs(limit=1).total == created
        assert len(channel.sent) == created
        assert_replays(engine)
