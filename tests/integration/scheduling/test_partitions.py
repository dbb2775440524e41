"""One of several workers leaves to the others what is theirs, and waits for nothing of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest

from dee_es import Engine, EngineConfig
from dee_es.adapters.channels.memory import MemoryChannel
from dee_es.core.commands import Advance
from dee_es.core.ids import slice_of
from dee_es.engine import transact
from tests.support.engines import DAY, EPOCH, outreach, people, publish_basics

MINE: Final = [each for each in people(20) if slice_of(each["id"]) % 2 == 0]
THEIRS: Final = [each for each in people(20) if slice_of(each["id"]) % 2 == 1]


def opened() -> Engine:
    """The engine of the first of two partitions, on a database that has runs of both."""
    config = EngineConfig(":memory:", clock="manual", epoch=EPOCH, partition=(0, 2))
    engine = Engine(config, channels={"email": MemoryChannel(), "voice": MemoryChannel()})
    publish_basics(engine)
    return engine


@pytest.mark.parametrize(
    "reach", [lambda engine: engine.run_until(9 * DAY), lambda engine: engine.run_until_idle()]
)
@pytest.mark.parametrize("held_up", [False, True], ids=["all well", "one held up"])
def test_the_way_to_a_later_tick_leads_past_what_is_due_to_others(
    reach: Callable[[Engine], object], held_up: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    decision, bad = transact.decision, set[str]()

    def deciding(materials: Any, state: Any, command: Any) -> Any:
        if state.run_id in bad and isinstance(command, Advance):
            raise ValueError("cannot be decided")
        return decision(materials, state, command)

    monkeypatch.setattr(transact, "decision", deciding)
    with opened() as engine:
        plan = outreach()
        theirs = [engine.execute(plan, each).id for each in THEIRS]
        mine = [engine.execute(plan, each).id for each in MINE]
        if held_up:
            bad.add(mine.pop())
            with pytest.raises(ValueError, match="cannot be decided"):
                reach(engine)
        else:
            reach(engine)
        assert {engine.get_run(run).outcome for run in mine} == {"silent"}
        assert {engine.get_run(run).steps_completed for run in [*theirs, *bad]} == {0}
