"""The gate as a whole: the order of its rules, what they need and what they leave behind."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec.structs import replace

from dee_es.adapters.zones import load_zone
from dee_es.core import events as e
from dee_es.core.clock import TimeScale
from dee_es.core.compliance import gate_rule
from dee_es.core.gate import (
    RULE_NAMES,
    Allow,
    ConsentFact,
    Denial,
    Required,
    Snapshot,
    SuppressionFact,
    ZoneRules,
    counters,
    evaluate,
    read_policy,
    required,
    snapshot_from,
)
from dee_es.core.gate.slots import tick_text
from dee_es.engine.past.history import refused_by
from dee_es.errors import InvalidInput

EPOCH = datetime(2026, 3, 4, tzinfo=UTC)
SCALE = TimeScale(EPOCH, 1000)
BEGIN = int(EPOCH.timestamp() * 1000)
POLICY = read_policy(
    {
        "consent": {"required": ["email"], "purpose": "news"},
        "windows": {"channels": {"email": {"start": "09:00", "end": "17:00"}}},
        "limits": {"perDay": {"contact": 2}},
        "budget": {"amount": 10, "currency": "EUR", "costPerSend": {"email": 1}},
    }
)
ZONE = load_zone("Europe/Berlin", BEGIN, BEGIN + 401 * 86_400_000)
DAY = BEGIN // 86_400_000
CONTACT, BUDGET = ("contact:c1", DAY), ("budget:day:EUR", DAY)
WRONG = Snapshot(
    0,
    SCALE,
    "email",
    "plan",
    suppressions=(SuppressionFact("global"),),
    consent=None,
    zone=ZONE,
    contact_id="c1",
    sender="default",
    domain="d1",
    counters={CONTACT: 2, BUDGET: 10},
    policy_version=3,
)
RIGHTED: list[tuple[str, dict[str, Any]]] = [
    ("suppression", {"suppressions": ()}),
    ("consent", {"consent": ConsentFact("granted")}),
    ("windows", {"tick": 10 * 3600}),
    ("limits", {"counters": {CONTACT: 1, BUDGET: 10}}),
    ("budget", {"counters": {CONTACT: 1, BUDGET: 9}}),
]


def test_rules_are_asked_in_their_order() -> None:
    snapshot = WRONG
    denied = []
    for _, cure in RIGHTED:
        denial = evaluate(POLICY, snapshot)
        assert isinstance(denial, Denial)
        denied.append(denial.rule)
        snapshot = replace(snapshot, **cure)
    assert denied == [rule for rule, _ in RIGHTED] == list(RULE_NAMES)
    allowed = evaluate(POLICY, snapshot)
    assert isinstance(allowed, Allow)
    assert [counter.key for counter in allowed.counters] == [CONTACT, BUDGET]


@pytest.mark.parametrize("rule", RULE_NAMES)
def test_what_a_rule_denied_is_counted_and_told(rule: str) -> None:
    """Reports and timelines know the rules by the names that the gate has for them."""
    held = e.StepDeferred("intro", rule, "not now", 5, {"policy": 3})
    assert gate_rule(held) == ("deferred", rule)
    assert refused_by(held) == rule
    paused = e.RunPaused(cause=f"{rule}: not now", reads={"policy": 3})
    assert gate_rule(paused) == ("paused", rule)
    assert refused_by(paused) == rule


def test_what_was_read_is_enough_to_decide_again() -> None:
    snapshot = WRONG
    send = Snapshot(0, SCALE, "email", "plan", contact_id="c1")
    for _, cure in [*RIGHTED, ("", {})]:
        verdict = evaluate(POLICY, snapshot)
        told = snapshot_from(
            POLICY, replace(send, tick=snapshot.tick), verdict.reads, verdict.personal
        )
        assert evaluate(POLICY, told) == verdict
        snapshot = replace(snapshot, **cure)


def test_a_verdict_that_counted_no_address_is_reached_again_without_any() -> None:
    send = Snapshot(0, SCALE, "email", "plan", contact_id="c1", addresses=("email:e1", "phone:p1"))
    told = snapshot_from(POLICY, send, {"policy": 1, "limit.contact": 0}, {})
    assert told.addresses == ()
    told = snapshot_from(POLICY, send, {"policy": 1, "limit.contact.phone": 0}, {})
    assert told.addresses == ("phone:p1",)


BARE = Snapshot(0, SCALE, "email", "plan", contact_id="c1")
"""A send of which a replay knows no more than what is in the log without a key."""


@pytest.mark.parametrize("domain", ["d1", None])
@pytest.mark.parametrize(
    "full",
    ["", "channel:email", "sender:default", "domain:d1", "contact:c1", "contact.email:e1"],
)
def test_a_verdict_is_reached_again_though_nobody_knows_any_more_where_it_went(
    full: str, domain: str | None
) -> None:
    per_day = {"channel": {"email": 2}, "sender": 3, "domain": 2, "contact": 2}
    ramp = {"default": {"start": "2026-03-04", "perDay": [2]}}
    policy = read_policy({"limits": {"perDay": per_day, "warmUp": ramp}})
    counted, nowhere = {(full, DAY): 2}, full == "domain:d1" and domain is None
    send = replace(BARE, sender="default", domain=domain, addresses=("email:e1",))
    verdict = evaluate(policy, replace(send, counters=counted, policy_version=3))
    assert isinstance(verdict, Denial) == (full != "" and not nowhere)
    again = evaluate(policy, snapshot_from(policy, BARE, verdict.reads, verdict.personal))
    assert type(again) is type(verdict)
    assert again.reads == verdict.reads
    if isinstance(verdict, Denial):
        assert again == verdict


def test_a_verdict_by_the_zone_that_the_policy_names_is_reached_again() -> None:
    window = {"start": "09:00", "onUnknownZone": "Europe/Berlin"}
    policy = read_policy({"windows": {"channels": {"email": window}}})
    for tick, outcome in ((0, Denial), (9 * 3600, Allow)):
        verdict = evaluate(policy, replace(BARE, tick=tick, default_zone=ZONE))
        assert isinstance(verdict, outcome)
        told = snapshot_from(policy, replace(BARE, tick=tick), verdict.reads, verdict.personal)
        assert evaluate(policy, told) == verdict


def test_nothing_that_was_read_in_plain_text_names_the_contact_s_zone() -> None:
    snapshot = replace(WRONG, suppressions=(), consent=ConsentFact("granted"))
    denial = evaluate(POLICY, snapshot)
    assert isinstance(denial, Denial)
    assert denial.rule == "windows"
    assert "Berlin" not in f"{denial.reads} {denial.detail}"


def test_a_verdict_without_its_personal_part_is_not_guessed() -> None:
    snapshot = replace(WRONG, suppressions=(), consent=ConsentFact("granted"))
    with pytest.raises(InvalidInput):
        snapshot_from(POLICY, snapshot, evaluate(POLICY, snapshot).reads, {})


@pytest.mark.parametrize(
    "reads, personal",
    [
        ({"suppression": 3}, {}),
        ({"policy": "x"}, {}),
        ({"zone": "contact"}, {"zone": "A/B", "zone.offsets": "0+0"}),
        ({"zone": "contact"}, {"zone": "A/B", "zone.offsets": "0 until 5"}),
        ({"zone": "contact"}, {"zone": "A/B", "zone.offsets": "0+0 until x"}),
    ],
)
def test_reads_that_are_none_of_ours_are_refused(reads: Any, personal: Any) -> None:
    with pytest.raises(InvalidInput):
        snapshot_from(POLICY, WRONG, reads, personal)


def test_without_a_policy_nothing_is_required() -> None:
    assert required(None, "email") == Required()
    assert required(read_policy({}), "email") == Required()
    assert required(read_policy({"limits": {}}), "email") == Required()
    assert counters(None, WRONG) == ()


@pytest.mark.parametrize(
    "definition, needs",
    [
        (
            {"consent": {"required": ["email"], "purpose": "news"}},
            Required(consent=True, purpose="news"),
        ),
        ({"consent": {"required": ["voice"], "purpose": "news"}}, Required()),
        ({"windows": {"channels": {"email": {}}}}, Required(zone=True)),
        (
            {"windows": {"channels": {"email": {"onUnknownZone": "Asia/Tokyo"}}}},
            Required(zone=True, default_zone="Asia/Tokyo"),
        ),
        ({"windows": {"channels": {"voice": {}}}}, Required()),
        ({"limits": {"perDay": {"channel": {"voice": 1}}}}, Required()),
        ({"limits": {"perDay": {"channel": {"email": 1}}}}, Required(counters=True)),
        ({"limits": {"perDay": {"sender": 1}}}, Required(counters=True)),
        ({"limits": {"perDay": {"contact": 1}}}, Required(counters=True, addresses=True)),
        ({"limits": {"perDay": {"domain": 1}}}, Required(counters=True, domain=True)),
        (
            {"limits": {"warmUp": {"default": {"startTick": 0, "perDay": [1]}}}},
            Required(counters=True),
        ),
        (
            {"budget": {"amount": 1, "currency": "EUR", "costPerSend": {"email": 1}}},
            Required(counters=True),
        ),
        ({"budget": {"amount": 1, "currency": "EUR", "costPerSend": {"voice": 1}}}, Required()),
    ],
)
def test_a_rule_requires_what_it_reads(definition: object, needs: Required) -> None:
    assert required(read_policy(definition), "email") == needs


def test_times_beyond_the_calendar_are_told_as_ticks() -> None:
    assert tick_text(SCALE, 0) == "2026-03-04 00:00 UTC"
    assert tick_text(SCALE, 61) == "2026-03-04 00:01:01 UTC"
    assert tick_text(TimeScale(EPOCH, 1), 1) == "2026-03-04 00:00:00.001 UTC"
    assert tick_text(SCALE, 10**15) == "tick 1000000000000000"
    assert tick_text(SCALE, -(10**15)) == "tick -1000000000000000"


def test_zone_rules_survive_their_text() -> None:
    zone = ZoneRules("A/B", ((-1000, -4521), (0, 0), (500, 3600)), 900, "v")
    assert zone.text(-1000, 900) == "-1000-4521 0+0 500+3600 until 900"
    assert ZoneRules.parse("A/B", "v", zone.text(-1000, 900)) == zone
    assert zone.text(-5, 600) == "-5-4521 0+0 500+3600 until 600"
    assert zone.text(500, 9000) == "500+3600 until 900"
    assert zone.text(900, 950) == "until 900"


@pytest.mark.parametrize(
    "text", ["", "until", "0+3600", "0+3600 5", "0+3600 till 9", "0+3600 until", "x+1 until 9"]
)
def test_a_line_of_offsets_says_until_when_they_hold(text: str) -> None:
    with pytest.raises(InvalidInput, match="is not a line of UTC offsets"):
        ZoneRules.parse("A/B", "v", text)


def test_zone_rules_reach_from_their_first_offset_up_to_their_end() -> None:
    zone = ZoneRules("A/B", ((-1000, 0), (500, 3600)), 900)
    assert [zone.covers(ms) for ms in (-1001, -1000, 899, 900)] == [False, True, True, False]
    assert not ZoneRules("A/B", (), 900).covers(0)


def test_the_counters_of_a_verdict_have_their_own_names_again() -> None:
    policy = read_policy({"limits": {"perDay": {"domain": 3, "contact": 3}}})
    send = Snapshot(
        0, SCALE, "email", "plan", contact_id="c", domain="digest",
        addresses=("email:one", "phone:two"),
    )  # fmt: skip
    verdict = evaluate(policy, send)
    assert isinstance(verdict, Allow)
    names = [counter.key[0] for counter in verdict.counters]
    assert names == ["domain:digest", "contact:c", "contact.email:one", "contact.phone:two"]
    assert evaluate(policy, snapshot_from(policy, send, verdict.reads, {})) == verdict
