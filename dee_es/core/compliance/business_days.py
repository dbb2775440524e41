"""Business days between two moments: Monday to Friday, by the calendar of one zone."""

from __future__ import annotations

from typing import Final

from dee_es.core.gate import ZoneRules
from dee_es.core.gate.slots import DAY_MS

_EPOCH_WEEKDAY: Final = 3  # 1970-01-01 was a Thursday, and weeks begin on Monday.
_WEEK: Final = 7
_WORKING: Final = 5


def business_days(zone: ZoneRules, from_ms: int, until_ms: int) -> int:
    """The business days that begin after the day of `from_ms`, up to the day of `until_ms`.

    So what is done on the same day took none, and what came in at a weekend has taken one on
    Monday. No holiday is left out, which can only make the count higher. Times are ms since 1970
    UTC; a day is as long as the zone has it, also when its clocks change.
    """
    return _until(local_day(zone, until_ms)) - _until(local_day(zone, from_ms))


def local_day(zone: ZoneRules, ms: int) -> int:
    """The zone's calendar day, counted from 1970-01-01, in which a time falls; by UTC where the
    zone's rules do not reach."""
    offset = next((offset for _, _, offset in zone.segments(ms, ms + 1)), 0)
    return (ms + offset) // DAY_MS


def _until(day: int) -> int:
    """Business days from the Monday of the week of 1970-01-01 up to and including `day`."""
    weeks, weekday = divmod(day + _EPOCH_WEEKDAY, _WEEK)
    return weeks * _WORKING + min(weekday + 1, _WORKING)
