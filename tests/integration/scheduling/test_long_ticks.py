"""While a tick is at work, time goes on and others write: no run ever goes back in time for it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dee_es import Engine, ExecutionRun
from dee_es.adapters.channels.memory import MemoryChannel
from dee_es.ports import Action, ChannelResult, SendContext
from tests.support.engines import (
    BACKENDS,
    DAY,
    assert_replays,
    database_url,
    open_engine,
    outreach,
    publish_basics,
)

LATER = 5


class Scene:
    """Three runs, looked at one by one; while the first is sent, all are opened at a later tick."""

    def __init__(self, url: str) -> None:
        self.engine: Engine = open_engine(url, channel=MemoryChannel(self._answer), page=1)
        publish_basics(self.engine)
        people = [{"id": f"c{n}", "email": f"c{n}@example.com", "firstName": "N"} for n in range(3)]
        self.runs: list[ExecutionRun] = [self.engine.execute(outreach(), each) for each in people]

    def _answer(self, action: Action, _: SendContext) -> ChannelResult:
        if self.engine.now().tick < LATER:
            self.engine._parts.store.advance_clock(LATER)
            self.engine.clock.refresh()
            for run in self.runs:
                self.engine.ingest_event("email.opened", run.contact_id, run_id=run.id)
        return ChannelResult("delivered", "msg_1")

    def ticks(self) -> list[list[int]]:
        return [[each.tick for each in self.engine.get_timeline(run.id)] for run in self.runs]


@pytest.fixture(params=BACKENDS)
def scene(
    request: pytest.FixtureRequest, tmp_path: Path, fresh_postgres: Callable[[], str]
) -> Iterator[Scene]:
    made = Scene(database_url(request.param, tmp_path, fresh_postgres))
    with made.engine:
        yield made


def test_a_runs_ticks_never_go_back(scene: Scene) -> None:
    scene.engine.tick()
    scene.engine.tick()
    for run, ticks in zip(scene.runs, scene.ticks(), strict=True):
        assert ticks == sorted(ticks)
        assert ticks[-1] == LATER
        assert scene.engine.get_run(run.id).current_step == "pause"
        # Nothing of what came later is in the run as it stood then.
        past = scene.engine.run_at(run.id, tick=LATER - 1)
        assert past.version == sum(tick < LATER for tick in ticks)
    assert_replays(scene.engine)


@pytest.mark.parametrize("how", ["run_until", "run_until_idle", "worker"])
def test_what_has_to_wait_is_done_at_the_later_tick(scene: Scene, how: str) -> None:
    if how == "run_until":
        scene.engine.run_until(4 * DAY)
    elif how == "run_until_idle":
        scene.engine.run_until_idle()
    else:
        stop, ticks = threading.Event(), []

        def on_tick(_: object) -> None:
            ticks.append(1)
            if len(ticks) == 2:
                stop.set()

        scene.engine.worker(stop, on_tick)
    step = {"run_until": "rest", "run_until_idle": None, "worker": "pause"}[how]
    assert {scene.engine.get_run(run.id).current_step for run in scene.runs} == {step}
    assert all(ticks == sorted(ticks) for ticks in scene.ticks())
