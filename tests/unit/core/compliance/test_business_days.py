"""Business days between two moments."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from dee_es.core.compliance.business_days import business_days
from tests.support.evidence.counted_log import ms, zone

Moment = Callable[[int, int, int, int], datetime]


def days(name: str, begin: datetime, end: datetime) -> int:
    return business_days(zone(name), ms(begin.replace(tzinfo=UTC)), ms(end.replace(tzinfo=UTC)))


@pytest.mark.parametrize(
    "begin, end, expected",
    [
        (datetime(2026, 3, 2, 0), datetime(2026, 3, 2, 23), 0),
        (datetime(2026, 3, 2, 23), datetime(2026, 3, 3, 0), 1),
        (datetime(2026, 3, 6, 12), datetime(2026, 3, 8, 23), 0),  # Friday to Sunday.
        (datetime(2026, 3, 6, 12), datetime(2026, 3, 9, 0), 1),  # Friday to Monday.
        (datetime(2026, 3, 7, 12), datetime(2026, 3, 9, 0), 1),  # Saturday to Monday.
        (datetime(2026, 3, 2), datetime(2026, 3, 9), 5),
        (datetime(2026, 3, 2), datetime(2026, 3, 16), 10),
        (datetime(2026, 2, 27), datetime(2026, 3, 2), 1),
    ],
)
def test_business_days_are_monday_to_friday(begin: datetime, end: datetime, expected: int) -> None:
    assert days("UTC", begin, end) == expected


def test_business_days_agree_with_counting_them_one_by_one() -> None:
    first = datetime(2026, 1, 1, 11)
    for length in range(60):
        for shift in range(7):
            begin = first + timedelta(days=shift)
            end = begin + timedelta(days=length)
            each = (begin + timedelta(days=n) for n in range(1, length + 1))
            assert days("UTC", begin, end) == sum(day.weekday() < 5 for day in each)


def test_the_day_is_that_of_the_zone() -> None:
    # 23:30 UTC on Monday is Tuesday in Vienna already, and still Monday in New York.
    begin, end = datetime(2026, 3, 2, 22), datetime(2026, 3, 2, 23, 30)
    assert days("UTC", begin, end) == 0
    assert days("Europe/Vienna", begin, end) == 1
    assert days("America/New_York", begin, end) == 0


def test_business_days_when_clocks_change() -> None:
    # In Vienna clocks go ahead on Sunday 29 March 2026: Monday begins at 22:00 UTC, not at 23:00.
    friday = datetime(2026, 3, 27, 12)
    assert days("Europe/Vienna", friday, datetime(2026, 3, 29, 21, 59)) == 0
    assert days("Europe/Vienna", friday, datetime(2026, 3, 29, 22)) == 1
    # And back on Sunday 25 October: Monday begins at 23:00 again.
    friday = datetime(2026, 10, 23, 12)
    assert days("Europe/Vienna", friday, datetime(2026, 10, 25, 22, 59)) == 0
    assert days("Europe/Vienna", friday, datetime(2026, 10, 25, 23)) == 1
