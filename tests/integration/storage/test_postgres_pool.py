"""Connections are few: who waits for the append lock leaves those to whoever has it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import psycopg
import pytest

from dee_es.adapters.storage.postgres import PostgresStore, PostgresViews, open_postgres
from dee_es.errors import StoreUnavailable
from dee_es.ports import Situation, Unit, beside
from tests.support.storage.events import committed_at, run, unit
from tests.support.storage.postgres import FreshPostgres
from tests.support.waiting import PATIENCE_S, eventually

READERS = 5
CONNECT_S = 5.0
SOON_S = CONNECT_S - 1
"""Less than what a connection is waited for: who needs as long has waited in vain."""
_LOCK = b"SELECT pg_advisory_lock(4466543286)"
_GIVE_UP = b"SELECT pg_advisory_unlock(4466543286)"
_LOCKS = b"""
SELECT bool_or(granted), bool_or(NOT granted) FROM pg_locks
JOIN pg_database ON pg_database.oid = database
WHERE locktype = 'advisory' AND datname = current_database()
"""
Opened = tuple[PostgresStore, PostgresViews]


@pytest.fixture
def url(fresh_postgres: FreshPostgres) -> str:
    """An empty database."""
    return fresh_postgres()


@pytest.fixture
def opened(url: str) -> Iterator[Opened]:
    """A store on it that has two connections."""
    store, views = open_postgres(url, connect_timeout_s=CONNECT_S, pool_size=2, max_overflow=0)
    yield store, views
    store.close()


@pytest.fixture
def other(url: str) -> Iterator[psycopg.Connection]:
    """Somebody else on the same database."""
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


@contextmanager
def _readers(views: PostgresViews) -> Iterator[list[Future[None]]]:
    """Threads that catch up, as those do that answer what is asked of a lazy projection."""

    def catch_up() -> None:
        with views.transaction() as tx:
            tx.builds()

    with ThreadPoolExecutor(READERS) as pool:
        catching_up = [pool.submit(catch_up) for _ in range(READERS)]
        # Nothing tells that they wait where they should.
        time.sleep(0.3)
        yield catching_up


def test_who_has_the_append_lock_can_read_although_many_wait_for_it(
    opened: Opened, other: psycopg.Connection
) -> None:
    store, views = opened

    def units_of(_: Situation) -> Sequence[Unit]:
        store.heads([run()])
        return [unit(run())]

    other.execute(_LOCK)
    with ThreadPoolExecutor(1) as pool:
        deciding = pool.submit(store.decide, [run()], [], units_of)
        eventually(lambda: other.execute(_LOCKS).fetchone() == (True, True))
        with _readers(views) as catching_up:
            begun = time.monotonic()
            other.execute(_GIVE_UP)
            assert deciding.result(PATIENCE_S) == [committed_at(1)]
            assert time.monotonic() - begun < SOON_S
            for each in catching_up:
                each.result(PATIENCE_S)


def test_who_has_begun_a_commit_can_read_although_many_wait_for_the_append_lock(
    opened: Opened, other: psycopg.Connection
) -> None:
    store, views = opened

    def has_the_lock() -> bool:
        return bool(other.execute(_LOCKS).fetchone() == (True, False))

    # One that went through before anybody looked is none: the next one may be seen.
    for before in range(0, 5_000, 100):
        begun = beside.begin(
            lambda before=before: store.commit([unit(run(before + n)) for n in range(100)])  # type: ignore[misc]
        )
        while not begun.done and not has_the_lock():
            beside.go_on()
        if not begun.done:
            break
    assert not begun.done, "nothing was seen to have the append lock"
    with _readers(views) as catching_up:
        asked = time.monotonic()
        assert store.situation([run()], []).end.position in (before, before + 100)
        assert begun.result()[-1] == committed_at(before + 100)
        assert time.monotonic() - asked < SOON_S
        for each in catching_up:
            each.result(PATIENCE_S)


def test_what_a_thread_has_begun_is_over_before_it_appends_itself(opened: Opened) -> None:
    store, views = opened
    begun = [beside.begin(lambda n=n: store.commit([unit(run(n))])) for n in range(3)]  # type: ignore[misc]
    with views.transaction() as tx:
        assert tx.head() == 3
    assert all(each.done for each in begun)


def test_a_begun_commit_lets_its_thread_go_on_while_another_thread_appends(
    opened: Opened,
) -> None:
    store, views = opened
    entered, leave = threading.Event(), threading.Event()

    def append() -> None:
        with views.transaction():
            entered.set()
            assert leave.wait(PATIENCE_S)

    with ThreadPoolExecutor(1) as pool:
        appending = pool.submit(append)
        assert entered.wait(PATIENCE_S)
        begun = beside.begin(lambda: store.commit([unit(run())]))
        assert store.log_head().position == 0
        assert not begun.done
        leave.set()
        assert begun.result() == [committed_at(1)]
        appending.result(PATIENCE_S)


def test_waiting_is_bounded_however_many_threads_do(url: str, other: psycopg.Connection) -> None:
    store, _ = open_postgres(url, lock_timeout_s=1)
    other.execute(_LOCK)
    with ThreadPoolExecutor(8) as pool:
        begun = time.monotonic()
        waiting = [pool.submit(store.commit, [unit(run(n))]) for n in range(8)]
        for each in waiting:
            with pytest.raises(StoreUnavailable, match="append lock was not free"):
                each.result(PATIENCE_S)
        assert time.monotonic() - begun < SOON_S
    other.execute(_GIVE_UP)
    assert store.commit([unit(run())]) == [committed_at(1)]
    store.close()


def test_a_connection_that_is_not_free_is_not_waited_for_again_and_again(url: str) -> None:
    store, _ = open_postgres(url, connect_timeout_s=2, pool_size=2, max_overflow=0)
    with ExitStack() as taken:
        for _ in range(2):
            taken.enter_context(store.database.pool.connection())
        begun = time.monotonic()
        with pytest.raises(StoreUnavailable, match="no connection was free"):
            store.log_head()
        assert time.monotonic() - begun < 4
    assert store.log_head().position == 0
    store.close()
