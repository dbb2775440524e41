"""What storage on disk must survive: forged rows, bad values, cut tails, crowds and newer code."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
from eventsourcing.persistence import DataError, Notification, NotSupportedError, StoredEvent
from msgspec.structs import replace

from dee_es.errors import IntegrityViolation, StoreUnavailable
from dee_es.ports import Committed, Conflict, EventStore, Lease, Unit
from tests.support.counts import count
from tests.support.storage.backends import Backend, Kind
from tests.support.storage.events import append, committed_at, run, unit
from tests.support.storage.rows import RUNS, prepare

HOSTILE = "eventsourcing.domain:Snapshot"
NOT_TEXT = "\ud800"


@pytest.fixture(params=["sqlite", "postgres"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    """An empty database that several may open."""
    yield from _backend(request, tmp_path, "fresh_postgres")


@pytest.fixture(params=["sqlite", "postgres"])
def bare_backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    """One that nobody has opened yet: there are no tables."""
    yield from _backend(request, tmp_path, "empty_postgres")


def _backend(request: pytest.FixtureRequest, tmp_path: Path, postgres: str) -> Iterator[Backend]:
    kind: Kind = request.param
    place = str(tmp_path / "dee.db")
    address = place if kind == "sqlite" else request.getfixturevalue(postgres)()
    opened = Backend(kind, address)
    yield opened
    opened.close()


@pytest.fixture
def store(backend: Backend) -> EventStore:
    """The event store alone."""
    return backend.open()[0]


def test_a_topic_that_names_a_module_is_only_text(backend: Backend, store: EventStore) -> None:
    store.commit([unit(run())])
    backend.raw(
        "INSERT INTO stored_events"
        " (notification_id, originator_id, originator_version, topic, state)"
        f" VALUES (2, 'evil', 1, '{HOSTILE}', 'x')"
    )
    assert [row.name for row in store.read_stream("evil")] == [HOSTILE]
    # A head that knows less than the log is a contradiction, and nothing is written over it.
    with pytest.raises(IntegrityViolation):
        store.commit([unit(run(2))])
    assert store.heads([run(2)]) == {}


def test_the_librarys_selects_work_and_its_insert_is_refused(store: EventStore) -> None:
    store.commit([unit(run(), 0, 3)])
    rows = store.read_log(0, 9)
    recorder = store
    events = recorder.select_events(run(), gt=1)  # type: ignore[attr-defined]
    assert events == [StoredEvent(r.stream_id, r.version, r.name, r.state) for r in rows[1:]]
    found = recorder.select_notifications(2, 2)  # type: ignore[attr-defined]
    assert found == [
        Notification(r.stream_id, r.version, r.name, r.state, id=r.position) for r in rows[1:]
    ]
    assert recorder.max_notification_id() == 3  # type: ignore[attr-defined]
    with pytest.raises(NotSupportedError):
        recorder.insert_events(events)  # type: ignore[attr-defined]


def test_a_lease_does_not_outlast_a_clock_that_was_set_back(
    backend: Backend, store: EventStore
) -> None:
    assert store.acquire_lease((0, 1), "gone", 8_000) is not None
    backend.raw("UPDATE partition_leases SET expires_at = expires_at + 3600000")
    assert store.acquire_lease((0, 1), "next", 30_000) is None
    # Whoever holds it still has as long as the next one would have to renew it.
    (held,) = store.leases()
    assert held.owner == "gone"
    assert 0 < held.expires_in_ms <= 30_000
    backend.raw("UPDATE partition_leases SET expires_at = expires_at - 30000")
    assert store.acquire_lease((0, 1), "next", 8_000) == Lease((0, 1), "next", 2)


@pytest.mark.parametrize("events", [1, 40])
def test_a_value_the_database_cannot_hold_leaves_nothing(store: EventStore, events: int) -> None:
    good = append(run(), 0, events)
    bad = replace(good, events=(*good.events[:-1], replace(good.events[-1], state=NOT_TEXT)))
    before = store.log_head()
    with pytest.raises((DataError, psycopg.Error, TypeError, ValueError)):
        store.commit([unit(run(2)), Unit((bad,), contact_keys=((NOT_TEXT, b"k"),))])
    assert store.log_head() == before
    assert store.read_log(0, 9) == []
    assert store.commit([unit(run(2)), Unit((good,))]) == [
        committed_at(1),
        committed_at(1 + events),
    ]


def test_the_position_of_a_cut_tail_is_not_given_again(backend: Backend, store: EventStore) -> None:
    store.commit([unit(run(), 0, 3)])
    triggers = {
        "sqlite": ["DROP TRIGGER stored_events_refuse_delete"],
        "postgres": ["ALTER TABLE stored_events DISABLE TRIGGER ALL"],
    }
    for statement in (
        *triggers[backend.kind],
        "DELETE FROM stored_events WHERE notification_id = 3",
    ):
        backend.raw(statement)
    assert store.commit([unit(run(2))]) == [committed_at(4)]
    assert [row.position for row in store.read_log(0, 9)] == [1, 2, 4]


def test_a_large_append_does_not_hang(store: EventStore) -> None:
    events = append(run(), 0, 5_000).events
    padded = tuple(replace(e, state=e.state.ljust(400, b".")) for e in events)
    assert store.commit([Unit((replace(append(run()), events=padded),))]) == [committed_at(5_000)]
    assert store.read_stream(run(), after=4_999)[0].state == padded[-1].state


@pytest.mark.parametrize("events", [1, 15])
def test_few_events_of_the_largest_size_do_not_hang(store: EventStore, events: int) -> None:
    given = append(run(), 0, events)
    padded = tuple(replace(e, state=e.state.ljust(300_000, b".")) for e in given.events)
    assert store.commit([Unit((replace(given, events=padded),))]) == [committed_at(events)]


def test_numbers_of_every_size_are_stored_alike(store: EventStore) -> None:
    ticks = [0, 1, 2**15 - 1, 2**15, 2**31 - 1, 2**31, 2**53]
    for number, tick in enumerate(ticks):
        store.commit([unit(run(number), tick=tick, due_tick=tick)])
    heads = store.heads([run(number) for number in range(len(ticks))])
    assert [head.due_tick for head in heads.values()] == ticks
    assert store.log_head().tick == 2**53


def test_a_database_of_newer_code_is_refused(backend: Backend, store: EventStore) -> None:
    store.close()
    backend.raw("INSERT INTO schema_migrations (number) VALUES (99)")
    with pytest.raises(StoreUnavailable, match=r"migration 99.*upgrade"):
        backend.open()


def test_many_may_open_a_new_database_at_once(bare_backend: Backend) -> None:
    with ThreadPoolExecutor(6) as threads:
        opened = list(threads.map(lambda _: bare_backend.open(), range(6)))
    for number, (store, views) in enumerate(opened):
        prepare(views, [RUNS])
        assert store.commit([unit(run(number))]) == [committed_at(number + 1)]


def test_threads_and_several_openings_share_one_order(backend: Backend) -> None:
    """Positions are gapless, and what a reader has seen to a position never changes."""
    stores = [backend.open()[0] for _ in range(2)]
    writers, each = 6, count(20, 200)
    done = threading.Event()

    def write(writer: int) -> int:
        lost = 0
        for number in range(each):
            # All writers want the first version of the shared run; one of them gets it.
            units = [unit(run(writer * 1_000 + number)), unit(run(10**6 + number))]
            outcomes = stores[writer % 2].commit(units)
            assert isinstance(outcomes[0], Committed)
            lost += isinstance(outcomes[1], Conflict)
        return lost

    def read() -> list[int]:
        seen: list[int] = []
        while not done.is_set():
            seen += [row.position for row in stores[0].read_log(len(seen), 500)]
        return seen

    with ThreadPoolExecutor(writers + 1) as threads:
        reader = threads.submit(read)
        try:
            lost = sum(threads.map(write, range(writers)))
        finally:
            done.set()
        seen = reader.result()
    total = writers * each + each
    assert lost == (writers - 1) * each
    assert seen == list(range(1, len(seen) + 1))
    head = stores[1].log_head()
    assert (head.position, head.ordinal) == (total, total)
    assert [row.position for row in stores[1].read_log(0, total + 1)] == list(range(1, total + 1))


def test_a_takeover_waits_for_the_commit_under_way(backend: Backend) -> None:
    """Once a lease has changed hands, nothing of the former holder's can still be committed."""
    store, other = backend.open()[0], backend.open()[0]
    held = store.acquire_lease((0, 1), "a", 1)
    assert held is not None
    backend.wait(5)
    order: list[str] = []
    inside = threading.Event()

    def slow(*_: object) -> None:
        inside.set()
        backend.wait(200)
        order.append("commit")

    def take() -> None:
        inside.wait(60)
        taken = other.acquire_lease((0, 1), "b", 60_000)
        assert taken is not None
        order.append("takeover")

    with ThreadPoolExecutor(1) as threads:
        takeover = threads.submit(take)
        store.commit([unit(run())], inline=slow, lease=held)
        takeover.result()
    assert order == ["commit", "takeover"]


def test_closing_twice_does_no_harm(store: EventStore) -> None:
    store.close()
    with suppress(StoreUnavailable):
        store.close()
