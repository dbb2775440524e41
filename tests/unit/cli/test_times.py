"""Times and durations as people write them, and as they read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dee_es.cli.times import Moment, distance, iso, parse_duration, parse_time, rough, told

NOW = datetime(2025, 3, 3, 8, tzinfo=UTC)


@pytest.mark.parametrize(
    "text, seconds",
    [
        ("24h", 86_400),
        ("7d", 604_800),
        ("90m", 5_400),
        ("1d12h", 129_600),
        ("2w", 1_209_600),
        ("0s", 0),
        ("1h1h", 7_200),
    ],
)
def test_durations(text: str, seconds: int) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "24", "h", "-1d", "1.5h", "1 d", "1y", "٣d", "2025-03-01"])
def test_what_is_no_duration(text: str) -> None:
    assert parse_duration(text) is None


def test_a_duration_has_a_bound() -> None:
    with pytest.raises(ValueError, match="hundred years"):
        parse_duration("999999999w")


@pytest.mark.parametrize(
    "text, moment",
    [
        ("2025-03-03T08:00:00Z", NOW),
        ("2025-03-03T09:00+01:00", NOW),
        ("20250303T080000Z", NOW),
        ("2025-03-03 08:00Z", NOW),
    ],
)
def test_times(text: str, moment: datetime) -> None:
    assert parse_time(text) == moment
    assert parse_time(text).tzinfo is UTC


@pytest.mark.parametrize(
    "text, why",
    [
        ("2025-03-03T08:00", "no time zone"),
        ("2025-03-03", "no time zone"),
        ("yesterday", "^is no time such as"),
        ("2025-13-01T00:00Z", "^is no time"),
        ("0001-01-01T00:00+10:00", "^is no time"),
    ],
)
def test_what_is_no_time(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_time(text)


def test_a_moment_is_taken_from_now() -> None:
    assert Moment(distance=timedelta(days=1)).before(NOW) == NOW - timedelta(days=1)
    assert Moment(distance=timedelta(days=1)).after(NOW) == NOW + timedelta(days=1)
    assert Moment(at=NOW).before(NOW + timedelta(days=5)) == NOW
    with pytest.raises(click.UsageError):
        Moment(distance=timedelta(days=36_500)).before(datetime(50, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    "seconds, text",
    [
        (0, "now"),
        (1, "in 1s"),
        (-59, "59s ago"),
        (-60, "1m ago"),
        (3_599, "in 59m"),
        (-86_399, "23h ago"),
        (-200_000, "2d ago"),
    ],
)
def test_distances(seconds: int, text: str) -> None:
    assert distance(NOW + timedelta(seconds=seconds), NOW) == text


def test_times_are_told_in_utc() -> None:
    east = timezone(timedelta(hours=2))
    assert iso(datetime(2025, 3, 3, 10, tzinfo=east)) == "2025-03-03T08:00:00Z"
    assert iso(NOW + timedelta(milliseconds=5)) == "2025-03-03T08:00:00.005Z"
    assert told(NOW - timedelta(hours=3), NOW) == "2025-03-03T05:00:00Z (3h ago)"
    assert told(None, NOW) is None


@given(st.integers(1, 10**8))
def test_a_rough_duration_is_read_back_as_no_more(seconds: int) -> None:
    read = parse_duration(rough(seconds))
    assert read is not None
    assert seconds / 2 < read.total_seconds() <= seconds
