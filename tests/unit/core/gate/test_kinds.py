"""Whatever a policy can count by is read, held to, told, and found again in what was noted."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec.structs import replace

from dee_es.core.clock import TimeScale
from dee_es.core.gate import (
    KINDS,
    Allow,
    Counter,
    Denial,
    Snapshot,
    counters,
    evaluate,
    keeps_failed,
    read_policy,
    required,
    snapshot_from,
)
from dee_es.core.gate.model import Limits
from dee_es.core.steps.base import PlanPart

BUDGET = {"amount": 9, "currency": "EUR", "costPerSend": {"email": 9}}
SEND = Snapshot(
    0,
    TimeScale(datetime(2026, 3, 4, tzinfo=UTC)),
    "email",
    "plan",
    contact_id="c1",
    sender="default",
    domain="d1",
    addresses=("email:e1", "phone:p1"),
)


def single_limits() -> Iterator[dict[str, Any]]:
    """A policy for each number that the model of limits can hold, whatever they may become."""
    for name, field in Limits.model_fields.items():
        part = field.annotation
        if isinstance(part, type) and issubclass(part, PlanPart):
            for each, inner in part.model_fields.items():
                number = {"email": 3} if "dict" in str(inner.annotation) else 3
                yield {"limits": {name: {each: number}}}


POLICIES = [*single_limits(), {"budget": BUDGET}]
COUNTED = [(each, found) for each in POLICIES for found in counters(read_policy(each), SEND)]


def test_every_limit_counts_and_every_kind_is_counted() -> None:
    assert len(POLICIES) >= 5
    assert {found.kind for _, found in COUNTED} == set(KINDS)
    for each in POLICIES:
        assert counters(read_policy(each), SEND), each


@pytest.mark.parametrize("definition", POLICIES)
def test_what_a_limit_is_counted_by_is_read(definition: dict[str, Any]) -> None:
    policy = read_policy(definition)
    needs = required(policy, "email")
    assert needs.counters
    read = replace(
        SEND,
        domain=SEND.domain if needs.domain else None,
        addresses=SEND.addresses if needs.addresses else (),
    )
    assert counters(policy, read) == counters(policy, SEND)


@pytest.mark.parametrize("definition, counter", COUNTED)
def test_a_full_counter_denies_and_is_decided_again(
    definition: dict[str, Any], counter: Counter
) -> None:
    policy = read_policy(definition)
    assert isinstance(evaluate(policy, SEND), Allow)
    verdict = evaluate(policy, replace(SEND, counters={counter.key: counter.limit}))
    assert isinstance(verdict, Denial)
    assert str(counter.limit) in verdict.detail
    assert KINDS[counter.kind].whose.format(channel="email") in verdict.detail
    again = snapshot_from(policy, SEND, verdict.reads, verdict.personal)
    assert evaluate(policy, again) == verdict


def test_what_a_send_that_failed_leaves_behind() -> None:
    """Its contact and the budget have it back."""
    kept = {found.kind for _, found in COUNTED if keeps_failed(found.key[0])}
    assert kept == {"channel", "sender", "domain"}
