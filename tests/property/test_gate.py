"""The gate, whatever the policy, the zone and the moment: never early, never late, never over."""

from __future__ import annotations

import copy
from collections import Counter as Tally
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from dee_es.adapters.zones import load_zone
from dee_es.core.clock import TimeScale
from dee_es.core.gate import (
    Allow,
    ConsentFact,
    Denial,
    Snapshot,
    SuppressionFact,
    ZoneRules,
    check_policy,
    counters,
    evaluate,
    read_policy,
    snapshot_from,
)
from dee_es.core.ids import CounterKey

UNIX = datetime(1970, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
WEEKDAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
ZONES = [
    *["UTC", "Europe/Berlin", "America/New_York", "America/St_Johns", "America/Santiago"],
    *["Asia/Kolkata", "Asia/Kathmandu", "Australia/Lord_Howe", "Australia/Adelaide"],
    *["Pacific/Chatham", "Pacific/Apia", "Pacific/Kiritimati", "Africa/Casablanca"],
]
CHANNELS = ["email", "voice"]
EFFECTS = ["skip", "defer", "pause", "fail"]


def clock(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"


def window_of(bounds: tuple[int, int], weekdays: list[str], holidays: list[Any]) -> dict[str, Any]:
    start, end = sorted(bounds)
    return {
        "weekdays": weekdays,
        "start": clock(start),
        "end": clock(end),
        "holidays": [str(day) for day in holidays],
    }


DATES = st.dates(datetime(2010, 12, 1).date(), datetime(2030, 12, 31).date())
BOUNDS = st.tuples(st.integers(0, 1440), st.integers(0, 1440)).filter(lambda b: b[0] != b[1])
WINDOW = st.builds(
    window_of,
    BOUNDS,
    st.lists(st.sampled_from(WEEKDAYS), min_size=1, unique=True),
    st.lists(DATES, max_size=3),
)


@st.composite
def moments(draw: st.DrawFn, zone: str) -> datetime:
    """A minute in UTC, more often than not within a day or two of one of the zone's changes."""
    year = draw(st.integers(2011, 2030))
    rules = load_zone(
        zone, _ms(datetime(year, 1, 1, tzinfo=UTC)), _ms(datetime(year, 12, 31, tzinfo=UTC))
    )
    assert rules is not None
    start, _ = draw(st.sampled_from(rules.transitions))
    around = (
        UNIX + timedelta(milliseconds=start) + timedelta(minutes=draw(st.integers(-3000, 1500)))
    )
    anywhere = datetime(year, 1, 1, tzinfo=UTC) + timedelta(minutes=draw(st.integers(0, 525_599)))
    return draw(st.sampled_from([around, anywhere]))


def _ms(moment: datetime) -> int:
    return (moment - UNIX) // timedelta(milliseconds=1)


def rules_at(zone: str, moment: datetime) -> ZoneRules:
    found = load_zone(zone, _ms(moment), _ms(moment + 401 * DAY))
    assert found is not None
    return found


def inside(window: dict[str, Any], zone: ZoneInfo, moment: datetime) -> bool:
    """The same question asked of Python's own zones."""
    local = moment.astimezone(zone)
    if WEEKDAYS[local.weekday()] not in window["weekdays"]:
        return False
    if local.date().isoformat() in window["holidays"]:
        return False
    return bool(window["start"] <= local.strftime("%H:%M") < window["end"])


@given(st.data(), WINDOW, st.sampled_from(ZONES), st.sampled_from([60_000, 420_000]))
def test_the_next_opening_is_the_first_tick_inside_the_window(
    data: st.DataObject, window: dict[str, Any], zone: str, resolution: int
) -> None:
    moment = data.draw(moments(zone))
    scale = TimeScale(datetime(2010, 1, 1, tzinfo=UTC), resolution)
    tick = scale.tick_from(moment)
    at = scale.time(tick)
    policy = read_policy({"windows": {"channels": {"email": window}}})
    verdict = evaluate(policy, Snapshot(tick, scale, "email", "p", zone=rules_at(zone, at)))
    local = ZoneInfo(zone)
    if isinstance(verdict, Allow):
        assert inside(window, local, at)
        return
    # A month holds an opening of every weekday that three holidays can close, if any tick meets it.
    last = verdict.until_tick
    if last is None:
        last = tick + int(30 * DAY.total_seconds() * 1000) // resolution
    else:
        assert inside(window, local, scale.time(last))
    assert not any(inside(window, local, scale.time(each)) for each in range(tick, last))


@given(st.data(), WINDOW, st.sampled_from(ZONES))
def test_a_deferred_step_is_allowed_at_its_tick_and_at_none_before(
    data: st.DataObject, window: dict[str, Any], zone: str
) -> None:
    """Seen from any tick in between, the opening is the same."""
    scale = TimeScale(datetime(2010, 1, 1, tzinfo=UTC), 1000)
    tick = scale.tick_at(data.draw(moments(zone)))
    policy = read_policy({"windows": {"channels": {"email": window}}})
    send = Snapshot(tick, scale, "email", "p", zone=rules_at(zone, scale.time(tick)))
    verdict = evaluate(policy, send)
    if isinstance(verdict, Allow):
        return
    until = verdict.until_tick
    assert until is not None
    later = data.draw(st.integers(tick, until - 1))
    between = evaluate(policy, replace(send, tick=later))
    assert isinstance(between, Denial)
    assert between.until_tick == until
    assert isinstance(evaluate(policy, replace(send, tick=until)), Allow)


# --- limits and budgets -------------------------------------------------------------------------

COUNT = st.integers(1, 4)
LIMITS = st.fixed_dictionaries(
    {},
    optional={
        "perDay": st.fixed_dictionaries(
            {},
            optional={
                "channel": st.dictionaries(st.sampled_from(CHANNELS), COUNT),
                "sender": COUNT,
                "domain": COUNT,
                "contact": COUNT,
            },
        ),
        "warmUp": st.dictionaries(
            st.sampled_from(["s1", "s2"]),
            st.fixed_dictionaries(
                {
                    "startTick": st.integers(0, 100),
                    "perDay": st.lists(COUNT, min_size=1, max_size=3),
                }
            ),
        ),
        "effect": st.sampled_from(EFFECTS),
    },
)
BUDGET = st.builds(
    lambda per, amount, costs, effect: {
        "amount": amount,
        "currency": "EUR",
        "costPerSend": {channel: min(cost, amount) for channel, cost in costs.items()},
        "per": per,
        "effect": "pause" if (per, effect) == ("total", "defer") else effect,
    },
    st.sampled_from(["day", "total"]),
    st.integers(0, 20),
    st.dictionaries(st.sampled_from(CHANNELS), st.integers(0, 9), min_size=1),
    st.sampled_from(EFFECTS),
)
SEND = st.tuples(
    st.integers(0, 3),
    st.sampled_from(CHANNELS),
    st.sampled_from(["s1", "s2"]),
    st.sampled_from(["d1", "d2", None]),
    st.sampled_from(["c1", "c2", "c3"]),
    # Records of one person may share an address, and may share it only now and then.
    st.sampled_from([(), ("email:e1",), ("phone:p1",), ("email:e1", "phone:p1"), ("email:e2",)]),
)


@given(LIMITS, BUDGET, st.lists(SEND, min_size=1, max_size=60))
def test_limits_and_budgets_are_never_exceeded(
    limits: dict[str, Any], budget: dict[str, Any], sends: list[Any]
) -> None:
    policy = read_policy({"limits": limits, "budget": budget})
    # Ticks of six hours from six in the morning on: a few days pass while the sends are made.
    scale = TimeScale(datetime(2026, 2, 26, 6, tzinfo=UTC), 6 * 3_600_000)
    used: dict[CounterKey, int] = {}
    made: Tally[tuple[str, Any, Any]] = Tally()
    spent: Tally[Any] = Tally()
    tick = 0
    for pace, channel, sender, domain, contact, addresses in sends:
        tick += max(pace - 2, 0)
        send = Snapshot(
            tick,
            scale,
            channel,
            "p",
            contact_id=contact,
            sender=sender,
            domain=domain,
            addresses=addresses,
            counters=used,
        )
        verdict = evaluate(policy, send)
        if isinstance(verdict, Denial):
            assert verdict.until_tick is None or verdict.until_tick > tick
            continue
        for counter in verdict.counters:
            used[counter.key] = used.get(counter.key, 0) + counter.amount
        day = scale.time(tick).date()
        subjects = {"channel": channel, "sender": sender, "domain": domain, "contact": contact}
        made.update((kind, subject, day) for kind, subject in subjects.items() if subject)
        made.update(("contact", address, day) for address in addresses)
        spent[day if budget["per"] == "day" else "ever"] += budget["costPerSend"].get(channel, 0)
    _check_made(limits, scale, made)
    assert all(money <= budget["amount"] for money in spent.values())


def _check_made(
    limits: dict[str, Any], scale: TimeScale, made: Tally[tuple[str, Any, Any]]
) -> None:
    per_day = limits.get("perDay", {})
    for (kind, subject, day), count in made.items():
        bound = per_day.get("channel", {}).get(subject) if kind == "channel" else per_day.get(kind)
        assert bound is None or count <= bound
        ramp = limits.get("warmUp", {}).get(subject) if kind == "sender" else None
        if ramp:
            place = (day - scale.time(ramp["startTick"]).date()).days
            assert place >= 0
            assert place >= len(ramp["perDay"]) or count <= ramp["perDay"][place]


# --- any policy, any snapshot -------------------------------------------------------------------

POLICY = st.fixed_dictionaries(
    {},
    optional={
        "consent": st.fixed_dictionaries(
            {"required": st.lists(st.sampled_from(CHANNELS), min_size=1)},
            optional={"purpose": st.sampled_from(["news", "service"])},
        ),
        "windows": st.fixed_dictionaries(
            {"channels": st.fixed_dictionaries({"email": WINDOW}, optional={"voice": WINDOW})}
        ),
        "limits": LIMITS,
        "budget": BUDGET,
    },
)
UNKNOWN = st.sampled_from(["defer", "fail", "Europe/Berlin", "Nowhere/Land"])
FACT = st.builds(
    SuppressionFact,
    st.sampled_from(["global", "channel", "plan", "regulatory"]),
    st.sampled_from(["", "email", "voice", "p", "q"]),
)
TICK = st.one_of(st.integers(-(10**6), 10**6), st.integers(-(10**18), 10**18))
RULES = st.one_of(
    st.none(),
    st.sampled_from(ZONES).map(lambda zone: rules_at(zone, datetime(2026, 1, 1, tzinfo=UTC))),
    st.builds(
        ZoneRules,
        st.just("A/B"),
        st.lists(
            st.tuples(st.integers(-(10**15), 10**15), st.integers(-86_399, 86_399)), max_size=4
        )
        .map(sorted)
        .map(tuple),
        st.integers(-(10**15), 10**15),
        st.just("v1"),
    ),
)
SNAPSHOT = st.builds(
    Snapshot,
    tick=TICK,
    scale=st.builds(
        TimeScale,
        st.datetimes(datetime(1999, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)),
        st.sampled_from([1, 7, 1000, 60_000, 86_400_000, 10**9]),
    ),
    channel=st.sampled_from([*CHANNELS, "fax"]),
    plan_id=st.sampled_from(["p", "q"]),
    suppressions=st.one_of(st.just(()), st.lists(FACT, max_size=3).map(tuple)),
    consent=st.one_of(
        st.none(),
        st.builds(
            ConsentFact,
            st.sampled_from(["granted", "revoked", "expired", "missing"]),
            st.one_of(st.none(), TICK),
        ),
    ),
    zone=RULES,
    default_zone=RULES,
    contact_id=st.sampled_from(["c1", "c2"]),
    sender=st.sampled_from(["s1", "s2", ""]),
    domain=st.sampled_from(["d1", None]),
    addresses=st.sampled_from([(), ("email:e1",), ("phone:p1",), ("email:e1", "phone:p1")]),
    policy_version=st.integers(0, 9),
)


@given(st.none() | POLICY, UNKNOWN, SNAPSHOT, st.data())
def test_any_snapshot_has_one_verdict_that_can_be_reached_again(
    definition: dict[str, Any] | None, unknown: str, send: Snapshot, data: st.DataObject
) -> None:
    if definition is not None and "windows" in definition:
        email = {**definition["windows"]["channels"]["email"], "onUnknownZone": unknown}
        channels = {**definition["windows"]["channels"], "email": email}
        definition = {**definition, "windows": {"channels": channels}}
    policy = None if definition is None else read_policy(definition)
    if policy is not None:
        assert read_policy(check_policy(definition)) == policy
    needed = counters(policy, send)
    used = {counter.key: data.draw(st.integers(0, 30)) for counter in needed}
    snapshot = replace(send, counters=used)
    verdict = evaluate(policy, snapshot)
    assert evaluate(policy, copy.deepcopy(snapshot)) == verdict
    assert evaluate(policy, replace(snapshot, needed=needed)) == verdict
    if isinstance(verdict, Denial):
        assert (verdict.effect == "defer") == (verdict.until_tick is not None)
        assert verdict.until_tick is None or verdict.until_tick > send.tick
        assert verdict.detail
    bare = Snapshot(send.tick, send.scale, send.channel, send.plan_id, contact_id=send.contact_id)
    about = replace(bare, domain=send.domain, addresses=send.addresses, needed=())
    told = snapshot_from(policy, about, verdict.reads, verdict.personal)
    assert evaluate(policy, told) == verdict
    # Without the digests the counters have other names, but the verdict says the same.
    unnamed = evaluate(policy, snapshot_from(policy, bare, verdict.reads, verdict.personal))
    assert type(unnamed) is type(verdict)
    assert (unnamed.reads, unnamed.personal) == (verdict.reads, verdict.personal)
    if isinstance(verdict, Denial):
        assert unnamed == verdict
    flat = [*verdict.reads.values(), *verdict.personal.values()]
    assert all(value is None or isinstance(value, str | int) for value in flat)
