"""The zone database as data: exact transitions, one object for the same years, no surprises."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from dee_es.adapters import zones
from dee_es.adapters.zones import load_zone

DAY_MS = 86_400_000


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1000


def in_2026(name: str) -> list[tuple[int, int]]:
    found = load_zone(name, ms("2026-01-01"), ms("2027-01-01"))
    assert found is not None
    assert found.until_ms == ms("2027-01-01")
    return list(found.transitions)


@pytest.mark.parametrize(
    "name, expected",
    [
        ("UTC", [("2026-01-01 00:00", 0)]),
        ("Asia/Kathmandu", [("2026-01-01 00:00", 20_700)]),
        (
            "Europe/Berlin",
            [("2026-01-01 00:00", 3600), ("2026-03-29 01:00", 7200), ("2026-10-25 01:00", 3600)],
        ),
        (
            "Australia/Lord_Howe",
            [
                ("2026-01-01 00:00", 39_600),
                ("2026-04-04 15:00", 37_800),
                ("2026-10-03 15:30", 39_600),
            ],
        ),
        (
            "America/St_Johns",
            [
                ("2026-01-01 00:00", -12_600),
                ("2026-03-08 05:30", -9000),
                ("2026-11-01 04:30", -12_600),
            ],
        ),
    ],
)
def test_every_clock_change_of_a_year(name: str, expected: list[tuple[str, int]]) -> None:
    assert in_2026(name) == [(ms(at), offset) for at, offset in expected]


@pytest.mark.parametrize(
    "name",
    ["Africa/Casablanca", "America/Santiago", "Asia/Tehran", "Pacific/Chatham", "Europe/London"],
)
def test_offsets_agree_with_the_database_at_any_hour(name: str) -> None:
    found = load_zone(name, ms("2010-06-01"), ms("2030-01-01"))
    assert found is not None
    zone = ZoneInfo(name)
    at = datetime(2010, 6, 1, tzinfo=UTC)
    while at.year < 2030:
        begin = int(at.timestamp()) * 1000
        (_, _, offset) = next(found.segments(begin, begin + 1))
        assert timedelta(milliseconds=offset) == at.astimezone(zone).utcoffset(), at
        at += timedelta(hours=5, minutes=37)


def test_a_day_that_a_zone_left_out() -> None:
    found = load_zone("Pacific/Apia", ms("2011-12-01"), ms("2012-01-02"))
    assert found is not None
    assert (ms("2011-12-30 10:00"), 50_400) in found.transitions


def test_a_clock_change_is_exact_to_the_second() -> None:
    found = load_zone("Africa/Monrovia", ms("1972-01-01"), ms("1973-01-01"))
    assert found is not None
    assert found.transitions == ((ms("1972-01-01"), -2670), (ms("1972-01-07 00:44:30"), 0))


def test_what_is_loaded_covers_what_was_asked_for() -> None:
    found = load_zone("Europe/Berlin", ms("2026-12-31 23:59"), ms("2028-01-01") + 1)
    assert found is not None
    assert found.covers(ms("2026-12-31 23:59"))
    assert found.covers(ms("2028-01-01"))
    starts = [start for start, _ in found.transitions]
    assert starts == sorted(set(starts))
    offsets = [offset for _, offset in found.transitions]
    assert all(one != two for one, two in pairwise(offsets))


def test_an_empty_range_is_covered_too() -> None:
    at = ms("2026-05-01")
    found = load_zone("Europe/Berlin", at, at)
    assert found is not None
    assert found.covers(at)


def test_whoever_asks_within_the_same_years_shares_one_object() -> None:
    one = load_zone("Europe/Berlin", ms("2026-01-01"), ms("2027-02-01"))
    two = load_zone("Europe/Berlin", ms("2026-09-09"), ms("2027-12-31"))
    assert one is two


@pytest.mark.parametrize(
    "name",
    [
        "", "Mars/Base", "europe/berlin", "Europe", "Europe/Berlin ", "../etc/passwd",
        "/etc/passwd", "localtime", "posixrules", "Factory", "posix/UTC", "right/UTC", "\x00",
        "\ud800", "a" * 5000, "jane@example.com", "tzdata.zi", "zone.tab",
    ],
)  # fmt: skip
def test_a_name_that_is_no_zone_is_unknown(name: str) -> None:
    assert load_zone(name, ms("2026-01-01"), ms("2027-01-01")) is None


@pytest.mark.parametrize("name", ["UTC", "Europe/Berlin", "Pacific/Kiritimati"])
def test_whoever_asks_beyond_the_calendar_gets_what_is_within(name: str) -> None:
    """A year ahead is asked for at any time: in the calendar's last one the zone is no other."""
    last = load_zone(name, ms("9999-12-30"), ms("9999-12-30") + 400 * DAY_MS)
    assert last is not None
    assert last.covers(ms("9999-12-31"))
    assert not last.covers(ms("9999-12-31") + DAY_MS)
    for at in (10**15, 10**30):
        assert load_zone(name, at, at + DAY_MS) is last
    first = load_zone(name, ms("0001-01-02") - 400 * DAY_MS, ms("0001-02-01"))
    assert first is not None
    assert first.covers(ms("0001-01-02"))
    assert load_zone(name, -(10**30), 1 - 10**30) is first
    assert load_zone("Mars/Base", 10**30, 10**30) is None


@pytest.mark.parametrize("name", ["Asia/Tokyo", "Pacific/Kiritimati", "Pacific/Pago_Pago"])
@pytest.mark.parametrize(
    "first, last",
    [("0001-01-02", "0001-12-31"), ("0002-01-01", "0003-01-01"), ("9997-01-01", "9999-12-31")],
)
def test_the_ends_of_the_calendar_are_read_without_error(name: str, first: str, last: str) -> None:
    found = load_zone(name, ms(first), ms(last) + 1)
    assert found is not None
    assert found.covers(ms(first))
    assert found.covers(ms(last))


def test_the_release_of_the_database_is_named() -> None:
    found = load_zone("Europe/Berlin", ms("2026-01-01"), ms("2027-01-01"))
    assert found is not None
    assert found.version


@pytest.mark.parametrize(
    "name, text, release",
    [
        ("tzdata.zi", "# version 2025b\n# more\n", "2025b"),
        ("tzdata.zi", "# something else\n", None),
        ("+VERSION", "2024a\n", "2024a"),
        ("version", "", None),
        ("nothing", "2024a", None),
    ],
)
def test_distributions_name_the_release_in_files(
    tmp_path: Path, name: str, text: str, release: str | None
) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert zones._release(tmp_path) == release
