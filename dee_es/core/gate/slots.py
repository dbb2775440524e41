"""UTC days of logical time: the slots that limits and budgets count in.

Everything here is whole milliseconds since 1970 UTC, so no date is too far away to reckon with.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Final

from dee_es.core.clock import TimeScale

DAY_MS: Final = 86_400_000
"""Milliseconds of a day; UTC days have no leap seconds here."""

_UNIX: Final = datetime(1970, 1, 1, tzinfo=UTC)
_UNIX_ORDINAL: Final = date(1970, 1, 1).toordinal()
_MILLISECOND: Final = timedelta(milliseconds=1)
_LAST_MS: Final = (datetime.max.replace(tzinfo=UTC) - _UNIX) // _MILLISECOND
_FIRST_MS: Final = (datetime.min.replace(tzinfo=UTC) - _UNIX) // _MILLISECOND


def utc_ms(scale: TimeScale, tick: int) -> int:
    """When `tick` begins, in ms since 1970 UTC, rounded down.

    Rounding changes no comparison with a whole ms, and windows and days begin at whole ms.
    """
    return (scale.epoch - _UNIX) // _MILLISECOND + tick * scale.resolution_ms


def first_tick(scale: TimeScale, ms: int) -> int:
    """The first tick that begins at or after `ms`."""
    epoch_ms = (scale.epoch - _UNIX) // _MILLISECOND
    return -((epoch_ms - ms) // scale.resolution_ms)


def day_of(scale: TimeScale, tick: int) -> int:
    """The UTC day, counted from 1970-01-01, in which `tick` begins."""
    return utc_ms(scale, tick) // DAY_MS


def day_tick(scale: TimeScale, day: int) -> int:
    """The first tick of a UTC day; where a tick is longer than a day, the first one after it."""
    return first_tick(scale, day * DAY_MS)


def day_number(day: date) -> int:
    """Days from 1970-01-01 to `day`."""
    return day.toordinal() - _UNIX_ORDINAL


def tick_text(scale: TimeScale, tick: int) -> str:
    """When `tick` begins, for people: `2026-03-01 08:00 UTC`, with seconds if there are any."""
    ms = utc_ms(scale, tick)
    if not _FIRST_MS <= ms <= _LAST_MS:
        return f"tick {tick}"
    moment = _UNIX + ms * _MILLISECOND
    # Not strftime: whether it pads years before 1000 depends on the platform.
    text = moment.replace(tzinfo=None).isoformat(" ", "milliseconds")
    return text.removesuffix(".000").removesuffix(":00") + " UTC"
