"""By the wall clock a tick is waited for. What others make due meanwhile is done as it becomes due,
and not when the wait is over."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dee_es import Engine, EngineConfig
from dee_es.adapters.channels.memory import MemoryChannel
from dee_es.adapters.keys import open_memory_keys
from dee_es.engine.models import TickReport
from dee_es.engine.scheduling import scheduler
from tests.support.engines import (
    BACKENDS,
    DAY,
    EPOCH,
    assert_replays,
    database_url,
    outreach,
    people,
    publish_basics,
)
from tests.support.system import FixedWallClock
from tests.support.waiting import PATIENCE_S, eventually


class Scene:
    """An engine by a wall clock that the test moves, and somebody who waits with it."""

    def __init__(self, url: str) -> None:
        self.wall = FixedWallClock(int(EPOCH.timestamp() * 1000))
        self.channel = MemoryChannel()
        config = EngineConfig(url, clock="system", epoch=EPOCH, max_concurrent_sends=1)
        self.engine = Engine(
            config,
            channels={"email": self.channel, "voice": self.channel},
            wall=self.wall,
            keys=open_memory_keys(),
        )
        publish_basics(self.engine)
        self.report: TickReport | None = None

    def enroll(self, nth: int) -> str:
        return self.engine.execute(outreach(), people(nth + 1)[nth]).id

    def sent(self) -> list[str]:
        return [action.run_id for action in self.channel.actions]

    def begin(self, wait: Callable[[], TickReport]) -> threading.Thread:
        """Have somebody wait, and see him at it."""

        def waited() -> None:
            self.report = wait()

        thread = threading.Thread(target=waited, daemon=True)
        thread.start()
        eventually(lambda: self.engine._leases.held)
        return thread


@pytest.fixture(params=BACKENDS)
def scene(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    fresh_postgres: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Scene]:
    monkeypatch.setattr(scheduler, "POLL_S", 0.01)
    made = Scene(database_url(request.param, tmp_path, fresh_postgres))
    with made.engine:
        yield made


def test_who_is_enrolled_meanwhile_does_not_wait_for_the_end(scene: Scene) -> None:
    thread = scene.begin(lambda: scene.engine.run_until(3600))
    run = scene.enroll(0)
    eventually(lambda: scene.sent() == [run])
    assert scene.engine.now().tick == 0
    scene.wall.advance(3_600_000)
    thread.join(PATIENCE_S)
    assert scene.report is not None
    assert (scene.report.tick, scene.report.delivered) == (3600, 1)
    assert_replays(scene.engine)


def test_who_is_due_earlier_does_not_wait_for_who_is_due_later(scene: Scene) -> None:
    first = scene.enroll(0)
    thread = scene.begin(scene.engine.run_until_idle)
    eventually(lambda: scene.sent() == [first])
    second = scene.enroll(1)
    eventually(lambda: scene.sent() == [first, second])
    assert scene.engine.now().tick == 0

    def over() -> bool:
        scene.wall.advance(DAY * 1000)
        return not thread.is_alive()

    eventually(over)
    assert scene.report is not None
    assert scene.report.delivered == 4
    assert scene.engine.list_runs(status="completed").total == 2
    assert_replays(scene.engine)
