"""What `health` tells somebody on call."""

from __future__ import annotations

from dee_es import Engine, EngineConfig
from dee_es.adapters.channels.memory import MemoryChannel
from tests.support.engines import outreach, publish_basics
from tests.support.system import FixedWallClock


def on_a_system_clock() -> tuple[Engine, FixedWallClock]:
    wall = FixedWallClock()
    channel = MemoryChannel()
    engine = Engine(
        EngineConfig(":memory:"), wall=wall, channels={"email": channel, "voice": channel}
    )
    publish_basics(engine)
    return engine, wall


def test_all_is_well_while_a_scheduler_keeps_up() -> None:
    engine, wall = on_a_system_clock()
    with engine:
        engine.execute(outreach(), {"id": "a", "email": "a@example.com", "firstName": "A"})
        engine.tick()
        wall.advance(3_600_000)
        found = engine.health()
        assert (found.ok, found.problems, found.runs) == (True, (), 1)
        assert found.lag["run_list"] == 0


def test_runs_that_nobody_advances_are_told() -> None:
    engine, wall = on_a_system_clock()
    with engine:
        engine.execute(outreach(), {"id": "a", "email": "a@example.com", "firstName": "A"})
        wall.advance(61_000)
        (problem,) = engine.health().problems
        assert "no worker is at work" in problem
        assert not engine.health().ok
        engine.tick()
        assert engine.health().ok


def test_a_worker_that_does_not_get_on_is_told_with_the_run_that_waits_longest() -> None:
    """It may be one that the worker's code cannot read, whatever the code here can."""
    engine, wall = on_a_system_clock()
    with engine:
        run = engine.execute(outreach(), {"id": "a", "email": "a@example.com", "firstName": "A"})
        assert engine._parts.store.acquire_lease((0, 1), "another", 60_000)
        wall.advance(60_000)
        assert engine.health().ok
        wall.advance(1_000)
        (problem,) = engine.health().problems
        assert f"{run.id} before all others; a worker is at work" in problem
        assert "run_held_up" in problem


def test_a_wall_clock_that_was_set_back_is_told() -> None:
    engine, wall = on_a_system_clock()
    with engine:
        wall.advance(600_000)
        run = engine.execute(outreach(), {"id": "a", "email": "a@example.com", "firstName": "A"})
        engine.tick()
        wall.advance(-500_000)
        (problem,) = engine.health().problems
        assert "500 s behind" in problem
        # Time stands still meanwhile; it never goes back.
        assert engine.now().tick == run.start_tick


def test_runs_that_failed_are_advice_and_no_fault_of_the_service() -> None:
    """They wait for somebody, who is told how many they are and what to ask next."""
    engine, _ = on_a_system_clock()
    with engine:
        for who in ("a", "b"):
            # Without a first name the template cannot be filled in.
            failed = engine.execute(outreach(), {"id": who, "email": f"{who}@example.com"})
            engine.tick()
            found = engine.health()
            assert (found.ok, found.problems) == (True, ())
            (advice,) = found.advice
            assert advice.startswith("1 run has failed" if who == "a" else "2 runs have failed")
            assert "`dee runs list --status failed`" in advice
            assert "`dee explain RUN`" in advice
        engine.cancel_run(failed.id, "nothing to be done")
        assert engine.health().advice[0].startswith("1 run has failed")
