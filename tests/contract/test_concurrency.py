"""Many writers and readers at once: positions are gapless, and their order is commit order."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from dee_es.core.events import RecordedEvent
from dee_es.core.views import RunFilter
from dee_es.errors import StoreUnavailable
from dee_es.ports import Committed, Conflict, EventStore, TableTransaction, Views
from tests.support.counts import count
from tests.support.storage.backends import Backend
from tests.support.storage.events import committed_at, run, unit
from tests.support.storage.rows import RUNS, add_runs, key_of, listed, prepare, run_row
from tests.support.storage.writers import Write, in_processes, in_threads, write_much

COMMITS = count(25, 400)


def check_log(store: EventStore, writes: list[list[Write]]) -> None:
    """The log is gapless, streams are whole, ordinals dense, and nobody overtook anybody."""
    head = store.log_head()
    rows = store.read_log(0, head.position + 1)
    assert [row.position for row in rows] == list(range(1, head.position + 1))
    versions: dict[str, int] = {}
    for row in rows:
        versions[row.stream_id] = versions.get(row.stream_id, 0) + 1
        assert row.version == versions[row.stream_id]
    heads = store.heads(list(versions))
    assert {stream: found.version for stream, found in heads.items()} == versions
    firsts = [row.stream_id for row in rows if row.version == 1 and row.stream_id[:4] == "run_"]
    assert [heads[stream].ordinal for stream in firsts] == list(range(1, head.ordinal + 1))
    every = sorted((write for of_one in writes for write in of_one), key=lambda w: w.position)
    latest_begin = 0.0
    for write in every:
        # Whatever has a lower position must not have begun after this one had been answered.
        assert latest_begin <= write.ended
        latest_begin = max(latest_begin, write.began)


def test_four_threads(store: EventStore) -> None:
    writes = in_threads(lambda n: write_much(store, n, COMMITS), range(4))
    check_log(store, writes)


def test_two_processes(disk_backend: Backend) -> None:
    # Nobody has opened the database before: both may try to make its tables.
    writes = in_processes(disk_backend.kind, disk_backend.address, 2, COMMITS)
    store, _ = disk_backend.open()
    check_log(store, writes)


def test_several_stores_in_several_threads(disk_backend: Backend) -> None:
    stores = [disk_backend.open()[0] for _ in range(4)]
    writes = in_threads(lambda n: write_much(stores[n], n, COMMITS), range(4))
    check_log(stores[0], writes)


def test_a_reader_by_position_misses_nothing(store: EventStore) -> None:
    done = threading.Event()
    seen: list[int] = []

    def work(number: int) -> None:
        if number < 4:
            try:
                write_much(store, number, COMMITS)
            finally:
                finished.release()
        else:
            while not done.is_set():
                seen.extend(row.position for row in store.read_log(len(seen), 50))

    finished = threading.Semaphore(0)

    def stop(_: int) -> None:
        for _ in range(4):
            finished.acquire(timeout=100)
        done.set()

    in_threads(lambda n: stop(n) if n == 5 else work(n), range(6))
    seen.extend(row.position for row in store.read_log(len(seen), 100_000))
    assert seen == list(range(1, store.log_head().position + 1))


def test_of_many_who_want_to_begin_a_stream_one_does(store: EventStore) -> None:
    for number in range(count(5, 50)):
        barrier = threading.Barrier(8)

        def begin(_: int, name: str = run(number), gate: threading.Barrier = barrier) -> object:
            gate.wait(60)
            return store.commit([unit(name)])[0]

        outcomes = in_threads(begin, range(8))
        assert sum(isinstance(outcome, Committed) for outcome in outcomes) == 1
        assert outcomes.count(Conflict("version", run(number))) == 7


def test_the_clock_under_many_hands(store: EventStore) -> None:
    def advance(number: int) -> list[int]:
        return [store.advance_clock(tick * 4 + number) for tick in range(COMMITS)]

    for returned in in_threads(advance, range(4)):
        assert returned == sorted(returned)
    assert store.log_head().tick == (COMMITS - 1) * 4 + 3


def test_one_of_many_gets_the_lease(store: EventStore) -> None:
    leases = in_threads(lambda n: store.acquire_lease((0, 1), f"owner_{n}", 60_000), range(8))
    assert sum(lease is not None for lease in leases) == 1


def test_of_two_partitionings_at_once_one_gets_its_leases(disk_backend: Backend) -> None:
    stores = [disk_backend.open()[0] for _ in range(6)]
    wanted = [(0, 2), (1, 2), (0, 1), (0, 3), (1, 3), (2, 3)]
    leases = in_threads(lambda n: stores[n].acquire_lease(wanted[n], f"w{n}", 60_000), range(6))
    held = [lease for lease in leases if lease is not None]
    counts = {lease.partition[1] for lease in held}
    assert len(counts) == 1, "slices of two partitionings overlap"
    assert len(held) == counts.pop(), "all of one partitioning fit beside each other"
    assert sorted(lease.epoch for lease in held) == list(range(1, len(held) + 1))


def test_rows_total_and_positions_are_of_one_snapshot(store: EventStore, views: Views) -> None:
    prepare(views, [RUNS])
    rounds = COMMITS

    def inline(tables: TableTransaction, before: int, events: Sequence[RecordedEvent]) -> None:
        add_runs(tables, [run_row(e.ordinal) for e in events])
        tables.move(key_of(RUNS), before + len(events), events[-1].ordinal)

    def write(_: int) -> None:
        for number in range(rounds):
            units = [unit(run(number * 3 + k, "s"), 0, 1) for k in range(3)]
            store.commit(units, inline=inline)

    def read(_: int) -> None:
        total = 0
        while total < rounds * 3:
            rows, total, head, folded = listed(views, RUNS, RunFilter(), 5)
            assert total == head == folded
            assert total % 3 == 0
            assert [row.ordinal for row in rows] == list(range(total, max(0, total - 5), -1))
            active = views.list_runs(RUNS, RunFilter(("active",), created_from=0), limit=1)
            assert active[1] == active[2]

    in_threads(lambda n: read(n) if n else write(n), range(3))


def test_readers_do_not_see_an_open_transaction(disk_backend: Backend) -> None:
    store, views = disk_backend.open()
    prepare(views, [RUNS])
    other, other_views = disk_backend.open()
    seen: list[tuple[int, int, object]] = []

    def inline(tables: TableTransaction, *_: object) -> None:
        add_runs(tables, [run_row(1)])
        total = other_views.list_runs(RUNS, RunFilter(), limit=1)[1]
        seen.append((other.log_head().position, total, other.heads([run()])))

    store.commit([unit(run())], inline=inline)
    assert seen == [(0, 0, {})]


def test_waiting_for_the_append_lock_is_bounded(disk_backend: Backend) -> None:
    store, views = disk_backend.open()
    store.commit([unit(run(1))])
    impatient, _ = disk_backend.open(lock_timeout_s=0.3)
    with views.transaction():
        with pytest.raises(StoreUnavailable):
            impatient.commit([unit(run(2))])
        with pytest.raises(StoreUnavailable):
            impatient.advance_clock(5)
        assert impatient.log_head().position == 1, "readers are not held up"
    assert impatient.commit([unit(run(2))]) == [committed_at(2)]
