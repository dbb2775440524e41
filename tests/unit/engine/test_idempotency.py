"""What is remembered of requests, and for how long."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dee_es.adapters.keys import open_memory_keys
from dee_es.adapters.storage.memory import open_memory
from dee_es.engine.idempotency import (
    ATTEMPT_MS,
    KEPT_MS,
    MOST_BYTES,
    Attempt,
    Idempotency,
    Known,
)
from dee_es.ports import EventStore
from tests.support.system import FixedWallClock, SeededKeySource

ONE, TWO = b"one", b"two"
UNDER_WAY, ANOTHER = Known(True, None), Known(False, None)


@pytest.fixture
def clock() -> FixedWallClock:
    return FixedWallClock()


@pytest.fixture
def store(clock: FixedWallClock) -> EventStore:
    store, _ = open_memory(clock)
    return store


@pytest.fixture
def requests(store: EventStore) -> Idempotency:
    return Idempotency(store, open_memory_keys())


def begun(requests: Idempotency, digest: bytes = ONE) -> Attempt:
    """An attempt that has its request to itself."""
    attempt = requests.begin("r", "key", digest)
    assert isinstance(attempt, Attempt)
    return attempt


def test_an_attempt_that_is_under_way_keeps_out_the_others(requests: Idempotency) -> None:
    begun(requests)
    assert requests.begin("r", "key", ONE) == UNDER_WAY
    assert requests.begin("r", "key", TWO) == ANOTHER


@pytest.mark.parametrize("answer", [b"", b"done", b"x" * MOST_BYTES], ids=len)
def test_what_was_answered_is_answered_again(requests: Idempotency, answer: bytes) -> None:
    requests.end(begun(requests), answer)
    assert requests.begin("r", "key", ONE) == Known(True, answer)
    assert requests.begin("r", "key", TWO) == ANOTHER


@pytest.mark.parametrize("answer", [None, b"x" * (MOST_BYTES + 1)], ids=["none", "too long"])
def test_without_an_answer_it_is_decided_again(requests: Idempotency, answer: bytes | None) -> None:
    requests.end(begun(requests), answer)
    assert requests.begin("r", "key", TWO) == ANOTHER
    begun(requests)


def test_an_answer_that_cannot_be_read_any_more_is_none(
    store: EventStore, requests: Idempotency
) -> None:
    requests.end(begun(requests), b"done")
    assert isinstance(requests.begin("r", "another key", ONE), Attempt)
    # A key store of its own knows no request of the former one, whatever it asks.
    other = Idempotency(store, open_memory_keys(SeededKeySource("another")))
    assert other.begin("r", "key", ONE) == ANOTHER


def test_what_did_nothing_is_forgotten(requests: Idempotency) -> None:
    requests.drop(begun(requests))
    begun(requests, TWO)


def test_an_attempt_is_alive_as_long_as_it_says_so(
    requests: Idempotency, clock: FixedWallClock
) -> None:
    attempt = begun(requests)
    for _ in range(3):
        clock.advance(ATTEMPT_MS - 1)
        assert requests.begin("r", "key", ONE) == UNDER_WAY
        requests.renew(attempt)
    clock.advance(ATTEMPT_MS)
    begun(requests)
    requests.end(attempt, b"too late")
    assert requests.begin("r", "key", ONE) == UNDER_WAY


def test_what_an_id_asked_is_known_for_a_day(requests: Idempotency, clock: FixedWallClock) -> None:
    assert requests.same("r", ONE) is True
    assert requests.same("r", ONE) is True, "nobody who asks for the same has to wait"
    clock.advance(KEPT_MS - 1)
    assert requests.same("r", TWO) is False
    clock.advance(KEPT_MS)
    assert requests.same("r", TWO) is True


def test_what_an_attempt_under_way_asks_is_the_same_or_another(requests: Idempotency) -> None:
    begun(requests)
    assert (requests.same("r", ONE), requests.same("r", TWO)) == (True, False)


@pytest.mark.parametrize(
    "ask",
    [
        lambda requests, request_id: requests.begin(request_id, "key", ONE),
        lambda requests, request_id: requests.same(request_id, ONE),
    ],
    ids=["begin", "same"],
)
def test_however_many_are_kept_too_long_the_next_requests_clean_them_up(
    ask: Callable[[Idempotency, str], object], store: EventStore, clock: FixedWallClock
) -> None:
    keys = open_memory_keys()
    busy = Idempotency(store, keys)
    for number in range(2_500):
        ask(busy, f"old{number}")
    clock.advance(KEPT_MS)
    # Another process, whose first look is due.
    other = Idempotency(store, keys)
    for number in range(3):
        ask(other, f"new{number}")
    assert store.prune_requests(10_000) == 0
