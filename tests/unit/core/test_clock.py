"""Ticks and UTC times, there and back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dee_es.core.clock import LAST_DAY, LogicalClock, TimeScale, require_utc
from dee_es.errors import InvalidInput

EPOCH = datetime(2025, 1, 1, tzinfo=UTC)
SECONDS = TimeScale(EPOCH)
RESOLUTIONS = st.integers(1, 86_400_000)


def test_a_tick_is_a_second_unless_told() -> None:
    assert SECONDS.time(0) == EPOCH
    assert SECONDS.time(259_200) == datetime(2025, 1, 4, tzinfo=UTC)
    assert SECONDS.ticks(3 * 86_400_000) == 259_200


def test_time_is_epoch_and_ticks_of_the_resolution() -> None:
    assert TimeScale(EPOCH, 250).time(6) == EPOCH + timedelta(milliseconds=1500)
    assert LogicalClock(6, 250, EPOCH).now == EPOCH + timedelta(milliseconds=1500)


@pytest.mark.parametrize(
    "micros, at, from_",
    [(0, 0, 0), (1, 0, 1), (999_999, 0, 1), (1_000_000, 1, 1), (-1, -1, 0), (-1_000_000, -1, -1)],
)
def test_a_moment_lies_in_one_tick_and_before_another(micros: int, at: int, from_: int) -> None:
    moment = EPOCH + timedelta(microseconds=micros)
    assert (SECONDS.tick_at(moment), SECONDS.tick_from(moment)) == (at, from_)


@pytest.mark.parametrize("ms, ticks", [(0, 0), (59_999, 0), (60_000, 1), (119_999, 1)])
def test_a_duration_is_rounded_down_to_whole_ticks(ms: int, ticks: int) -> None:
    assert TimeScale(EPOCH, 60_000).ticks(ms) == ticks


# Beyond that, at a day a tick, lie the years before 1.
@given(st.integers(-(10**5), 10**6), RESOLUTIONS)
def test_a_tick_begins_at_its_time(tick: int, resolution: int) -> None:
    scale = TimeScale(EPOCH, resolution)
    assert scale.tick_at(scale.time(tick)) == scale.tick_from(scale.time(tick)) == tick


@given(st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1)), RESOLUTIONS)
def test_a_moment_lies_within_its_tick(moment: datetime, resolution: int) -> None:
    scale, moment = TimeScale(EPOCH, resolution), moment.replace(tzinfo=UTC)
    assert scale.time(scale.tick_at(moment)) <= moment < scale.time(scale.tick_at(moment) + 1)
    assert scale.time(scale.tick_from(moment) - 1) < moment <= scale.time(scale.tick_from(moment))


@pytest.mark.parametrize("resolution", [1, 1_000, 86_400_000])
@pytest.mark.parametrize("beyond", [0, 1, 10**9, 2**53, 2**80])
def test_what_lies_beyond_the_calendar_is_its_last_day(resolution: int, beyond: int) -> None:
    scale = TimeScale(EPOCH, resolution)
    last = scale.tick_at(LAST_DAY)
    assert scale.time(last - 1) < scale.time(last) == LAST_DAY
    assert scale.time(last + beyond) == LAST_DAY


def test_times_are_turned_to_utc() -> None:
    vienna = datetime(2025, 1, 1, 1, tzinfo=timezone(timedelta(hours=1)))
    turned = require_utc("since", vienna)
    assert turned == EPOCH
    assert turned.tzinfo is UTC


@pytest.mark.parametrize("value", [datetime(2025, 1, 1), "2025-01-01T00:00:00Z", 0, None])
def test_a_time_that_could_mean_several_is_refused(value: object) -> None:
    with pytest.raises(InvalidInput) as caught:
        require_utc("since", value)
    assert caught.value.field == "since"


@pytest.mark.parametrize(
    "moment",
    [
        datetime.max.replace(tzinfo=timezone(timedelta(hours=-5))),
        datetime.min.replace(tzinfo=timezone(timedelta(hours=5))),
    ],
)
def test_a_time_that_utc_has_no_date_for_is_refused(moment: datetime) -> None:
    with pytest.raises(InvalidInput) as caught:
        require_utc("since", moment)
    assert caught.value.field == "since"


@pytest.mark.parametrize("resolution", [1, 250, 1000, 86_400_000])
def test_the_last_tick_is_the_last_one_with_a_date(resolution: int) -> None:
    scale = TimeScale(EPOCH, resolution)
    begins = scale.time(scale.last_tick)
    assert scale.tick_at(begins) == scale.last_tick
    left = datetime(9999, 12, 31, tzinfo=UTC) - begins
    assert timedelta() <= left < timedelta(milliseconds=resolution)


@given(st.integers(0, 2**63), RESOLUTIONS)
def test_a_tick_behind_the_calendar_is_told_as_its_end(ahead: int, resolution: int) -> None:
    scale = TimeScale(EPOCH, resolution)
    assert scale.time(scale.last_tick + 1 + ahead) == datetime(9999, 12, 31, tzinfo=UTC)
    # As a date in every zone, too.
    scale.time(scale.last_tick + 1 + ahead).astimezone(timezone(timedelta(hours=14)))


@given(st.integers(10**9, 2**63))
def test_a_tick_before_the_calendar_is_told_as_its_beginning(back: int) -> None:
    begins = TimeScale(EPOCH, 86_400_000).time(-back)
    assert begins == datetime(1, 1, 2, tzinfo=UTC)
    begins.astimezone(timezone(timedelta(hours=-12)))


def test_a_time_beyond_the_calendar_is_told_as_that() -> None:
    scale = TimeScale(datetime(2026, 1, 1, 8, tzinfo=UTC))
    assert scale.told(90) == "2026-01-01 08:01:30Z"
    assert scale.told(scale.last_tick) == "9999-12-31 00:00:00Z"
    assert scale.told(scale.last_tick + 1) == "a time beyond the year 9999"
