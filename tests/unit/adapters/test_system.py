"""Wall time and command ids from the operating system, and their stand-ins in tests."""

from __future__ import annotations

import re
import time

from dee_es.adapters.system import RandomIds, SystemWallClock
from tests.support.system import FixedWallClock, SeededIds, SeededKeySource

COMMAND_ID = re.compile(r"cmd_[a-z2-7]{26}\Z")


def test_command_ids_differ_and_have_one_form() -> None:
    ids = RandomIds()
    drawn = [ids.command_id() for _ in range(1_000)]
    assert len(set(drawn)) == 1_000
    assert all(COMMAND_ID.match(one) for one in drawn)


def test_seeded_ids_are_the_same_each_time() -> None:
    first, second, other = SeededIds(1), SeededIds(1), SeededIds(2)
    drawn = [first.command_id() for _ in range(100)]
    assert drawn == [second.command_id() for _ in range(100)]
    assert other.command_id() not in drawn
    assert len(set(drawn)) == 100
    assert all(COMMAND_ID.match(one) for one in drawn)


def test_the_wall_clock_counts_milliseconds_since_1970() -> None:
    before = time.time() * 1000 - 1
    now = SystemWallClock().now_ms()
    assert before <= now <= time.time() * 1000
    assert isinstance(now, int)


def test_a_fixed_clock_moves_only_when_told() -> None:
    clock = FixedWallClock(5)
    assert (clock.now_ms(), clock.now_ms()) == (5, 5)
    clock.advance(10)
    assert clock.now_ms() == 15


def test_a_seeded_source_does_not_depend_on_the_portions() -> None:
    first, second = SeededKeySource(1), SeededKeySource(1)
    assert first(3) + first(1) + first(40) == second(44)
    assert SeededKeySource(2)(44) != SeededKeySource(1)(44)
