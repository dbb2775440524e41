"""Times and durations as people write them, and as they read them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import click

from dee_es.doors.times import (
    distance,
    iso,
    parse_duration,
    parse_time,
    rough,
    span,
    with_times,
)

__all__ = [
    "Moment",
    "distance",
    "duration_option",
    "go_on",
    "in_full",
    "in_zone",
    "iso",
    "local",
    "moment_option",
    "parse_duration",
    "parse_time",
    "refuse_distances",
    "rough",
    "span",
    "time_option",
    "told",
    "zone_named",
    "zone_option",
]


TextT = TypeVar("TextT", str, str | None)


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


def moment_option(ctx: click.Context, param: click.Parameter, value: str | None) -> Moment | None:
    """Read an option that takes a time or a distance such as 24h."""
    if value is None:
        return None
    with _as_bad_parameter(value):
        away = parse_duration(value)
        if away is not None:
            return Moment(distance=away)
        return Moment(at=parse_time(value, "24h, 7d or 90m"))


def go_on(cursor: str, moments: Mapping[str, Moment | None], now: datetime) -> str:
    """The options that ask for what follows a page: times in full where distances were given, since
    those would mean another time by then."""
    options = [
        f"{option} {iso(moment.before(now))}"
        for option, moment in moments.items()
        if moment is not None and moment.distance is not None
    ]
    return " ".join([*options, f"--cursor {cursor}"])


def in_full(moments: Mapping[str, Moment | None], now: datetime) -> dict[str, str]:
    """The times that were given, in full and in UTC, by the options without their dashes: what a
    program gives again to ask for the page that follows."""
    return {
        option.lstrip("-"): iso(moment.before(now))
        for option, moment in moments.items()
        if moment is not None
    }


def refuse_distances(cursor: str | None, moments: Mapping[str, Moment | None]) -> None:
    """Refuse a cursor beside a distance such as 24h, which is another time than that of its page.
    Raises `click.UsageError`."""
    for option, moment in moments.items():
        if cursor is not None and moment is not None and moment.distance is not None:
            raise click.UsageError(
                f"{option} has to be a time in full beside --cursor, as the page before said it"
            )


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


def in_zone(text: TextT, zone: tzinfo) -> TextT:
    """A text of the engine's with the times in it, which are UTC, as they are in a zone."""
    if not text or zone is UTC:
        return text
    return with_times(text, lambda moment: local(moment, zone))


def told(moment: datetime | None, now: datetime, zone: tzinfo = UTC) -> str | None:
    """A time for people: in a zone, and how far from now."""
    return None if moment is None else f"{local(moment, zone)} ({distance(moment, now)})"
