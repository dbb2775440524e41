"""The sections of a compliance report, its period, and the entries that it names."""

from __future__ import annotations

import pytest

from dee_es.core import events as e
from dee_es.core.compliance import Period, Positions, Ranges
from tests.support.evidence.counted_log import ASKING, Log

# --- ranges -----------------------------------------------------------------------------------


def test_positions_become_ranges() -> None:
    positions = Positions()
    for each in (9, 3, 7, 8, 3, 1):
        positions.add(each)
    ranges = positions.ranges()
    assert list(ranges) == [(1, 1), (3, 3), (7, 9)]
    assert ranges.text() == "1, 3, 7-9"
    assert ranges.count == 5
    assert list(ranges.positions()) == [1, 3, 7, 8, 9]
    assert not Ranges()
    assert ranges != Ranges()


# --- the whole --------------------------------------------------------------------------------


def test_a_period_has_its_first_tick_and_not_the_one_behind_it() -> None:
    log = Log(Period(10, 20))
    run = log.run()
    positions = [log.sent(run, tick) for tick in (9, 10, 19, 20)]
    assert log.at("sends", "email", "attempted") == positions[1:3]
    assert (log.count().entries, log.count().bounds) == (2, (positions[1], positions[2]))


def test_a_section_says_why_it_has_no_figures_and_only_then() -> None:
    log = Log(policy=ASKING)
    run = log.run()
    log.sent(run, 1, reads={"consent.email": "granted"})
    log.unsubscribed(tick=2)
    for section in log.count().sections():
        assert section.figures
        assert section.not_measured is None, section.key


def test_a_period_without_any_entry_has_no_bounds() -> None:
    log = Log(Period(100, 200))
    log.run()
    counting = log.count()
    assert (counting.entries, counting.bounds, counting.tick) == (0, (0, 0), 0)
    assert not counting.missing()


def test_positions_without_an_entry_are_told() -> None:
    log = Log(next=3)
    log.run()
    assert list(log.count().missing()) == [(1, 2)]
    log = Log()
    log.run()
    log.next = 5
    log.sent("run_c1_p", 3)
    log.next = 9
    counting = log.count()
    assert list(counting.missing()) == [(2, 4), (6, 8)]
    assert (counting.entries, counting.bounds, counting.tick) == (2, (1, 5), 3)


@pytest.mark.parametrize("page", [1, 2, 3, 100])
def test_the_size_of_a_page_makes_no_difference(page: int) -> None:
    log = Log()
    run = log.run()
    log.sent(run, 0, "call")
    log.sent(log.run("c2"), 1)
    log.unsubscribed(tick=2)
    log.add(run, e.StepCompleted("call", "busy"), 9)
    assert log.count(page).sections() == log.count(1000).sections()
