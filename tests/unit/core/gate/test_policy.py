"""A policy's definition: one stored form, and every fault named by its field."""

from __future__ import annotations

from typing import Any

import pytest

from dee_es.core.gate import check_policy, read_policy
from dee_es.errors import InvalidInput

WINDOW = {
    "weekdays": ["mon"],
    "start": "09:00",
    "end": "17:00",
    "holidays": [],
    "onUnknownZone": "fail",
}
FULL = {
    "consent": {"required": ["email", "voice"], "purpose": "marketing"},
    "windows": {
        "channels": {
            "email": {**WINDOW, "holidays": ["2026-12-25"], "onUnknownZone": "Europe/Berlin"},
            "voice": WINDOW,
        }
    },
    "limits": {
        "perDay": {"channel": {"email": 500}, "sender": 200, "domain": 50, "contact": 2},
        "warmUp": {
            "default": {"start": "2026-03-01", "perDay": [20, 40, 80]},
            "other": {"startTick": 5, "perDay": [1]},
        },
        "effect": "defer",
    },
    "budget": {
        "amount": 5000,
        "currency": "EUR",
        "costPerSend": {"voice": 12},
        "per": "day",
        "effect": "defer",
    },
}


def test_a_complete_policy_is_its_own_stored_form() -> None:
    assert check_policy(FULL) == FULL


def test_the_stored_form_reads_as_the_same_policy() -> None:
    assert read_policy(check_policy(FULL)) == read_policy(FULL)


def test_everything_is_optional() -> None:
    assert check_policy({}) == {}


def test_defaults_are_filled_in() -> None:
    every_day = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
    costs = {"amount": 9, "currency": "EUR", "costPerSend": {"email": 1}}
    assert check_policy(
        {"windows": {"channels": {"voice": {}}}, "limits": {}, "budget": costs}
    ) == {
        "windows": {
            "channels": {
                "voice": {
                    "weekdays": every_day,
                    "start": "00:00",
                    "end": "24:00",
                    "holidays": [],
                    "onUnknownZone": "fail",
                }
            }
        },
        "limits": {"perDay": {"channel": {}}, "warmUp": {}, "effect": "defer"},
        "budget": {**costs, "per": "day", "effect": "defer"},
    }
    total = check_policy({"budget": {**costs, "per": "total"}})
    assert total["budget"]["effect"] == "pause"


def test_one_meaning_has_one_form() -> None:
    written = {
        "consent": {"required": ["voice", "email", "voice"]},
        "windows": {
            "channels": {
                "email": {
                    "weekdays": ["sun", "mon", "sun"],
                    "holidays": ["2027-01-01", "2026-12-25", "2027-01-01"],
                    "on_unknown_zone": "defer",
                }
            }
        },
    }
    checked = check_policy(written)
    assert checked["consent"]["required"] == ["email", "voice"]
    window = checked["windows"]["channels"]["email"]
    assert window["weekdays"] == ["mon", "sun"]
    assert window["holidays"] == ["2026-12-25", "2027-01-01"]
    assert window["onUnknownZone"] == "defer"


def windows(**window: Any) -> dict[str, Any]:
    return {"windows": {"channels": {"email": window}}}


def budget(**given: Any) -> dict[str, Any]:
    usual = {"amount": 9, "currency": "EUR", "costPerSend": {"email": 1}}
    return {"budget": {**usual, **given}}


def ramp(**given: Any) -> dict[str, Any]:
    return {"limits": {"warmUp": {"default": given}}}


EMAIL = "policy.windows.channels.email"


