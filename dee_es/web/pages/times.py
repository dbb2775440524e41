"""Times as pages write them: in the zone that a browser has chosen, by default in UTC."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from functools import cache
from typing import Final
from zoneinfo import ZoneInfo, available_timezones

from fastapi import Request

COOKIE: Final = "dee_zone"
_FORMAT: Final = "%Y-%m-%d %H:%M:%S"


@cache
def known() -> tuple[str, ...]:
    """The zones there are, by name, UTC first."""
    names = available_timezones() - {"UTC", "localtime", "Factory"}
    return ("UTC", *sorted(name for name in names if not name.startswith(("posix", "right"))))


@cache
def zone(name: str) -> tzinfo:
    """A zone by one of the names that are known; UTC for any other, of which none is looked up."""
    return ZoneInfo(name) if name != "UTC" and name in known() else UTC


def name_in(request: Request) -> str:
    """The name of the zone that a browser has chosen."""
    given = request.cookies.get(COOKIE, "UTC")
    return given if given in known() else "UTC"


def written(moment: datetime, zone_name: str = "UTC") -> str:
    """A time by the clocks of a zone."""
    return moment.astimezone(zone(zone_name)).strftime(_FORMAT)
