"""The engine's clock where several threads read and move it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dee_es.adapters.storage.memory import open_memory
from dee_es.core.clock import TimeScale
from dee_es.engine.timekeeping import EngineClock
from dee_es.ports import EventStore
from tests.support.engines import EPOCH
from tests.support.system import FixedWallClock

AT_EPOCH = int(EPOCH.timestamp() * 1_000)


@pytest.fixture
def store() -> EventStore:
    store, _ = open_memory()
    return store


@pytest.fixture
def clock(store: EventStore) -> EngineClock:
    return EngineClock(store, FixedWallClock(), TimeScale(EPOCH, 1_000), "manual")


def once_behind(store: EventStore, name: str, act: Callable[[], object]) -> None:
    """Have another thread act once, just behind a call of the store whose answer is on its way."""
    real: Callable[..., Any] = getattr(store, name)

    def asked(*given: Any) -> Any:
        setattr(store, name, real)
        answer = real(*given)
        act()
        return answer

    setattr(store, name, asked)


def test_who_reads_the_log_takes_back_nothing_that_another_thread_reached_meanwhile(
    store: EventStore, clock: EngineClock
) -> None:
    once_behind(store, "log_head", lambda: clock.move_to(10))
    assert clock.refresh() == 10
    assert clock.now() == 10


def test_who_moves_it_takes_back_nothing_that_another_thread_reached_meanwhile(
    store: EventStore, clock: EngineClock
) -> None:
    once_behind(store, "advance_clock", lambda: clock.move_to(20))
    assert clock.move_to(10) == 20
    assert clock.now() == 20


def test_a_system_clock_reaches_a_tick_when_the_last_millisecond_before_it_is_over(
    store: EventStore,
) -> None:
    wall = FixedWallClock(AT_EPOCH)
    clock = EngineClock(store, wall, TimeScale(EPOCH, 1_000), "system")
    wall.advance(2_999)
    assert (clock.now(), clock.seconds_until(3), clock.behind_s()) == (2, 0.001, 0)
    wall.advance(1)
    assert (clock.now(), clock.seconds_until(3), clock.seconds_until(2)) == (3, 0, 0)
    assert clock.move_to(5) == 3, "nobody moves it by hand"
    wall.advance(-2_000)
    assert (clock.now(), clock.behind_s()) == (3, 2), "it stands until the wall has caught up"
    store.advance_clock(9)
    assert (clock.now(), clock.refresh(), clock.behind_s()) == (3, 9, 8)
    wall.advance(20_000)
    assert clock.refresh() == 21


def test_a_new_one_goes_on_where_the_log_is(store: EventStore) -> None:
    store.advance_clock(7)
    wall = FixedWallClock(AT_EPOCH)
    assert EngineClock(store, wall, TimeScale(EPOCH, 1_000), "system").now() == 7
    manual = EngineClock(store, wall, TimeScale(EPOCH, 1_000), "manual")
    assert (manual.now(), manual.behind_s()) == (7, 0)