@pytest.mark.parametrize(
    "definition, field, problem",
    [
        (None, "policy", "must be a map"),
        ([], "policy", "must be a map"),
        (
            {"rate": 1},
            "policy.rate",
            "is not known here; there are consent, windows, limits and budget",
        ),
        ({"limit": {}}, "policy.limit", "is not known here; did you mean limits?"),
        ({"windows": {"fax": {}}}, "policy.windows.fax", "is not known here; there is channels"),
        (windows(holiday=[]), f"{EMAIL}.holiday", "is not known here; did you mean holidays?"),
        (
            ramp(begin=3),
            "policy.limits.warmUp.default.begin",
            "is not known here; there are start, startTick and perDay",
        ),
        ({"consent": True}, "policy.consent", "must be a map"),
        ({"consent": {}}, "policy.consent.required", "is missing"),
        ({"consent": {"required": []}}, "policy.consent.required", "is empty"),
        ({"consent": {"required": "email"}}, "policy.consent.required", "must be a list"),
        ({"consent": {"required": ["fax"]}}, "policy.consent.required[0]", "must be 'email'"),
        (
            {"consent": {"required": ["email"], "purpose": " "}},
            "policy.consent.purpose",
            "must not be blank",
        ),
        (
            {"consent": {"required": ["email"], "purpose": "product news"}},
            "policy.consent.purpose",
            "must be 1 to 128 characters out of",
        ),
        ({"windows": {}}, "policy.windows.channels", "is missing"),
        ({"windows": {"channels": {}}}, "policy.windows.channels", "is empty"),
        ({"windows": {"channels": {"fax": {}}}}, "policy.windows.channels.fax", "must be 'email'"),
        (windows(weekdays=[]), f"{EMAIL}.weekdays", "is empty"),
        (windows(weekdays=["Mon"]), f"{EMAIL}.weekdays[0]", "must be 'mon'"),
        (windows(start="9:00"), f"{EMAIL}.start", "is not a time"),
        (windows(start="24:00"), f"{EMAIL}.end", "is not after its start"),
        (windows(end="24:01"), f"{EMAIL}.end", "is not a time"),
        (windows(end="17:60"), f"{EMAIL}.end", "is not a time"),
        (windows(end="17:00\n"), f"{EMAIL}.end", "is not a time"),
        (windows(end="١٧:٠٠"), f"{EMAIL}.end", "is not a time"),
        (windows(end=17), f"{EMAIL}.end", "must be text"),
        (windows(start="22:00", end="06:00"), f"{EMAIL}.end", "cannot cross midnight"),
        (windows(start="09:00", end="09:00"), f"{EMAIL}.end", "is not after its start"),
        (windows(holidays=["2027-02-29"]), f"{EMAIL}.holidays[0]", "is not a date"),
        (windows(holidays=["20261225"]), f"{EMAIL}.holidays[0]", "is not a date"),
        (windows(holidays=["2026-W52-5"]), f"{EMAIL}.holidays[0]", "is not a date"),
        (windows(holidays=["2026-01-01"] * 1001), f"{EMAIL}.holidays", "more than 1000"),
        (windows(onUnknownZone="skip"), f"{EMAIL}.onUnknownZone", "is none of defer, fail"),
        (windows(onUnknownZone="../etc/passwd"), f"{EMAIL}.onUnknownZone", "is none of"),
        (windows(onUnknownZone="A/" + "b" * 99), f"{EMAIL}.onUnknownZone", "is none of"),
        (
            {"windows": {"channels": {"voice": {"onUnknownZone": "defer"}}}},
            "policy.windows.channels.voice.onUnknownZone",
            "must be fail",
        ),
        (
            {"windows": {"channels": {"voice": {"onUnknownZone": "Europe/Berlin"}}}},
            "policy.windows.channels.voice.onUnknownZone",
            "must be fail",
        ),
        ({"limits": {"perDay": {"sender": 0}}}, "policy.limits.perDay.sender", "not be less than"),
        ({"limits": {"perDay": {"sender": True}}}, "policy.limits.perDay.sender", "whole number"),
        ({"limits": {"perDay": {"domain": 1.0}}}, "policy.limits.perDay.domain", "whole number"),
        ({"limits": {"perDay": {"contact": "2"}}}, "policy.limits.perDay.contact", "whole number"),
        (
            {"limits": {"perDay": {"channel": {"email": -1}}}},
            "policy.limits.perDay.channel.email",
            "must not be less than 1",
        ),
        ({"limits": {"effect": "wait"}}, "policy.limits.effect", "must be 'skip', 'defer'"),
        (ramp(perDay=[1]), "policy.limits.warmUp.default.start", "must be given"),
        (
            ramp(perDay=[1], start="2026-01-01", startTick=1),
            "policy.limits.warmUp.default.start",
            "exactly one",
        ),
        (ramp(start="2026-01-01"), "policy.limits.warmUp.default.perDay", "is missing"),
        (ramp(start="2026-01-01", perDay=[]), "policy.limits.warmUp.default.perDay", "is empty"),
        (
            ramp(start="2026-01-01", perDay=[1, 0]),
            "policy.limits.warmUp.default.perDay[1]",
            "must not be less than 1",
        ),
        ({"limits": {"warmUp": {"a b": {}}}}, "policy.limits.warmUp.a b", "well-formed id"),
        (budget(amount=1.5), "policy.budget.amount", "whole number"),
        (budget(amount=-1), "policy.budget.amount", "must not be less than 0"),
        (budget(amount=2**53 + 1), "policy.budget.amount", "2^53"),
        (budget(currency="eur"), "policy.budget.currency", "currency code"),
        (budget(costPerSend={}), "policy.budget.costPerSend", "is empty"),
        (
            budget(costPerSend={"email": 10}),
            "policy.budget.amount",
            "is below what one email costs",
        ),
        (budget(per="week"), "policy.budget.per", "must be 'day' or 'total'"),
        (budget(per="total", effect="defer"), "policy.budget.effect", "cannot be defer"),
        ({"consent": {"required": ["em\x00ail"]}}, "policy.consent.required[0]", "NUL"),
        ({"budget": {1: 2}}, "policy.budget", "keys must be text"),
    ],
)
def test_a_fault_is_named_by_its_field(definition: object, field: str, problem: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_policy(definition)
    assert caught.value.field == field
    assert problem in caught.value.problem


def test_a_policy_cannot_be_changed() -> None:
    policy = read_policy(FULL)
    with pytest.raises(ValueError, match="frozen"):
        policy.consent = None  # type: ignore[misc]
