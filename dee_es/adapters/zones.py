"""Time zones: reads the zone database and hands its rules on as plain data.

The database is the system's, or else the `tzdata` package; Python's `zoneinfo` finds it.
"""

from __future__ import annotations

import importlib
import zoneinfo
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from pathlib import Path
from typing import Final

from dee_es.core.clock import LAST_DAY
from dee_es.core.gate.zone import ZoneRules

# They differ from machine to machine, or stand for no place at all.
_NO_ZONES: Final = frozenset({"Factory", "localtime", "posixrules"})
# No two clock changes of a zone have ever come closer than that, so none hides between two looks.
_LOOK_S: Final = 6 * 3600
_UNIX: Final = datetime(1970, 1, 1, tzinfo=UTC)
# A zone can be ahead of UTC, or behind it, by less than a day: no local date leaves the calendar.
_FIRST_S: Final = (datetime(1, 1, 2, tzinfo=UTC) - _UNIX) // timedelta(seconds=1)
_LAST_S: Final = (LAST_DAY - _UNIX) // timedelta(seconds=1)


def load_zone(name: str, from_ms: int, to_ms: int) -> ZoneRules | None:
    """The rules of an IANA zone for at least [from_ms, to_ms), in ms since 1970 UTC.

    None if the database has no zone of this name. What comes back covers whole UTC years, so that
    whoever asks within them shares one object, and nothing beyond the calendar: of times there,
    the year that is nearest. The database is read once in a process: a new release counts after a
    restart.
    """
    if name not in _names():
        return None
    return _rules(name, _year(from_ms), _year(max(from_ms, to_ms - 1)))


@lru_cache(maxsize=4096)
def _rules(name: str, first: int, last: int) -> ZoneRules:
    found: list[tuple[int, int]] = []
    for year in range(first, last + 1):
        begins, *changes = _in_year(name, year)
        found.extend(changes if found else [begins, *changes])
    return ZoneRules(name, tuple(found), _year_ms(last + 1), _version(name))


@lru_cache(maxsize=4096)
def _in_year(name: str, year: int) -> tuple[tuple[int, int], ...]:
    """The offset at the beginning of a UTC year and every change in it."""
    return tuple(_changes(zoneinfo.ZoneInfo(name), _year_ms(year) // 1000, year))


def _changes(zone: zoneinfo.ZoneInfo, begin_s: int, year: int) -> Iterator[tuple[int, int]]:
    end_s = _year_ms(year + 1) // 1000
    known = _offset(zone, begin_s)
    yield begin_s * 1000, known
    looked = begin_s
    while looked < end_s - 1:
        look = min(looked + _LOOK_S, end_s - 1)
        now = _offset(zone, look)
        if now != known:
            yield _first_with(zone, now, looked, look) * 1000, now
            known = now
        looked = look


def _first_with(zone: zoneinfo.ZoneInfo, offset: int, before: int, at: int) -> int:
    """The second from which `offset` holds, between one at which it does not and one where it
    does."""
    while at - before > 1:
        middle = (before + at) // 2
        if _offset(zone, middle) == offset:
            at = middle
        else:
            before = middle
    return at


def _offset(zone: zoneinfo.ZoneInfo, second: int) -> int:
    offset = datetime.fromtimestamp(second, zone).utcoffset()
    assert offset is not None, "every zone of the database has an offset at any time"
    return offset.days * 86400 + offset.seconds


def _year(ms: int) -> int:
    return datetime.fromtimestamp(min(max(ms // 1000, _FIRST_S), _LAST_S), UTC).year


def _year_ms(year: int) -> int:
    """When a UTC year begins; the calendar's ends for its first year and the one behind it."""
    if year > LAST_DAY.year:
        return (_LAST_S + 1) * 1000
    since = datetime(year, 1, 1, tzinfo=UTC) - _UNIX
    return max(since.days * 86_400, _FIRST_S) * 1000


@cache
def _names() -> frozenset[str]:
    # Asked first: a name goes into a path, and `zoneinfo` answers some bad ones with odd errors.
    return frozenset(zoneinfo.available_timezones()) - _NO_ZONES


@cache
def _version(name: str) -> str:
    """The release of the database this zone is read from, such as `2025b`; `system` if unknown."""
    for folder in map(Path, zoneinfo.TZPATH):
        if (folder / name).is_file():
            return _release(folder) or "system"
    try:
        return str(importlib.import_module("tzdata").IANA_VERSION)
    except (ImportError, AttributeError):
        return "system"


@cache
def _release(folder: Path) -> str | None:
    """What the folder says of itself: distributions name the release in one of these files."""
    for name, mark in (("tzdata.zi", "# version "), ("+VERSION", ""), ("version", "")):
        try:
            with (folder / name).open(encoding="utf-8") as lines:
                first = lines.readline(200).strip()
        except (OSError, UnicodeDecodeError):
            continue
        if first.startswith(mark) and first.isascii():
            return first.removeprefix(mark)[:64].strip() or None
    return None
