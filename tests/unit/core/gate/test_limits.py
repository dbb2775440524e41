"""Limits and budgets: counted by UTC day of logical time, opened again with the next one."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any

import pytest
from msgspec.structs import replace

from dee_es.core.clock import TimeScale
from dee_es.core.gate import (
    Allow,
    Counter,
    Denial,
    Snapshot,
    counters,
    evaluate,
    read_policy,
)
from dee_es.core.ids import CounterKey

# Ticks of a second; tick 0 is noon, so that days and ticks do not begin together.
SCALE = TimeScale(datetime(2026, 1, 1, 12, tzinfo=UTC), 1000)
NEW_YEAR = (date(2026, 1, 1) - date(1970, 1, 1)).days
HALF_DAY, DAY = 43_200, 86_400
ALL = {"channel": {"email": 50}, "sender": 40, "domain": 30, "contact": 20}


def send(tick: int = 0, used: Mapping[CounterKey, int] | None = None, **given: Any) -> Snapshot:
    about = {"channel": "email", "contact_id": "c1", "sender": "default", "domain": "d1", **given}
    return Snapshot(tick, SCALE, plan_id="plan", counters=used or {}, **about)


def limited(per_day: Mapping[str, Any], **more: Any) -> Any:
    return read_policy({"limits": {"perDay": per_day, **more}})


def deny(policy: Any, snapshot: Snapshot) -> Denial:
    found = evaluate(policy, snapshot)
    assert isinstance(found, Denial)
    return found


NAMES = ("channel:email", "sender:default", "domain:d1", "contact:c1")


def test_each_limit_names_the_counter_it_needs() -> None:
    assert counters(limited(ALL), send()) == tuple(
        Counter((name, NEW_YEAR), limit)
        for name, limit in zip(NAMES, (50, 40, 30, 20), strict=True)
    )


def test_a_send_that_is_allowed_says_which_counters_it_uses() -> None:
    allowed = evaluate(limited(ALL), send())
    assert isinstance(allowed, Allow)
    assert allowed.counters == counters(limited(ALL), send())
    assert allowed.reads == {
        "policy": 0,
        "limit.channel": 0,
        "limit.sender": 0,
        "sender": "default",
        "limit.domain": 0,
        "limit.contact": 0,
    }
    assert allowed.personal == {}


@pytest.mark.parametrize(
    "name, limit, whose",
    [
        ("channel:email", 50, "of the email channel"),
        ("sender:default", 40, "of the sender"),
        ("domain:d1", 30, "to the recipient's domain"),
        ("contact:c1", 20, "to the contact"),
    ],
)
def test_a_limit_holds_exactly(name: str, limit: int, whose: str) -> None:
    key = (name, NEW_YEAR)
    assert isinstance(evaluate(limited(ALL), send(used={key: limit - 1})), Allow)
    denial = deny(limited(ALL), send(used={key: limit}))
    assert (denial.rule, denial.effect, denial.until_tick) == ("limits", "defer", HALF_DAY)
    assert denial.detail == (
        f"the limit of {limit} sends a day {whose} is reached ({limit} used); "
        "it opens at 2026-01-02 00:00 UTC"
    )
    # A limit that was lowered below what is used denies too.
    assert deny(limited(ALL), send(used={key: limit + 9})).rule == "limits"


def test_the_denial_names_neither_contact_nor_domain() -> None:
    used = {(name, NEW_YEAR): 99 for name in NAMES}
    denial = deny(limited(ALL), send(used=used))
    told = f"{denial.detail} {denial.reads}"
    assert "c1" not in told
    assert "d1" not in told
    assert denial.reads["limit.contact"] == 99


# --- one person, several records ----------------------------------------------------------------

TWICE = limited({"contact": 2})
ADDRESSES = ("email:e1", "phone:p1")
ADDRESS_NAMES = ("contact:c1", "contact.email:e1", "contact.phone:p1")


def test_a_contact_is_counted_by_its_id_and_by_each_address() -> None:
    expected = tuple([Counter((name, NEW_YEAR), 2) for name in ADDRESS_NAMES])
    assert counters(TWICE, send(addresses=ADDRESSES)) == expected
    allowed = evaluate(TWICE, send(addresses=ADDRESSES))
    assert isinstance(allowed, Allow)
    assert allowed.counters == expected
    assert allowed.reads == {
        "policy": 0,
        "limit.contact": 0,
        "limit.contact.email": 0,
        "limit.contact.phone": 0,
    }


@pytest.mark.parametrize(
    "name, whose",
    [
        ("contact:c1", "contact"),
        ("contact.email:e1", "contact's e-mail address"),
        ("contact.phone:p1", "contact's telephone number"),
    ],
)
def test_whatever_a_contact_is_counted_by_has_to_have_room(name: str, whose: str) -> None:
    key = (name, NEW_YEAR)
    assert isinstance(evaluate(TWICE, send(used={key: 1}, addresses=ADDRESSES)), Allow)
    denial = deny(TWICE, send(used={key: 2}, addresses=ADDRESSES))
    assert denial.detail == (
        f"the limit of 2 sends a day to the {whose} is reached (2 used); "
        "it opens at 2026-01-02 00:00 UTC"
    )
    assert "e1" not in f"{denial.detail} {denial.reads}"


def test_a_contact_that_is_full_itself_is_named_once() -> None:
    used = {(name, NEW_YEAR): 2 for name in ADDRESS_NAMES}
    denial = deny(TWICE, send(used=used, addresses=ADDRESSES))
    assert denial.detail.count("reached") == 1
    assert "to the contact is" in denial.detail


def test_no_limit_per_contact_counts_no_address() -> None:
    assert counters(limited({"sender": 2}), send(addresses=ADDRESSES)) == counters(
        limited({"sender": 2}), send()
    )


# --- several at once ----------------------------------------------------------------------------


def test_all_limits_that_are_full_are_named() -> None:
    used = {("channel:email", NEW_YEAR): 50, ("domain:d1", NEW_YEAR): 31}
    denial = deny(limited(ALL), send(used=used))
    assert denial.detail == (
        "the limit of 50 sends a day of the email channel is reached (50 used), and "
        "the limit of 30 sends a day to the recipient's domain is reached (31 used); "
        "all are open at 2026-01-02 00:00 UTC"
    )


def test_a_step_waits_for_the_last_of_the_limits_that_are_full() -> None:
    ramp = {"default": {"start": "2026-01-05", "perDay": [2]}}
    policy = limited({"channel": {"email": 1}, "contact": 1}, warmUp=ramp)
    names = ("channel:email", "contact:c1")
    denial = deny(policy, send(used={(name, NEW_YEAR): 1 for name in names}))
    assert denial.until_tick == HALF_DAY + 3 * DAY
    assert denial.detail == (
        "the limit of 1 sends a day of the email channel is reached (1 used), and "
        "the warm-up of the sender has not begun, and "
        "the limit of 1 sends a day to the contact is reached (1 used); "
        "all are open at 2026-01-05 00:00 UTC"
    )


@pytest.mark.parametrize(
    "tick, day, until",
    [
        (0, 0, HALF_DAY),
        (HALF_DAY - 1, 0, HALF_DAY),
        (HALF_DAY, 1, HALF_DAY + DAY),
        (HALF_DAY + DAY - 1, 1, HALF_DAY + DAY),
        (HALF_DAY + DAY, 2, HALF_DAY + 2 * DAY),
        (58 * DAY + HALF_DAY, 59, 59 * DAY + HALF_DAY),
        (-HALF_DAY, 0, HALF_DAY),
        (-HALF_DAY - 1, -1, -HALF_DAY),
    ],
)
def test_slots_are_utc_days(tick: int, day: int, until: int) -> None:
    policy = limited({"contact": 1})
    key = ("contact:c1", NEW_YEAR + day)
    assert [counter.key for counter in counters(policy, send(tick))] == [key]
    assert deny(policy, send(tick, {key: 1})).until_tick == until
    others = {("contact:c1", NEW_YEAR + day + step): 1 for step in (-1, 1)}
    assert isinstance(evaluate(policy, send(tick, others)), Allow)


@pytest.mark.parametrize("resolution, until", [(1, 43_200_000), (7_000_000, 7), (10**9, 1)])
def test_the_next_slot_begins_with_the_first_tick_of_the_day(resolution: int, until: int) -> None:
    scale = TimeScale(SCALE.epoch, resolution)
    snapshot = Snapshot(0, scale, "email", "plan", counters={("channel:email", NEW_YEAR): 1})
    assert deny(limited({"channel": {"email": 1}}), snapshot).until_tick == until


def test_the_limit_of_one_channel_is_none_of_another() -> None:
    policy = limited({"channel": {"voice": 1}})
    assert counters(policy, send()) == ()
    assert evaluate(policy, send()) == Allow({"policy": 0})


def test_a_channel_without_domains_has_no_limit_per_domain() -> None:
    assert counters(limited({"domain": 3}), send(channel="voice", domain=None)) == ()


@pytest.mark.parametrize("effect", ["skip", "pause", "fail"])
def test_the_policy_says_what_becomes_of_a_step_over_a_limit(effect: str) -> None:
    key = ("contact:c1", NEW_YEAR)
    denial = deny(limited({"contact": 1}, effect=effect), send(used={key: 1}))
    assert (denial.effect, denial.until_tick) == (effect, None)
    assert denial.detail.endswith("it opens at 2026-01-02 00:00 UTC")


# --- warming up ---------------------------------------------------------------------------------

RAMP = {"default": {"start": "2026-01-02", "perDay": [2, 4, 8]}}


def sender_limit(policy: Any, day: int, sender: str = "default") -> int | None:
    found = counters(policy, send(day * DAY, sender=sender))
    return found[0].limit if found else None


@pytest.mark.parametrize("day, limit", [(-1, 0), (0, 0), (1, 2), (2, 4), (3, 8), (4, None)])
def test_a_ramp_grows_day_by_day_and_ends(day: int, limit: int | None) -> None:
    assert sender_limit(limited({}, warmUp=RAMP), day) == limit
    assert sender_limit(limited({}, warmUp=RAMP), day, "another") is None


@pytest.mark.parametrize("day, limit", [(0, 0), (1, 2), (2, 4), (3, 5), (4, 5)])
def test_a_ramp_and_the_sender_s_own_limit_hold_both(day: int, limit: int) -> None:
    assert sender_limit(limited({"sender": 5}, warmUp=RAMP), day) == limit
    assert sender_limit(limited({"sender": 5}, warmUp=RAMP), day, "another") == 5


def test_a_ramp_can_begin_with_a_tick() -> None:
    policy = limited({}, warmUp={"default": {"startTick": HALF_DAY + 5, "perDay": [2, 4]}})
    assert [sender_limit(policy, day) for day in range(4)] == [0, 2, 4, None]


def test_before_its_ramp_a_sender_waits_for_the_first_day() -> None:
    ramp = {"default": {"start": "2026-01-05", "perDay": [2]}}
    denial = deny(limited({}, warmUp=ramp), send())
    assert denial.until_tick == HALF_DAY + 3 * DAY
    assert denial.detail == (
        "the warm-up of the sender has not begun; it opens at 2026-01-05 00:00 UTC"
    )


def test_on_its_ramp_a_sender_waits_for_the_next_day() -> None:
    key = ("sender:default", NEW_YEAR + 1)
    denial = deny(limited({}, warmUp=RAMP), send(DAY, {key: 2}))
    assert denial.until_tick == HALF_DAY + DAY


# --- budgets ------------------------------------------------------------------------------------


def budget(**given: Any) -> Any:
    costs = {"email": 3, "voice": 25}
    return read_policy(
        {"budget": {"amount": 100, "currency": "EUR", "costPerSend": costs, **given}}
    )


DAILY = ("budget:day:EUR", NEW_YEAR)
TOTAL = ("budget:total:EUR", 0)


def test_a_send_is_paid_for_by_its_channel_s_price() -> None:
    assert counters(budget(), send()) == (Counter(DAILY, 100, 3),)
    assert counters(budget(), send(channel="voice")) == (Counter(DAILY, 100, 25),)
    assert counters(budget(per="total"), send(9 * DAY)) == (Counter(TOTAL, 100, 3),)


@pytest.mark.parametrize("channel, cost", [("email", 3), ("voice", 25)])
def test_a_budget_is_spent_to_the_last_unit_and_not_beyond(channel: str, cost: int) -> None:
    allowed = evaluate(budget(), send(used={DAILY: 100 - cost}, channel=channel))
    assert isinstance(allowed, Allow)
    assert allowed.reads["budget"] == 100 - cost
    denial = deny(budget(), send(used={DAILY: 101 - cost}, channel=channel))
    assert (denial.rule, denial.effect, denial.until_tick) == ("budget", "defer", HALF_DAY)
    assert denial.detail == (
        f"the day's budget is used up: {101 - cost} of 100 EUR units are spent and this {channel} "
        f"costs {cost}; it opens at 2026-01-02 00:00 UTC"
    )


def test_a_total_pauses_the_run() -> None:
    denial = deny(budget(per="total"), send(used={TOTAL: 99}))
    assert (denial.effect, denial.until_tick) == ("pause", None)
    assert denial.detail.endswith("it needs to be raised")


@pytest.mark.parametrize("used", [{}, {DAILY: 98}, {("contact:c1", NEW_YEAR): 1}])
def test_counters_that_were_asked_for_before_lead_to_the_same_verdict(
    used: Mapping[CounterKey, int],
) -> None:
    """The engine asks for them once, to read what is used of them, and hands them on."""
    costs = {"amount": 100, "currency": "EUR", "costPerSend": {"email": 3}}
    policy = read_policy({"limits": {"perDay": {"contact": 1}}, "budget": costs})
    snapshot = send(used=used)
    handed_on = replace(snapshot, needed=counters(policy, snapshot))
    assert evaluate(policy, handed_on) == evaluate(policy, snapshot)


@pytest.mark.parametrize("per", ["day", "total"])
@pytest.mark.parametrize("effect", ["skip", "pause", "fail"])
def test_the_policy_says_what_becomes_of_a_step_over_budget(per: str, effect: str) -> None:
    used = {DAILY: 99, TOTAL: 99}
    denial = deny(budget(per=per, effect=effect), send(used=used))
    assert (denial.effect, denial.until_tick) == (effect, None)


def test_a_channel_without_a_price_is_free() -> None:
    policy = budget(costPerSend={"voice": 25}, amount=25)
    assert counters(policy, send()) == ()
    assert isinstance(evaluate(policy, send(used={DAILY: 25})), Allow)
    free = budget(costPerSend={"email": 0}, amount=0)
    assert counters(free, send()) == ()
