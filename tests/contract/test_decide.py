"""Deciding what to commit as things stand: nobody can change them meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from dee_es.ports import Committed, Conflict, EventStore, Situation, Unit
from tests.support.counts import count
from tests.support.storage.backends import Backend
from tests.support.storage.events import append, index_unit, run, unit, use
from tests.support.storage.writers import in_threads

SHARED = "contact:shared"


def test_it_is_told_how_things_stand(store: EventStore) -> None:
    store.commit([unit(run(1), 0, 3, contact_keys=(("jane", b"k" * 16),))])
    told: list[Situation] = []

    def units_of(now: Situation) -> Sequence[Unit]:
        told.append(now)
        return [unit(run(1), now.heads[run(1)].version), unit(run(2))]

    outcomes = store.decide([run(1), run(2)], ["jane", "joan"], units_of)
    assert [type(each) for each in outcomes] == [Committed, Committed]
    (now,) = told
    assert (now.end.position, list(now.heads), now.keys) == (3, [run(1)], {"jane": b"k" * 16})
    assert store.log_head().position == 5


def test_a_unit_that_does_not_fit_is_refused_alone(store: EventStore) -> None:
    units = [unit(run(1), 7), unit(run(2)), unit(run(2))]
    outcomes = store.decide([run(1), run(2)], [], lambda _: units)
    assert outcomes == [Conflict("version", run(1)), Committed(1, 1), Conflict("version", run(2))]


def test_other_checks_hold_as_well(store: EventStore) -> None:
    store.commit([index_unit(event_ids=("known",)), index_unit(counters=(use("mail", 1),))])
    units = [
        unit(run(1), event_ids=("known",)),
        unit(run(2), counters=(use("mail", 1),)),
    ]
    outcomes = store.decide([run(1), run(2)], [], lambda _: units)
    assert [each.kind for each in outcomes if isinstance(each, Conflict)] == ["event_id", "limit"]


def test_nothing_may_follow(store: EventStore) -> None:
    assert store.decide([run(1)], [], lambda _: []) == []
    assert store.decide([], [], lambda _: []) == []
    assert store.log_head().position == 0


def test_its_failure_leaves_no_trace(store: EventStore) -> None:
    def units_of(_: Situation) -> Sequence[Unit]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store.decide([run(1)], [], units_of)
    assert store.decide([run(1)], [], lambda _: [unit(run(1))]) == [Committed(1, 1)]


def test_it_may_read_the_store(store: EventStore) -> None:
    store.commit([unit(run(1), 0, 2)])

    def units_of(_: Situation) -> Sequence[Unit]:
        assert len(store.read_stream(run(1))) == 2
        return [unit(run(1), 2)]

    assert store.decide([run(1)], [], units_of) == [Committed(3)]


def test_large_events_go_through(store: EventStore) -> None:
    """Whatever a small transaction is sent by, what it holds may be large."""
    large = append(run(1), 0, 12)
    grown = tuple(replace(each, state=each.state + bytes(256 * 1024)) for each in large.events)
    units = [Unit((replace(large, events=grown),)), unit(run(2))]
    outcomes = store.decide([run(1), run(2)], [], lambda _: units)
    assert outcomes == [Committed(12, 1), Committed(13, 2)]
    assert [len(row.state) > 256 * 1024 for row in store.read_stream(run(1))] == [True] * 12


def test_many_events_go_through(store: EventStore) -> None:
    units = [unit(run(1), 0, 40), unit(run(2), 0, 40)]
    outcomes = store.decide([run(1), run(2)], [], lambda _: units)
    assert outcomes == [Committed(40, 1), Committed(80, 2)]


def test_who_decides_by_the_situation_never_meets_a_conflict(disk_backend: Backend) -> None:
    stores = [disk_backend.open()[0] for _ in range(3)]
    times = count(20, 300)

    def work(n: int) -> list[Committed | Conflict]:
        def units_of(now: Situation) -> Sequence[Unit]:
            held = now.heads.get(SHARED)
            return [unit(SHARED, held.version if held else 0)]

        return [stores[n].decide([SHARED], [], units_of)[0] for _ in range(times)]

    outcomes = [each for some in in_threads(work, range(3)) for each in some]
    assert sorted(each.position for each in outcomes if isinstance(each, Committed)) == list(
        range(1, 3 * times + 1)
    )
    assert stores[0].heads([SHARED])[SHARED].version == 3 * times


def test_nobody_commits_while_it_is_decided(disk_backend: Backend) -> None:
    store, _ = disk_backend.open()
    other, _ = disk_backend.open()
    entered, order = threading.Event(), list[str]()

    def units_of(_: Situation) -> Sequence[Unit]:
        entered.set()
        time.sleep(0.2)
        order.append("decided")
        return [unit(run(1))]

    def work(n: int) -> list[Committed | Conflict]:
        if n == 0:
            return store.decide([run(1)], [], units_of)
        assert entered.wait(60)
        outcome = other.commit([unit(run(2))])
        order.append("committed")
        return outcome

    assert in_threads(work, range(2)) == [[Committed(1, 1)], [Committed(2, 2)]]
    assert order == ["decided", "committed"]
