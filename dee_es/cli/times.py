"""Times and durations as people write them, and as they read them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import click

_UNITS: Final = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}
_DURATION = re.compile(r"(?:[0-9]{1,9}[wdhms])+", re.ASCII)
_PART = re.compile(r"([0-9]+)([wdhms])", re.ASCII)
_LONGEST: Final = timedelta(days=36_525)


@dataclass(frozen=True, slots=True)
class Moment:
    """A time that was given: one of the two is set. A distance counts from the engine's present."""

    distance: timedelta | None = None
    at: datetime | None = None

    def before(self, now: datetime) -> datetime:
        """The time meant, a distance being one into the past."""
        return self._resolved(now, -1)

    def after(self, now: datetime) -> datetime:
        """The time meant, a distance being one into the future."""
        return self._resolved(now, 1)

    def _resolved(self, now: datetime, sign: int) -> datetime:
        if self.at is not None:
            return self.at
        assert self.distance is not None, "a moment is a time or a distance"
        try:
            return now + sign * self.distance
        except OverflowError:
            raise click.UsageError("a time lies outside of the years 1 to 9999") from None


def parse_duration(text: str) -> timedelta | None:
    """`24h`, `7d` or `1d12h` as a duration; None for what is none. Raises `ValueError`."""
    if not _DURATION.fullmatch(text):
        return None
    seconds = sum(int(count) * _UNITS[unit] for count, unit in _PART.findall(text))
    if seconds > _LONGEST.total_seconds():
        raise ValueError("is longer than a hundred years")
    return timedelta(seconds=seconds)


def parse_time(text: str) -> datetime:
    """An ISO 8601 time that says its zone. Raises `ValueError` with what is wrong."""
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("is neither a time such as 2025-03-01T09:00Z nor 24h, 7d or 90m") from None
    raise ValueError("has no time zone; write Z for UTC or an offset such as +02:00")


def moment_option(ctx: click.Context, param: click.Parameter, value: str | None) -> Moment | None:
    """Read an option that takes a time or a distance such as 24h."""
    if value is None:
        return None
    with _as_bad_parameter(value):
        away = parse_duration(value)
        return Moment(distance=away) if away is not None else Moment(at=parse_time(value))


def time_option(ctx: click.Context, param: click.Parameter, value: str | None) -> datetime | None:
    """Read an option that takes a time only."""
    if value is None:
        return None
    with _as_bad_parameter(value):
        return parse_time(value)


def duration_option(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> timedelta | None:
    """Read an option that takes a duration such as 3d."""
    if value is None:
        return None
    with _as_bad_parameter(value):
        duration = parse_duration(value)
        if duration is None:
            raise ValueError("is no duration such as 3d, 12h or 1d12h")
        return duration


@contextmanager
def _as_bad_parameter(value: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise click.BadParameter(f"{value[:40]!r} {error}") from None


def iso(moment: datetime) -> str:
    """The time in UTC by ISO 8601, with milliseconds only where there are any."""
    precision = "milliseconds" if moment.microsecond else "seconds"
    return moment.astimezone(UTC).isoformat(timespec=precision).replace("+00:00", "Z")


def zone_named(name: str) -> tzinfo:
    """A zone by its IANA name. Raises `ValueError` for one that nobody knows."""
    if name.upper() in ("UTC", "Z"):
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("is no time zone such as Europe/Vienna") from None


def _zone_chosen(ctx: click.Context, param: click.Parameter, value: str | None) -> tzinfo:
    if value is not None:
        with _as_bad_parameter(value):
            return zone_named(value)
    try:
        return zone_named(os.environ.get("TZ") or "UTC")
    except ValueError:
        # What the C library understands beyond names is left to it.
        return UTC


zone_option = click.option(
    "--tz",
    "zone",
    metavar="ZONE",
    callback=_zone_chosen,
    help="Show times in this zone, such as Europe/Vienna.  [TZ; default UTC]",
)


def local(moment: datetime, zone: tzinfo) -> str:
    """The time in a zone by ISO 8601, with its offset; in UTC as `iso` has it."""
    if zone is UTC:
        return iso(moment)
    precision = "milliseconds" if moment.microsecond else "seconds"
    return moment.astimezone(zone).isoformat(timespec=precision)


def span(seconds: float) -> str:
    """A duration in its two largest units: 3d2h, 2h, 5m10s."""
    left = int(seconds)
    parts: list[str] = []
    for unit in ("d", "h", "m", "s"):
        count, left = divmod(left, _UNITS[unit])
        if count and len(parts) < 2:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def distance(moment: datetime, now: datetime) -> str:
    """How far a time is from now, in its largest unit: `3d ago`, `in 2h`, `now`."""
    seconds = int((moment - now).total_seconds())
    if seconds == 0:
        return "now"
    return f"in {rough(seconds)}" if seconds > 0 else f"{rough(-seconds)} ago"


def rough(seconds: float) -> str:
    """A duration in its largest unit: 3d, 2h, 5m, 8s."""
    for unit in ("d", "h", "m"):
        if seconds >= _UNITS[unit]:
            return f"{int(seconds // _UNITS[unit])}{unit}"
    return f"{int(seconds)}s"


def told(moment: datetime | None, now: datetime) -> str | None:
    """A time for people: in UTC, and how far from now."""
    return None if moment is None else f"{iso(moment)} ({distance(moment, now)})"
