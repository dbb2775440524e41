"""Leases: one holder of a partition at a time, and epochs that keep former holders out."""

from __future__ import annotations

import pytest

from dee_es.errors import ConcurrencyConflict
from dee_es.ports import Committed, EventStore, Lease
from tests.support.backends import Backend
from tests.support.events import run, unit

LONG, SHORT = 600_000, 40


def test_a_lease_is_held_by_one_owner(store: EventStore) -> None:
    assert store.acquire_lease("0/1", "a", LONG) == Lease("0/1", "a", 1)
    assert store.acquire_lease("0/1", "b", LONG) is None
    assert store.acquire_lease("0/2", "b", LONG) == Lease("0/2", "b", 1)


def test_renewing_in_time_keeps_the_epoch(store: EventStore) -> None:
    first = store.acquire_lease("0/1", "a", LONG)
    assert store.acquire_lease("0/1", "a", LONG) == first


def test_renewing_prolongs_the_lease(backend: Backend, store: EventStore) -> None:
    store.acquire_lease("0/1", "a", SHORT)
    store.acquire_lease("0/1", "a", LONG)
    backend.wait(3 * SHORT)
    assert store.acquire_lease("0/1", "b", LONG) is None


def test_an_expired_lease_can_be_taken_over(backend: Backend, store: EventStore) -> None:
    former = store.acquire_lease("0/1", "a", SHORT)
    backend.wait(3 * SHORT)
    taken = store.acquire_lease("0/1", "b", LONG)
    assert taken == Lease("0/1", "b", 2)
    assert store.acquire_lease("0/1", "a", LONG) is None
    with pytest.raises(ConcurrencyConflict, match="0/1"):
        store.commit([unit(run())], lease=former)
    assert store.commit([unit(run())], lease=taken) == [Committed(1)]


def test_an_expired_lease_taken_anew_by_its_owner_has_a_new_epoch(
    backend: Backend, store: EventStore
) -> None:
    former = store.acquire_lease("0/1", "a", SHORT)
    backend.wait(3 * SHORT)
    assert store.acquire_lease("0/1", "a", LONG) == Lease("0/1", "a", 2)
    with pytest.raises(ConcurrencyConflict):
        store.commit([unit(run())], lease=former)


def test_a_released_lease_is_free_at_once(store: EventStore) -> None:
    held = store.acquire_lease("0/1", "a", LONG)
    assert held is not None
    store.release_lease(held)
    assert store.acquire_lease("0/1", "b", LONG) == Lease("0/1", "b", 2)


def test_a_released_lease_is_no_longer_held(store: EventStore) -> None:
    held = store.acquire_lease("0/1", "a", LONG)
    assert held is not None
    store.release_lease(held)
    with pytest.raises(ConcurrencyConflict):
        store.commit([unit(run())], lease=held)
    assert store.log_head().position == 0


def test_releasing_what_is_no_longer_held_does_nothing(backend: Backend, store: EventStore) -> None:
    former = store.acquire_lease("0/1", "a", SHORT)
    assert former is not None
    backend.wait(3 * SHORT)
    taken = store.acquire_lease("0/1", "b", LONG)
    store.release_lease(former)
    store.release_lease(Lease("none", "a", 1))
    assert store.acquire_lease("0/1", "a", LONG) is None
    assert store.commit([unit(run())], lease=taken) == [Committed(1)]


def test_the_epoch_grows_through_every_change_of_hands(store: EventStore) -> None:
    epochs = []
    for owner in ["a", "b", "b", "a"]:
        lease = store.acquire_lease("0/1", owner, LONG)
        assert lease is not None
        epochs.append(lease.epoch)
        store.release_lease(lease)
    assert epochs == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "lease", [Lease("0/1", "a", 2), Lease("0/1", "b", 1), Lease("other", "a", 1)]
)
def test_nothing_is_written_under_a_lease_that_is_not_held(store: EventStore, lease: Lease) -> None:
    store.acquire_lease("0/1", "a", LONG)
    calls: list[int] = []
    with pytest.raises(ConcurrencyConflict):
        store.commit(
            [unit(run(), contact_keys=(("c", b"k" * 16),), event_ids=("e",))],
            lease=lease,
            inline=lambda *_: calls.append(1),
        )
    assert (store.log_head().position, store.heads([run()]), calls) == (0, {}, [])
    assert store.contact_keys(["c"]) == {}
    assert store.known_event_ids(["e"]) == set()


def test_a_commit_under_the_lease_goes_through(store: EventStore) -> None:
    held = store.acquire_lease("0/1", "a", LONG)
    assert store.commit([unit(run(1)), unit(run(1))], lease=held)[0] == Committed(1)
    assert store.commit([unit(run(2))]) == [Committed(2)], "others need no lease"
