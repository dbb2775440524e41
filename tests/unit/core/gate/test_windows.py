"""Windows: exact at both ends, on the days of clock changes, over week ends and holidays."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from dee_es.adapters.zones import load_zone
from dee_es.core.clock import TimeScale
from dee_es.core.gate import (
    SEARCH_DAYS,
    Allow,
    Denial,
    Snapshot,
    ZoneRules,
    evaluate,
    read_policy,
    snapshot_from,
)

EPOCH = datetime(2009, 12, 31, 18, 30, tzinfo=UTC)
SCALE = TimeScale(EPOCH, 1000)
OFFICE = {"weekdays": ["mon", "tue", "wed", "thu", "fri"], "start": "09:00", "end": "17:00"}


def rules(zone: str, at: datetime) -> ZoneRules | None:
    begin = int(at.timestamp() * 1000)
    return load_zone(zone, begin, begin + (SEARCH_DAYS + 1) * 86_400_000)


def verdict(
    window: Mapping[str, Any], zone: str, at: datetime, scale: TimeScale = SCALE
) -> Allow | Denial:
    policy = read_policy({"windows": {"channels": {"email": window}}})
    tick = scale.tick_at(at)
    return evaluate(policy, Snapshot(tick, scale, "email", "plan", zone=rules(zone, at)))


def opens(window: Mapping[str, Any], zone: str, at: datetime, scale: TimeScale = SCALE) -> datetime:
    """When a send that is asked for at `at` may go out; `at` itself if at once."""
    found = verdict(window, zone, at, scale)
    if isinstance(found, Allow):
        return at
    assert (found.rule, found.effect) == ("windows", "defer")
    assert found.until_tick is not None
    assert found.until_tick > scale.tick_at(at)
    return scale.time(found.until_tick)


def local(zone: str, text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    "asked, opening",
    [
        ("2026-03-04 08:59:59", "2026-03-04 09:00:00"),
        ("2026-03-04 09:00:00", "2026-03-04 09:00:00"),
        ("2026-03-04 16:59:59", "2026-03-04 16:59:59"),
        ("2026-03-04 17:00:00", "2026-03-05 09:00:00"),
        ("2026-03-04 00:00:00", "2026-03-04 09:00:00"),
        ("2026-03-06 16:59:59", "2026-03-06 16:59:59"),
        ("2026-03-06 17:00:00", "2026-03-09 09:00:00"),
        ("2026-03-07 12:00:00", "2026-03-09 09:00:00"),
        ("2026-03-08 23:59:59", "2026-03-09 09:00:00"),
        ("2025-12-31 18:00:00", "2026-01-01 09:00:00"),
        ("2028-02-28 18:00:00", "2028-02-29 09:00:00"),
        ("2028-02-29 17:00:00", "2028-03-01 09:00:00"),
        ("2027-02-26 17:00:00", "2027-03-01 09:00:00"),
    ],
)
@pytest.mark.parametrize(
    "zone", ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Pacific/Kiritimati"]
)
def test_office_hours_are_half_open_and_skip_week_ends(zone: str, asked: str, opening: str) -> None:
    assert opens(OFFICE, zone, local(zone, asked)) == local(zone, opening)


@pytest.mark.parametrize(
    "zone, window, asked, opening",
    [
        # Berlin, 29 March 2026: 02:00 to 03:00 does not exist.
        ("Europe/Berlin", "02:15-02:45", "2026-03-29 00:00", "2026-03-30 00:15"),
        ("Europe/Berlin", "02:30-03:30", "2026-03-29 00:00", "2026-03-29 01:00"),
        ("Europe/Berlin", "01:30-02:30", "2026-03-29 00:30", "2026-03-29 00:30"),
        ("Europe/Berlin", "01:30-02:30", "2026-03-29 01:00", "2026-03-29 23:30"),
        ("Europe/Berlin", "09:00-17:00", "2026-03-28 16:00", "2026-03-29 07:00"),
        # Berlin, 25 October 2026: 02:00 to 03:00 comes twice.
        ("Europe/Berlin", "02:15-02:45", "2026-10-25 00:00", "2026-10-25 00:15"),
        ("Europe/Berlin", "02:15-02:45", "2026-10-25 00:45", "2026-10-25 01:15"),
        ("Europe/Berlin", "02:15-02:45", "2026-10-25 01:45", "2026-10-26 01:15"),
        ("Europe/Berlin", "01:30-02:30", "2026-10-25 00:30", "2026-10-25 01:00"),
        # Lord Howe Island turns the clock by half an hour: back on 5 April, on on 4 October.
        ("Australia/Lord_Howe", "01:40-01:50", "2026-04-04 14:50", "2026-04-04 15:10"),
        ("Australia/Lord_Howe", "02:10-02:40", "2026-10-03 15:00", "2026-10-03 15:30"),
        ("Australia/Lord_Howe", "02:00-02:20", "2026-10-03 15:00", "2026-10-04 15:00"),
        # Saint John's is three and a half hours behind, and turns the clock on 8 March.
        ("America/St_Johns", "02:00-03:00", "2026-03-08 00:00", "2026-03-09 04:30"),
        ("America/St_Johns", "09:00-10:00", "2026-03-07 14:00", "2026-03-08 11:30"),
        # Santiago: midnight to one does not exist on 6 September.
        ("America/Santiago", "00:00-00:30", "2026-09-05 12:00", "2026-09-07 03:00"),
        ("America/Santiago", "00:00-24:00", "2026-09-06 03:59", "2026-09-06 03:59"),
        ("Asia/Kolkata", "09:00-17:00", "2026-05-01 00:00", "2026-05-01 03:30"),
        # Samoa had no 30 December 2011.
        ("Pacific/Apia", "09:00-10:00", "2011-12-29 21:00", "2011-12-30 19:00"),
    ],
)
def test_clock_changes(zone: str, window: str, asked: str, opening: str) -> None:
    start, end = window.split("-")
    assert opens({"start": start, "end": end}, zone, utc(asked)) == utc(opening)


def test_a_weekday_that_a_zone_left_out_has_no_opening() -> None:
    fridays = {"weekdays": ["fri"], "start": "09:00", "end": "10:00"}
    asked = local("Pacific/Apia", "2011-12-29 12:00")
    assert opens(fridays, "Pacific/Apia", asked) == local("Pacific/Apia", "2012-01-06 09:00")


def test_holidays_are_local_dates() -> None:
    zone = "Pacific/Auckland"
    window = {"holidays": ["2026-12-25", "2026-12-26"]}
    before = local(zone, "2026-12-24 23:59:59")
    assert before.date() == date(2026, 12, 24)
    assert opens(window, zone, before) == before
    assert opens(window, zone, before + timedelta(seconds=1)) == local(zone, "2026-12-27 00:00")


def test_a_leap_day_can_be_a_holiday() -> None:
    window = {**OFFICE, "holidays": ["2028-02-29"]}
    asked = local("Europe/Berlin", "2028-02-28 17:00")
    assert opens(window, "Europe/Berlin", asked) == local("Europe/Berlin", "2028-03-01 09:00")


def test_a_window_until_midnight_has_its_last_second() -> None:
    evening = {"start": "20:00", "end": "24:00"}
    last = local("Europe/Berlin", "2026-03-04 23:59:59")
    assert opens(evening, "Europe/Berlin", last) == last
    assert opens(evening, "Europe/Berlin", last + timedelta(seconds=1)) == local(
        "Europe/Berlin", "2026-03-05 20:00"
    )


def test_a_window_that_is_always_open() -> None:
    asked = utc("2026-03-29 01:00")
    assert opens({}, "Europe/Berlin", asked) == asked


def test_an_opening_is_the_first_tick_inside_the_window() -> None:
    coarse = TimeScale(EPOCH, 3600_000)
    asked = utc("2026-03-04 00:30")
    # Ticks begin at half past; nine o'clock in Berlin is eight in UTC.
    assert opens(OFFICE, "Europe/Berlin", asked, coarse) == utc("2026-03-04 08:30")


def test_a_window_between_two_ticks_never_opens() -> None:
    coarse = TimeScale(EPOCH, 86_400_000)
    # Ticks begin at half past six in the evening, which is no longer inside the second window.
    for closed in ({"start": "12:00", "end": "13:00"}, {"start": "18:00", "end": "18:30"}):
        denial = verdict(closed, "UTC", utc("2026-03-04 18:30"), coarse)
        assert isinstance(denial, Denial)
        assert denial.effect == "fail"
    evening = {"start": "18:00", "end": "19:00"}
    assert isinstance(verdict(evening, "UTC", utc("2026-03-04 18:30"), coarse), Allow)


def mondays(count: int) -> list[str]:
    return [str(date(2026, 3, 2) + timedelta(weeks=week)) for week in range(count)]


def test_an_opening_is_found_in_the_last_days_of_the_search() -> None:
    window = {"weekdays": ["mon"], "holidays": mondays(57)}
    asked = utc("2026-03-02 00:00")
    assert opens(window, "UTC", asked) == asked + timedelta(weeks=57)


def test_a_window_that_never_opens_fails_the_step() -> None:
    window = {"weekdays": ["mon"], "holidays": mondays(58)}
    denial = verdict(window, "UTC", utc("2026-03-02 00:00"))
    assert isinstance(denial, Denial)
    assert (denial.rule, denial.effect, denial.until_tick) == ("windows", "fail", None)
    assert denial.detail.endswith("none opens within 400 days")


def test_the_denial_says_when_it_opens_but_not_where_the_contact_lives() -> None:
    window = {**OFFICE, "holidays": ["2026-12-25"]}
    denial = verdict(window, "Europe/Berlin", utc("2026-03-06 17:00"))
    assert isinstance(denial, Denial)
    assert denial.detail == (
        "outside the window for email (mon tue wed thu fri 09:00-17:00 except holidays, local time "
        "of the contact); it opens at 2026-03-09 08:00 UTC"
    )
    assert denial.reads == {
        "policy": 0,
        "zone": "contact",
        "zone.rules": denial.reads["zone.rules"],
    }
    assert denial.personal["zone"] == "Europe/Berlin"
    assert denial.personal["zone.offsets"] == "1772816400000+3600 until 1773043200001"


# --- zones that are not known -------------------------------------------------------------------


def unknown(channel: str, on_unknown_zone: str, default: ZoneRules | None = None) -> Allow | Denial:
    window = {**OFFICE, "onUnknownZone": on_unknown_zone}
    policy = read_policy({"windows": {"channels": {channel: window}}})
    tick = SCALE.tick_at(utc("2026-03-04 08:30"))
    return evaluate(policy, Snapshot(tick, SCALE, channel, "plan", default_zone=default))


@pytest.mark.parametrize("channel", ["email", "voice"])
@pytest.mark.parametrize("default", [None, rules("UTC", utc("2026-01-01"))])
def test_an_unknown_zone_fails_closed(channel: str, default: ZoneRules | None) -> None:
    denial = unknown(channel, "fail", default)
    assert isinstance(denial, Denial)
    assert (denial.rule, denial.effect, denial.until_tick) == ("windows", "fail", None)
    assert denial.detail == f"the contact's time zone is unknown: {channel} needs local time"
    assert denial.reads == {"policy": 0, "zone": "unknown"}
    assert denial.personal == {}


def test_an_unknown_zone_can_wait_for_the_next_day() -> None:
    denial = unknown("email", "defer")
    assert isinstance(denial, Denial)
    assert denial.effect == "defer"
    assert denial.until_tick == SCALE.tick_at(utc("2026-03-05 00:00"))
    assert denial.detail.endswith("looked at again at 2026-03-05 00:00 UTC")


def test_an_unknown_zone_can_be_stood_in_for() -> None:
    here = rules("Europe/Berlin", utc("2026-03-04 08:30"))
    allowed = unknown("email", "Europe/Berlin", here)
    assert isinstance(allowed, Allow)
    assert allowed.reads["zone"] == "default"
    denial = unknown("email", "America/New_York", rules("America/New_York", utc("2026-03-04")))
    assert isinstance(denial, Denial)
    assert denial.until_tick == SCALE.tick_at(utc("2026-03-04 14:00"))
    assert "time of America/New_York" in denial.detail


def test_a_stand_in_that_is_unknown_too_fails_closed() -> None:
    denial = unknown("email", "Nowhere/Land")
    assert isinstance(denial, Denial)
    assert denial.effect == "fail"
    assert denial.detail == (
        "the contact's time zone is unknown, and so is Nowhere/Land: email needs local time"
    )


def test_the_contact_s_own_zone_comes_before_the_stand_in() -> None:
    window = {**OFFICE, "onUnknownZone": "Europe/Berlin"}
    policy = read_policy({"windows": {"channels": {"email": window}}})
    at = utc("2026-03-04 09:00")
    own, other = rules("America/New_York", at), rules("Europe/Berlin", at)
    tick = SCALE.tick_at(at)
    denial = evaluate(policy, Snapshot(tick, SCALE, "email", "p", zone=own, default_zone=other))
    assert isinstance(denial, Denial)
    assert denial.reads["zone"] == "contact"


BEGIN = int(utc("2026-03-04").timestamp() * 1000)


@pytest.mark.parametrize(
    "zone",
    [
        ZoneRules("A/B", (), BEGIN + 10**12),
        ZoneRules("A/B", ((BEGIN + 1, 0),), BEGIN + 10**12),
        ZoneRules("A/B", ((BEGIN - 9, 0),), BEGIN),
    ],
)
def test_rules_that_do_not_reach_the_day_fail_closed(zone: ZoneRules) -> None:
    policy = read_policy({"windows": {"channels": {"email": {}}}})
    tick = SCALE.tick_at(utc("2026-03-04"))
    asked = Snapshot(tick, SCALE, "email", "plan", zone=zone)
    denial = evaluate(policy, asked)
    assert isinstance(denial, Denial)
    assert denial.effect == "fail"
    assert "do not reach this day" in denial.detail
    told = snapshot_from(policy, asked, denial.reads, denial.personal)
    assert evaluate(policy, told) == denial


def test_rules_that_end_before_the_next_opening_fail_closed() -> None:
    policy = read_policy({"windows": {"channels": {"email": OFFICE}}})
    zone = ZoneRules("A/B", ((BEGIN, 0),), BEGIN + 9 * 3_600_000)
    tick = SCALE.tick_at(utc("2026-03-04"))
    denial = evaluate(policy, Snapshot(tick, SCALE, "email", "plan", zone=zone))
    assert isinstance(denial, Denial)
    assert denial.effect == "fail"
    assert denial.detail.endswith("none opens as far as the rules of the zone are known")


def test_a_channel_without_a_window_is_open_at_any_hour() -> None:
    policy = read_policy({"windows": {"channels": {"voice": OFFICE}}})
    assert evaluate(policy, Snapshot(0, SCALE, "email", "plan")) == Allow({"policy": 0})
