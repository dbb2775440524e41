"""What a worker says of an outage of the database: enough, and not the same line all night."""

from __future__ import annotations

import logging

import pytest

from dee_es.engine.scheduling.outages import AGAIN_S, Outage
from dee_es.errors import StoreUnavailable

REFUSED = StoreUnavailable("refused")
LOOKS_A_MINUTE = 120


class Hand:
    """A clock whose hand is moved."""

    def __init__(self) -> None:
        self.at = 1_000.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def hand() -> Hand:
    return Hand()


@pytest.fixture
def outage(hand: Hand, caplog: pytest.LogCaptureFixture) -> Outage:
    caplog.set_level(logging.WARNING, "dee_es")
    return Outage(hand)


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str, float]]:
    fields = [(each.message, each.__dict__) for each in caplog.records]
    return [(what, f.get("problem", ""), f.get("for_s", f.get("after_s"))) for what, f in fields]


def test_an_outage_is_told_at_once_each_minute_and_when_it_is_over(
    outage: Outage, hand: Hand, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2 * LOOKS_A_MINUTE):
        outage.goes_on(REFUSED)
        hand.at += AGAIN_S / LOOKS_A_MINUTE
    outage.ends()
    assert told(caplog) == [
        ("database_unavailable", "refused", 0.0),
        ("database_unavailable", "refused", 60.0),
        ("database_back", "", 120.0),
    ]


def test_another_reason_is_told_at_once(
    outage: Outage, hand: Hand, caplog: pytest.LogCaptureFixture
) -> None:
    for problem in ("refused", "refused", "starting up", "starting up", "refused"):
        outage.goes_on(StoreUnavailable(problem))
        hand.at += 0.5
    assert told(caplog) == [
        ("database_unavailable", "refused", 0.0),
        ("database_unavailable", "starting up", 1.0),
        ("database_unavailable", "refused", 2.0),
    ]


def test_the_next_outage_is_told_anew(
    outage: Outage, hand: Hand, caplog: pytest.LogCaptureFixture
) -> None:
    outage.ends()
    assert told(caplog) == []
    for _ in range(2):
        outage.goes_on(REFUSED)
        hand.at += 3
        outage.ends()
        outage.ends()
    assert told(caplog) == 2 * [
        ("database_unavailable", "refused", 0.0),
        ("database_back", "", 3.0),
    ]
