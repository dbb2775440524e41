"""Leases: one holder of a partition at a time, one partitioning at a time, and epochs that keep
former holders out."""

from __future__ import annotations

from importlib import import_module

import pytest

from dee_es.errors import ConcurrencyConflict, InvalidInput
from dee_es.ports import EventStore, Lease, LeaseRow
from tests.support.storage.backends import Backend
from tests.support.storage.events import committed_at, run, unit

LONG, SHORT = 60_000, 40
WHOLE = (0, 1)


def taken(store: EventStore, partition: tuple[int, int], owner: str, ttl_ms: int = LONG) -> Lease:
    """The lease, which nobody is in the way of."""
    lease = store.acquire_lease(partition, owner, ttl_ms)
    assert lease is not None
    return lease


# --- one partition --------------------------------------------------------------------------------


def test_a_lease_is_held_by_one_owner(store: EventStore) -> None:
    assert store.acquire_lease(WHOLE, "a", LONG) == Lease(WHOLE, "a", 1)
    assert store.acquire_lease(WHOLE, "b", LONG) is None


def test_renewing_in_time_keeps_the_epoch(store: EventStore) -> None:
    first = store.acquire_lease(WHOLE, "a", LONG)
    assert store.acquire_lease(WHOLE, "a", LONG) == first


def test_renewing_prolongs_the_lease(backend: Backend, store: EventStore) -> None:
    store.acquire_lease(WHOLE, "a", SHORT)
    store.acquire_lease(WHOLE, "a", LONG)
    backend.wait(3 * SHORT)
    assert store.acquire_lease(WHOLE, "b", LONG) is None


def test_an_expired_lease_can_be_taken_over(backend: Backend, store: EventStore) -> None:
    former = store.acquire_lease(WHOLE, "a", SHORT)
    backend.wait(3 * SHORT)
    lease = store.acquire_lease(WHOLE, "b", LONG)
    assert lease == Lease(WHOLE, "b", 2)
    assert store.acquire_lease(WHOLE, "a", LONG) is None
    with pytest.raises(ConcurrencyConflict, match="0/1"):
        store.commit([unit(run())], lease=former)
    assert store.commit([unit(run())], lease=lease) == [committed_at(1)]


def test_an_expired_lease_taken_anew_by_its_owner_has_a_new_epoch(
    backend: Backend, store: EventStore
) -> None:
    former = store.acquire_lease(WHOLE, "a", SHORT)
    backend.wait(3 * SHORT)
    assert store.acquire_lease(WHOLE, "a", LONG) == Lease(WHOLE, "a", 2)
    with pytest.raises(ConcurrencyConflict):
        store.commit([unit(run())], lease=former)


def test_a_released_lease_is_free_at_once(store: EventStore) -> None:
    store.release_lease(taken(store, WHOLE, "a"))
    assert store.acquire_lease(WHOLE, "b", LONG) == Lease(WHOLE, "b", 2)


def test_a_released_lease_is_no_longer_held(store: EventStore) -> None:
    held = taken(store, WHOLE, "a")
    store.release_lease(held)
    with pytest.raises(ConcurrencyConflict):
        store.commit([unit(run())], lease=held)
    assert store.log_head().position == 0


def test_releasing_what_is_no_longer_held_does_nothing(backend: Backend, store: EventStore) -> None:
    former = taken(store, WHOLE, "a", SHORT)
    backend.wait(3 * SHORT)
    lease = store.acquire_lease(WHOLE, "b", LONG)
    store.release_lease(former)
    store.release_lease(Lease((5, 9), "a", 1))
    assert store.acquire_lease(WHOLE, "a", LONG) is None
    assert store.commit([unit(run())], lease=lease) == [committed_at(1)]


def test_releasing_a_former_lease_leaves_the_one_that_its_owner_holds_now(
    backend: Backend, store: EventStore
) -> None:
    former = taken(store, WHOLE, "a", SHORT)
    backend.wait(3 * SHORT)
    lease = taken(store, WHOLE, "a")
    store.release_lease(former)
    assert store.acquire_lease(WHOLE, "b", LONG) is None
    assert store.commit([unit(run())], lease=lease) == [committed_at(1)]


def test_the_epoch_grows_through_every_change_of_hands(store: EventStore) -> None:
    epochs = []
    for owner in ["a", "b", "b", "a"]:
        lease = taken(store, WHOLE, owner)
        epochs.append(lease.epoch)
        store.release_lease(lease)
    assert epochs == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "lease",
    [Lease(WHOLE, "a", 2), Lease(WHOLE, "b", 1), Lease((0, 2), "a", 1), Lease((1, 1), "a", 1)],
)
def test_nothing_is_written_under_a_lease_that_is_not_held(store: EventStore, lease: Lease) -> None:
    store.acquire_lease(WHOLE, "a", LONG)
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
    held = store.acquire_lease(WHOLE, "a", LONG)
    assert store.commit([unit(run(1)), unit(run(1))], lease=held)[0] == committed_at(1)
    assert store.commit([unit(run(2))]) == [committed_at(2)], "others need no lease"


