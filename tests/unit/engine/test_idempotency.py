"""What is remembered of requests, and for how long."""

from __future__ import annotations

from dee_es.adapters.keys import open_memory_keys
from dee_es.adapters.storage.memory import open_memory
from dee_es.engine.idempotency import KEPT_MS, Idempotency
from tests.support.system import FixedWallClock


def test_however_many_are_kept_too_long_the_next_requests_clean_them_up() -> None:
    clock = FixedWallClock()
    store, _ = open_memory(clock)
    keys = open_memory_keys()
    busy = Idempotency(store, keys)
    for number in range(2_500):
        busy.begin(f"old{number}", "key", b"asked")
    clock.advance(KEPT_MS)
    # Another process, whose first look is due.
    other = Idempotency(store, keys)
    for number in range(3):
        other.begin(f"new{number}", "key", b"asked")
    assert store.prune_requests(10_000) == 0
