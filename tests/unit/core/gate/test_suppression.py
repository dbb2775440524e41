"""Suppression: which one stops which send, and which keeps a contact out of a plan."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from dee_es.core.clock import TimeScale
from dee_es.core.gate import (
    Allow,
    Denial,
    Snapshot,
    SuppressionFact,
    enrollment_block,
    evaluate,
    read_policy,
)

SCALE = TimeScale(datetime(2026, 1, 1, tzinfo=UTC))
GLOBAL = SuppressionFact("global")
REGULATORY = SuppressionFact("regulatory")
EMAIL = SuppressionFact("channel", "email")
VOICE = SuppressionFact("channel", "voice")
THIS = SuppressionFact("plan", "plan")
OTHER = SuppressionFact("plan", "other")


def verdict(channel: str, *facts: SuppressionFact) -> Allow | Denial:
    return evaluate(None, Snapshot(7, SCALE, channel, "plan", facts))


def test_nobody_is_suppressed_by_nothing() -> None:
    assert verdict("email") == Allow()


def test_what_was_read_by_one_verdict_is_not_shared_with_another() -> None:
    first = verdict("email")
    first.reads["added"] = True
    assert verdict("email") == Allow()


@pytest.mark.parametrize("fact", [GLOBAL, REGULATORY, EMAIL, THIS], ids=str)
@pytest.mark.parametrize("policy", [None, read_policy({})], ids=["no policy", "empty policy"])
def test_a_send_is_denied_by(fact: SuppressionFact, policy: None) -> None:
    denial = evaluate(policy, Snapshot(7, SCALE, "email", "plan", (OTHER, fact, VOICE)))
    assert isinstance(denial, Denial)
    assert (denial.rule, denial.effect, denial.until_tick) == ("suppression", "skip", None)
    assert denial.detail == f"the contact is suppressed ({fact})"
    assert denial.reads["suppression"] == f"plan other,{fact},channel voice"


@pytest.mark.parametrize("fact", [VOICE, OTHER], ids=str)
def test_a_send_is_not_denied_by(fact: SuppressionFact) -> None:
    assert verdict("email", fact) == Allow({"suppression": str(fact)})


def test_a_plan_that_is_named_like_a_channel_is_no_channel() -> None:
    assert isinstance(verdict("email", SuppressionFact("plan", "email")), Allow)
    assert isinstance(verdict("email", SuppressionFact("channel", "plan")), Allow)


@pytest.mark.parametrize("channels", [set(), {"email"}, {"email", "voice"}])
@pytest.mark.parametrize("fact", [GLOBAL, REGULATORY, THIS], ids=str)
def test_a_plan_is_closed_by(fact: SuppressionFact, channels: set[str]) -> None:
    assert enrollment_block("plan", channels, (OTHER, fact)) == fact


def test_a_plan_is_closed_when_all_of_its_channels_are() -> None:
    assert enrollment_block("plan", {"email"}, (EMAIL,)) == EMAIL
    assert enrollment_block("plan", {"email", "voice"}, (VOICE, EMAIL)) == EMAIL


def test_a_plan_is_open_while_one_of_its_channels_is() -> None:
    assert enrollment_block("plan", {"email", "voice"}, (EMAIL,)) is None
    assert enrollment_block("plan", set(), (EMAIL, VOICE)) is None
    # Another plan that is named as a channel is.
    assert enrollment_block("plan", {"email"}, (SuppressionFact("plan", "email"),)) is None
    assert enrollment_block("plan", {"email"}, ()) is None
