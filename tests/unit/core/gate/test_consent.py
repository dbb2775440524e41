"""Consent: off unless the policy asks for it, and then only a grant that still holds will do."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from dee_es.core.clock import TimeScale
from dee_es.core.gate import Allow, ConsentFact, Denial, Snapshot, evaluate, read_policy

SCALE = TimeScale(datetime(2026, 1, 1, tzinfo=UTC), 1000)
NEEDED = read_policy({"consent": {"required": ["email"]}})
TICK = 100


def verdict(fact: ConsentFact | None, channel: str = "email") -> Allow | Denial:
    return evaluate(NEEDED, Snapshot(TICK, SCALE, channel, "plan", consent=fact))


def test_a_grant_goes_on() -> None:
    assert verdict(ConsentFact("granted")) == Allow({"policy": 0, "consent.email": "granted"})


def test_a_grant_holds_before_it_expires() -> None:
    allowed = verdict(ConsentFact("granted", TICK + 1))
    assert isinstance(allowed, Allow)
    assert allowed.reads["consent.email.expires"] == TICK + 1


@pytest.mark.parametrize("expires", [TICK, TICK - 1, 0])
def test_a_grant_ends_with_the_tick_in_which_it_expires(expires: int) -> None:
    denial = verdict(ConsentFact("granted", expires))
    assert isinstance(denial, Denial)
    assert denial.detail.startswith("consent to email expired at 2026-01-01 00:0")


@pytest.mark.parametrize(
    "fact, detail",
    [
        (None, "consent to email is missing"),
        (ConsentFact(), "consent to email is missing"),
        (ConsentFact("revoked"), "consent to email was revoked"),
        (ConsentFact("revoked", TICK + 5), "consent to email was revoked"),
        (ConsentFact("expired"), "consent to email expired"),
        (ConsentFact("expired", 60), "consent to email expired at 2026-01-01 00:01 UTC"),
        (ConsentFact("of a later version"), "consent to email is missing"),  # type: ignore[arg-type]
    ],
)
def test_without_a_grant_the_step_is_skipped(fact: ConsentFact | None, detail: str) -> None:
    denial = verdict(fact)
    assert isinstance(denial, Denial)
    assert (denial.rule, denial.effect, denial.until_tick) == ("consent", "skip", None)
    assert denial.detail == detail
    assert denial.reads["consent.email"] == (fact.state if fact else "missing")


@pytest.mark.parametrize("fact", [None, ConsentFact("revoked")])
def test_a_channel_that_needs_no_consent_is_not_asked_for_any(fact: ConsentFact | None) -> None:
    assert verdict(fact, "voice") == Allow({"policy": 0})


def test_the_purpose_is_named() -> None:
    # As an older policy may have it; now it would be refused, since no grant can name it.
    policy = read_policy({"consent": {"required": ["voice"], "purpose": "the newsletter"}})
    denial = evaluate(policy, Snapshot(TICK, SCALE, "voice", "plan"))
    assert isinstance(denial, Denial)
    assert denial.detail == "consent to voice for the newsletter is missing"
