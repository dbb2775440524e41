"""The one time of the system: `epoch + tick * resolution`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from msgspec import Struct

from dee_es.errors import InvalidInput

_MILLISECOND = timedelta(milliseconds=1)
LAST_DAY: Final = datetime(9999, 12, 31, tzinfo=UTC)
"""Stands for all times behind it, which no `datetime` has; every zone has a time for it."""
_FIRST: Final = datetime(1, 1, 2, tzinfo=UTC)


class TimeScale(Struct, frozen=True):
    """How ticks and UTC time relate; fixed for ever when the database is made."""

    epoch: datetime
    resolution_ms: int = 1000

    def time(self, tick: int) -> datetime:
        """The UTC time at which `tick` begins; the calendar's first or last for one beyond it."""
        try:
            moment = self.epoch + tick * self.resolution_ms * _MILLISECOND
        except OverflowError:
            return LAST_DAY if tick > 0 else _FIRST
        return min(max(moment, _FIRST), LAST_DAY)

    def told(self, tick: int) -> str:
        """When `tick` begins, in UTC, for people; of one beyond the calendar no time is made up."""
        if tick > self.last_tick:
            return f"a time beyond the year {LAST_DAY.year}"
        return f"{self.time(tick):%Y-%m-%d %H:%M:%S}Z"

    @property
    def last_tick(self) -> int:
        """The last tick that the calendar has a time for, at the end of the year 9999."""
        return self.tick_at(LAST_DAY)

    def dated(self, tick: int) -> bool:
        """Whether the calendar has a time for the tick."""
        return self.tick_at(_FIRST) <= tick <= self.last_tick

    def tick_at(self, moment: datetime) -> int:
        """The tick that `moment` falls into; negative before the epoch."""
        return (moment - self.epoch) // (self.resolution_ms * _MILLISECOND)

    def tick_from(self, moment: datetime) -> int:
        """The first tick that begins at or after `moment`."""
        return -((self.epoch - moment) // (self.resolution_ms * _MILLISECOND))

    def ticks(self, duration_ms: int) -> int:
        """Whole ticks in a duration in ms, rounded down."""
        return duration_ms // self.resolution_ms


@dataclass(frozen=True, slots=True)
class LogicalClock:
    """A tick together with the scale that gives it a time."""

    tick: int
    resolution_ms: int
    epoch: datetime

    @property
    def now(self) -> datetime:
        """The UTC time of this tick."""
        return TimeScale(self.epoch, self.resolution_ms).time(self.tick)


def require_utc(field: str, moment: object) -> datetime:
    """Return `moment` in UTC; raises `InvalidInput` for one that is no time, or has no zone, or
    lies beyond the calendar in UTC."""
    if not isinstance(moment, datetime):
        raise InvalidInput(field, f"must be a datetime, not {type(moment).__name__}")
    if moment.tzinfo is None or moment.utcoffset() is None:
        raise InvalidInput(field, "has no time zone; use an aware datetime such as one in UTC")
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise InvalidInput(field, "lies outside of the years 1 to 9999 in UTC") from None