@pytest.mark.parametrize("partition", [(0, 0), (1, 1), (-1, 2), (2, 2), (0, -1)])
def test_a_partition_that_is_none_is_refused(store: EventStore, partition: tuple[int, int]) -> None:
    with pytest.raises(InvalidInput, match="partition"):
        store.acquire_lease(partition, "a", LONG)
    with pytest.raises(InvalidInput, match="owner"):
        store.acquire_lease(WHOLE, "", LONG)
    assert store.leases() == []


# --- several partitions ---------------------------------------------------------------------------


def test_leases_of_one_count_stand_beside_each_other(store: EventStore) -> None:
    leases = [taken(store, (index, 3), f"w{index}") for index in (2, 0, 1)]
    assert [lease.epoch for lease in leases] == [1, 2, 3], "one counter for the whole database"
    assert [taken(store, lease.partition, lease.owner) for lease in leases] == leases
    for number, lease in enumerate(leases, 1):
        assert store.commit([unit(run(number))], lease=lease) == [committed_at(number)]
    store.release_lease(leases[0])
    assert taken(store, (2, 3), "other").epoch == 4
    assert taken(store, (0, 3), "w0") == leases[1], "the neighbours keep theirs"


@pytest.mark.parametrize("owner", ["a", "b"])
@pytest.mark.parametrize("wanted", [(0, 2), (1, 2), (2, 3)])
def test_partitions_of_another_count_would_overlap(
    store: EventStore, owner: str, wanted: tuple[int, int]
) -> None:
    whole = taken(store, WHOLE, "a")
    assert store.acquire_lease(wanted, owner, LONG) is None
    assert store.acquire_lease(WHOLE, "a", LONG) == whole
    store.release_lease(whole)
    assert taken(store, wanted, owner).epoch == 2
    assert store.acquire_lease(WHOLE, "a", LONG) is None


def test_one_of_many_that_is_still_held_keeps_another_count_out(store: EventStore) -> None:
    first, second = taken(store, (0, 2), "a"), taken(store, (1, 2), "b")
    store.release_lease(first)
    assert store.acquire_lease(WHOLE, "c", LONG) is None
    store.release_lease(second)
    assert taken(store, WHOLE, "c").epoch == 3


def test_the_epoch_grows_across_repartitioning(backend: Backend, store: EventStore) -> None:
    """Whoever may act on a slice has a higher epoch than all who might have before."""
    latest = 0
    for turn, count in enumerate([1, 2, 3, 2, 1, 1, 3]):
        epochs = []
        for index in range(count):
            lease = taken(store, (index, count), f"w{turn % 2}", LONG if turn % 2 else SHORT)
            epochs.append(lease.epoch)
            if turn % 2:
                store.release_lease(lease)
        backend.wait(3 * SHORT)
        assert min(epochs) > latest
        latest = max(epochs)


def test_a_new_count_shuts_out_the_expired_holders_of_the_old_one(
    backend: Backend, store: EventStore
) -> None:
    former = taken(store, WHOLE, "a", SHORT)
    backend.wait(3 * SHORT)
    assert store.commit([unit(run(1))], lease=former) == [committed_at(1)], "nobody has taken it"
    half = taken(store, (1, 2), "b")
    with pytest.raises(ConcurrencyConflict):
        store.commit([unit(run(2))], lease=former)
    assert store.acquire_lease(WHOLE, "a", LONG) is None
    store.release_lease(former)
    assert store.commit([unit(run(2))], lease=half) == [committed_at(2)]


# --- what is seen of them -------------------------------------------------------------------------


def test_the_leases_are_listed(backend: Backend, store: EventStore) -> None:
    assert store.leases() == []
    taken(store, (1, 2), "b", LONG)
    taken(store, (0, 2), "a", SHORT)
    backend.wait(3 * SHORT)
    expired, held = store.leases()
    assert expired == LeaseRow((0, 2), "a", 2, 0)
    assert (held.partition, held.owner, held.epoch) == ((1, 2), "b", 1)
    assert LONG - 30_000 < held.expires_in_ms < LONG
    store.release_lease(Lease((1, 2), "b", 1))
    assert store.leases() == [expired], "a released lease is nobody's"
    taken(store, WHOLE, "c")
    assert [row.partition for row in store.leases()] == [WHOLE], "nobody waits for the old count"


# --- databases of before --------------------------------------------------------------------------


@pytest.mark.parametrize("still_held", [True, False])
def test_a_database_with_the_former_table_keeps_its_epoch(
    bare_backend: Backend, monkeypatch: pytest.MonkeyPatch, still_held: bool
) -> None:
    opener = import_module(f"dee_es.adapters.storage.{bare_backend.kind}.store")
    with monkeypatch.context() as before:
        before.setattr(opener, "MIGRATIONS", opener.MIGRATIONS[:1])
        bare_backend.open()[0].close()
    expires = 2**50 if still_held else 0
    bare_backend.raw(f"INSERT INTO leases VALUES ('0/1', 'former', 7, {expires})")
    store, _ = bare_backend.open()
    lease = store.acquire_lease(WHOLE, "a", LONG)
    assert lease == (None if still_held else Lease(WHOLE, "a", 8))
