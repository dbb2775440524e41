"""The keeper of a lease: what it relies on while the database is away, and for how long."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from dee_es.adapters.storage.memory import open_memory
from dee_es.engine.scheduling import leases
from dee_es.engine.scheduling.leases import LeaseKeeper
from dee_es.errors import StoreUnavailable
from dee_es.ports import EventStore, Lease
from tests.support.system import SeededIds
from tests.support.waiting import eventually

WHOLE = (0, 1)
RENEW_S, TRUSTED_S = 0.02, 0.5


class Away:
    """Makes a store's leases unreachable, as while its database is restarted."""

    def __init__(self, store: EventStore, patch: pytest.MonkeyPatch) -> None:
        self.asked = 0
        self.away = False
        self._acquire = store.acquire_lease
        patch.setattr(store, "acquire_lease", self._answer)

    def _answer(self, *given: Any) -> Lease | None:
        self.asked += 1
        if self.away:
            raise StoreUnavailable("away")
        return self._acquire(*given)


@pytest.fixture
def store() -> EventStore:
    return open_memory()[0]


@pytest.fixture
def away(store: EventStore, monkeypatch: pytest.MonkeyPatch) -> Away:
    monkeypatch.setattr(leases, "RENEW_S", RENEW_S)
    monkeypatch.setattr(leases, "_TRUSTED_S", TRUSTED_S)
    return Away(store, monkeypatch)


@pytest.fixture
def keeper(store: EventStore, away: Away) -> Iterator[LeaseKeeper]:
    made = LeaseKeeper(store, SeededIds(1), WHOLE)
    made.start_renewing()
    yield made
    made.stop_renewing()


def missed(away: Away, times: int) -> None:
    """The database is away for so many looks, and comes back."""
    away.away, before = True, away.asked
    eventually(lambda: away.asked >= before + times)
    away.away = False


def test_a_look_that_gets_no_answer_ends_no_lease(
    keeper: LeaseKeeper, away: Away, caplog: pytest.LogCaptureFixture
) -> None:
    lease = keeper.require()
    missed(away, 2)
    assert keeper.still(lease)
    assert "lease_not_renewed" in [each.message for each in caplog.records]
    asked = away.asked
    eventually(lambda: away.asked > asked)
    assert keeper.still(lease), "it was renewed"


def test_a_look_asks_the_database_only_when_the_lease_is_to_be_renewed(
    store: EventStore, away: Away, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing else renews it here."""
    keeper = LeaseKeeper(store, SeededIds(1), WHOLE)
    monkeypatch.setattr(leases, "RENEW_S", 3600.0)
    lease = keeper.require()
    assert (keeper.require(), away.asked) == (lease, 1)
    store.release_lease(lease)
    assert store.acquire_lease(WHOLE, "another", 60_000) is not None
    assert keeper.acquire() == lease, "nobody was asked"
    monkeypatch.setattr(leases, "RENEW_S", 0.0)
    assert keeper.acquire() is None


def test_without_an_answer_for_too_long_it_is_relied_on_no_more(
    keeper: LeaseKeeper, away: Away
) -> None:
    lease = keeper.require()
    away.away = True
    time.sleep(TRUSTED_S)
    assert not keeper.still(lease)
    # Whoever is about to send much more does not wait for the database each time.
    asked = away.asked
    assert not any(keeper.still(lease) for _ in range(50))
    assert away.asked - asked < 10


def test_a_lease_that_another_one_took_meanwhile_is_gone(
    keeper: LeaseKeeper, away: Away, store: EventStore, caplog: pytest.LogCaptureFixture
) -> None:
    lease = keeper.require()
    missed(away, 1)
    store.release_lease(lease)
    assert store.acquire_lease(WHOLE, "another", 60_000) is not None
    eventually(lambda: not keeper.held)
    assert not keeper.still(lease)
    (told,) = [each for each in caplog.records if each.message == "lease_lost"]
    assert (told.__dict__["partition"], told.__dict__["epoch"]) == (WHOLE, lease.epoch)


def test_a_lease_runs_from_the_question_however_late_the_answer(
    store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the database that measures how long nobody was heard of, and that may be loaded."""
    now, asked, acquire = [0.0], list[float](), store.acquire_lease

    def slowly(*given: Any) -> Lease | None:
        asked.append(now[0])
        lease = acquire(*given)
        now[0] += 5
        return lease

    monkeypatch.setattr(leases, "_now", lambda: now[0])
    monkeypatch.setattr(store, "acquire_lease", slowly)
    keeper = LeaseKeeper(store, SeededIds(1), WHOLE)
    lease = keeper.require()
    now[0] = 5.9
    assert keeper.still(lease)
    assert asked == [0.0]
    now[0] = 6.0
    assert keeper.still(lease)
    assert asked == [0.0, 6.0], "two seconds before another one may have it"


def test_one_that_ran_out_and_was_taken_anew_is_another(
    store: EventStore, away: Away, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was decided under the former one may have been sent by somebody else since."""
    monkeypatch.setattr(leases, "RENEW_S", 0.0)
    keeper = LeaseKeeper(store, SeededIds(1), WHOLE)
    former = keeper.require()
    store.release_lease(former)
    other = store.acquire_lease(WHOLE, "another", 60_000)
    assert other is not None
    store.release_lease(other)
    lease = keeper.require()
    assert keeper.still(lease)
    assert not keeper.still(former)


def test_a_block_that_ends_leaves_no_thread_behind(keeper: LeaseKeeper) -> None:
    keeper.stop_renewing()
    eventually(lambda: all(each.name != "dee-lease" for each in threading.enumerate()))


class Once(threading.Event):
    """Lets one renewal through that is not told in time to stop."""

    def wait(self, timeout: float | None = None) -> bool:
        late = self.is_set()
        self.set()
        return late


def test_a_renewal_that_comes_late_takes_nothing_back(store: EventStore) -> None:
    """It was on its way as the lease was given back."""
    keeper = LeaseKeeper(store, SeededIds(1), WHOLE)
    keeper.require()
    keeper.release()
    keeper._renew(Once())
    assert store.acquire_lease(WHOLE, "another", 60_000) is not None


def test_while_the_machine_slept_another_one_took_over(
    store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock that stands still meanwhile says that the lease was confirmed a moment ago."""
    keeper = LeaseKeeper(store, SeededIds(1), WHOLE)
    lease = keeper.require()
    slept, clock_gettime = 3600.0, time.clock_gettime

    def later(clock: int) -> float:
        return clock_gettime(clock) + (slept if clock == time.CLOCK_BOOTTIME else 0)

    monkeypatch.setattr(time, "clock_gettime", later)
    store.release_lease(lease)
    assert store.acquire_lease(WHOLE, "another", 60_000) is not None
    assert not keeper.still(lease)
