"""On PostgreSQL the time is that of its server, whatever the clocks of those say who have it open.

One of them a day ahead would have all sent that is due within a day, outside all windows, and the
time of a database never goes back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from dee_es import Engine, EngineConfig
from dee_es.adapters.channels.memory import MemoryChannel
from dee_es.adapters.keys import open_memory_keys
from dee_es.adapters.storage.postgres import clock
from dee_es.adapters.storage.postgres.database import PostgresDatabase
from dee_es.adapters.system import SystemWallClock
from dee_es.engine import timekeeping
from tests.support.engines import outreach, people, publish_basics

NEAR = timedelta(minutes=1)
AHEAD_MS = 4 * 86_400_000


@pytest.fixture
def url(fresh_postgres: Callable[[], str]) -> str:
    return fresh_postgres()


@pytest.fixture
def ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of this machine is set to what it will be in four days."""
    right = SystemWallClock.now_ms
    monkeypatch.setattr(SystemWallClock, "now_ms", lambda self: right(self) + AHEAD_MS)


def opened(url: str, channel: MemoryChannel | None = None) -> Engine:
    """An engine as `dee` opens it: the system's clock, nothing given."""
    channels = {"email": channel or MemoryChannel()}
    engine = Engine(EngineConfig(url), channels=channels, keys=open_memory_keys())
    publish_basics(engine)
    return engine


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    with opened(url) as engine:
        yield engine


def by_the_server(url: str) -> datetime:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT clock_timestamp()").fetchone()
    assert row is not None
    found: datetime = row[0]
    return found.astimezone(UTC)


def server_set_ahead(patch: pytest.MonkeyPatch) -> None:
    """From now on the server tells a time that is hours ahead of the one that it has told."""
    patch.setattr(clock, "_NOW", f"SELECT {PostgresDatabase.now_ms} + {AHEAD_MS}")


@pytest.mark.usefixtures("ahead")
def test_a_database_begins_and_goes_by_the_servers_clock(url: str) -> None:
    with opened(url) as engine:
        assert abs(by_the_server(url) - engine.now().now) < NEAR
        assert abs(by_the_server(url) - engine.now().epoch) < NEAR


@pytest.mark.usefixtures("ahead")
def test_a_machine_that_is_ahead_sends_nothing_early(url: str) -> None:
    channel = MemoryChannel()
    with opened(url, channel) as engine:
        run = engine.execute(outreach(), people(1)[0])
        for _ in range(3):
            engine.tick()
        found = engine.get_run(run.id)
        assert (found.status, found.current_step) == ("waiting", "pause")
        assert len(channel.actions) == 1
        assert engine.health().problems == ()
        recorded = engine.get_logs(run.id)[-1].recorded_at
        assert abs(by_the_server(url) - recorded) < NEAR


@pytest.mark.usefixtures("ahead")
def test_a_file_has_the_clock_of_its_machine(tmp_path: Path) -> None:
    with opened(f"sqlite:///{tmp_path / 'dee.db'}") as engine:
        assert engine.now().now - datetime.now(UTC) > NEAR


def test_a_worker_follows_a_servers_clock_that_is_set(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = engine.execute(outreach(), people(1)[0])
    engine.tick()
    server_set_ahead(monkeypatch)
    assert engine.get_run(run.id).current_step == "pause"
    engine.tick()
    assert engine.get_run(run.id).current_step == "again"


def test_a_command_looks_at_it_once_a_minute(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.publish_plan(outreach())
    before = engine.now().tick
    server_set_ahead(monkeypatch)
    first, second = people(2)
    engine.execute(outreach(), first)
    assert engine.now().tick - before < NEAR.total_seconds()
    monkeypatch.setattr(timekeeping, "_LEVEL_S", 0.0)
    run = engine.execute(outreach(), second)
    assert run.start_tick - before > AHEAD_MS // 1000 - NEAR.total_seconds()
