"""The answer to the intents' commit is lost: whoever got none has called no channel for them, and
knows that. They are tried again, each message arrives once, and no run fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dee_es import Engine
from dee_es.adapters.channels.memory import MemoryChannel
from dee_es.engine.scheduling import leases, scheduler
from dee_es.errors import ConcurrencyConflict, StoreUnavailable
from dee_es.ports import Action, ChannelResult, Lease, SendContext
from tests.support.engines import (
    BACKENDS,
    assert_replays,
    database_url,
    open_engine,
    outreach,
    people,
    publish_basics,
)
from tests.support.waiting import eventually

PAGE = 4
COUNT = 2 * PAGE + 1


@pytest.fixture(params=BACKENDS)
def url(request: pytest.FixtureRequest, tmp_path: Path, fresh_postgres: Callable[[], str]) -> str:
    return database_url(request.param, tmp_path, fresh_postgres)


def started(url: str, channel: MemoryChannel, folder: Path) -> tuple[Engine, list[str]]:
    engine = open_engine(url, channel=channel, page=PAGE, keys=folder / "keys.db")
    publish_basics(engine)
    engine.bulk_execute(outreach(), people(COUNT))
    return engine, sorted(run.id for run in engine.list_runs(limit=COUNT).runs)


class Overtaken(MemoryChannel):
    """While the first message is sent, another takes over the lease of `leases`."""

    leases: Any
    store: Any

    def __init__(self) -> None:
        super().__init__(self._take_over)
        self._taken: Lease | None = None

    def _take_over(self, _: Action, __: SendContext) -> ChannelResult:
        if self._taken is None:
            lease = self.leases._lease
            assert lease is not None
            self.store.release_lease(lease)
            self._taken = self.store.acquire_lease(lease.partition, "another", 60_000)
        return ChannelResult("delivered", "msg_1")

    def give_back(self) -> None:
        self.store.release_lease(self._taken)


class Losing:
    """Loses what is committed under a lease, the `nth` time, counted from 1; by `fate`, it is
    committed all the same."""

    def __init__(self, engine: Engine, nth: int, fate: Callable[[Callable[[], Any]], object]):
        store: Any = engine._parts.store
        self._commit, self._left, self._fate = store.commit, nth, fate
        store.commit = self._answer

    def _answer(self, *units: Any, lease: Lease | None = None, **more: Any) -> Any:
        self._left -= lease is not None
        if self._left == 0 and lease is not None:
            self._fate(lambda: self._commit(*units, lease=lease, **more))
            raise StoreUnavailable("the connection was lost")
        return self._commit(*units, lease=lease, **more)


def before(_: Callable[[], Any]) -> None:
    """The commit did not happen."""


def after(commit: Callable[[], Any]) -> None:
    """The commit happened."""
    commit()


def away(*_: Any, **__: Any) -> Any:
    """What the database says to everything that is asked of it."""
    raise StoreUnavailable("it is still away")


def assert_each_arrived_once(engine: Engine, channel: MemoryChannel, runs: list[str]) -> None:
    assert sorted(action.run_id for action in channel.actions) == runs
    statuses = [engine.get_run(run).status.value for run in runs]
    assert statuses == ["waiting"] * len(runs)
    assert_replays(engine)


def actions(engine: Engine, run_id: str) -> list[str]:
    return [entry.action for entry in engine.get_timeline(run_id)]


@pytest.mark.parametrize("fate", [before, after])
@pytest.mark.parametrize("nth", [1, 2, 3])
def test_the_next_tick_tries_them_again(
    url: str, nth: int, fate: Callable[[Callable[[], Any]], object], tmp_path: Path
) -> None:
    channel = MemoryChannel()
    engine, runs = started(url, channel, tmp_path)
    with engine:
        Losing(engine, nth, fate)
        with pytest.raises(StoreUnavailable):
            engine.tick()
        lost = runs[(nth - 1) * PAGE : nth * PAGE]
        assert not {action.run_id for action in channel.actions} & set(lost)
        # Already now, since there may be no later for this process.
        for run in lost:
            assert ("error.retried" in actions(engine, run)) == (fate is after)
        engine.run_until(120)
        assert_each_arrived_once(engine, channel, runs)


@pytest.mark.parametrize("fate", [before, after])
def test_so_does_a_run_that_goes_on_alone(
    url: str, fate: Callable[[Callable[[], Any]], object], tmp_path: Path
) -> None:
    channel = MemoryChannel()
    engine, runs = started(url, channel, tmp_path)
    with engine:
        Losing(engine, 1, fate)
        with pytest.raises(StoreUnavailable):
            engine.replay(runs[0], dry_run=False)
        assert not channel.actions
        assert ("error.retried" in actions(engine, runs[0])) == (fate is after)
        engine.run_until(120)
        assert_each_arrived_once(engine, channel, runs)


def test_the_next_tick_finds_out_first_what_is_in_the_log(url: str, tmp_path: Path) -> None:
    """The database was away until the tick before was over. Who is due by an intent of its own is
    not taken for one whose sender has died."""
    channel = MemoryChannel()
    engine, runs = started(url, channel, tmp_path)
    with engine:
        store: Any = engine._parts.store
        decide = store.decide
        Losing(engine, 1, after)
        store.decide = away
        with pytest.raises(StoreUnavailable):
            engine.tick()
        store.decide = decide
        engine.run_until(120)
        assert_each_arrived_once(engine, channel, runs)


def test_a_worker_goes_on_with_them(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "POLL_S", 0.01)
    channel = MemoryChannel()
    engine, runs = started(url, channel, tmp_path)
    with engine:
        Losing(engine, 2, after)
        stop = threading.Event()
        worker = threading.Thread(target=engine.worker, args=(stop,), daemon=True)
        worker.start()
        eventually(lambda: len(channel.actions) == COUNT - PAGE)
        engine.clock.move_to(120)
        eventually(lambda: len(channel.actions) == COUNT)
        stop.set()
        worker.join(60)
        assert_each_arrived_once(engine, channel, runs)


@pytest.mark.parametrize("error", [StoreUnavailable("away"), ConcurrencyConflict("lost")])
def test_a_worker_that_got_no_answer_relies_on_its_lease_no_more(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It asks for it again before it does anything else, however lately it was confirmed."""
    monkeypatch.setattr(scheduler, "POLL_S", 0.01)
    monkeypatch.setattr(leases, "RENEW_S", 3600.0)
    channel = MemoryChannel()
    engine, runs = started(":memory:", channel, tmp_path)

    def refused(_: Callable[[], Any]) -> None:
        asked.append("commit")
        raise error

    with engine:
        store: Any = engine._parts.store
        acquire, asked = store.acquire_lease, []

        def counted(*given: Any) -> Any:
            asked.append("lease")
            return acquire(*given)

        store.acquire_lease = counted
        Losing(engine, 2, refused)
        stop = threading.Event()
        engine.worker(stop, lambda _: stop.set())
        assert asked == ["lease", "commit", "lease"]
        engine.run_until(120)
        assert_each_arrived_once(engine, channel, runs)


def test_what_had_not_begun_when_another_took_over_does_not_begin(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lease goes during the first send. The others are known not to have left, and are tried
    again when it is had back."""
    monkeypatch.setattr(leases, "_TRUSTED_S", 0.0)
    channel = Overtaken()
    engine, runs = started(url, channel, tmp_path)
    with engine:
        channel.leases, channel.store = engine._leases, engine._parts.store
        with pytest.raises(ConcurrencyConflict):
            engine.tick()
        assert [action.run_id for action in channel.actions] == runs[:1]
        for run in runs[1:PAGE]:
            assert "error.retried" in actions(engine, run)
        channel.give_back()
        engine.run_until(120)
        assert_each_arrived_once(engine, channel, runs)


def test_a_worker_whose_lease_another_took_records_what_it_knows(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stands by, and would be taken for dead with its messages on their way."""
    monkeypatch.setattr(scheduler, "POLL_S", 0.01)
    monkeypatch.setattr(leases, "_TRUSTED_S", 0.0)
    channel = Overtaken()
    engine, runs = started(url, channel, tmp_path)
    with engine:
        channel.leases, channel.store = engine._leases, engine._parts.store
        stop = threading.Event()
        worker = threading.Thread(target=engine.worker, args=(stop,), daemon=True)
        worker.start()
        eventually(lambda: "step.executed" in actions(engine, runs[0]))
        assert not engine._leases.held
        channel.give_back()
        engine.clock.move_to(120)
        eventually(lambda: len(channel.actions) == COUNT)
        stop.set()
        worker.join(60)
        assert_each_arrived_once(engine, channel, runs)


def test_one_that_was_interrupted_as_well_is_no_worse(url: str, tmp_path: Path) -> None:
    """Ctrl-C in the very moment in which the commit is over."""

    def interrupted(commit: Callable[[], Any]) -> None:
        commit()
        raise KeyboardInterrupt

    channel = MemoryChannel()
    engine, runs = started(url, channel, tmp_path)
    with engine:
        Losing(engine, 1, interrupted)
        with pytest.raises(KeyboardInterrupt):
            engine.tick()
        engine.run_until(120)
        assert_each_arrived_once(engine, channel, runs)


def test_a_commit_that_is_still_under_way_is_waited_for(url: str, tmp_path: Path) -> None:
    """The database takes it in long after it was given up."""
    channel = MemoryChannel()
    engine, runs = started(url, channel, tmp_path)
    begun = threading.Event()
    inline = engine._committer._inline

    def slow(*given: Any) -> None:
        # Here the append lock is held.
        inline(*given)
        begun.set()
        time.sleep(0.5)

    def meanwhile(commit: Callable[[], Any]) -> None:
        engine._committer._inline = inline
        threading.Thread(target=commit, daemon=True).start()
        assert begun.wait(60)

    with engine:
        Losing(engine, 1, meanwhile)
        engine._committer._inline = slow
        with pytest.raises(StoreUnavailable):
            engine.tick()
        engine.run_until(120)
        assert_each_arrived_once(engine, channel, runs)


@pytest.mark.parametrize("url", BACKENDS[1:], indirect=True)
def test_what_another_one_sent_meanwhile_is_not_taken_for_its_own(url: str, tmp_path: Path) -> None:
    """The commit never happened. Another scheduler decided the same and died with a message on its
    way: of that nobody knows anything, and it must not be sent again."""
    left = [2]

    def answer(_: Action, __: SendContext) -> ChannelResult:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        return ChannelResult("delivered", "msg_1")

    channel = MemoryChannel(answer)
    engine, runs = started(url, channel, tmp_path)
    with engine:
        store: Any = engine._parts.store
        decide = store.decide
        Losing(engine, 1, before)
        store.decide = away
        with pytest.raises(StoreUnavailable):
            engine.tick()
        other = open_engine(url, channel=channel, page=PAGE, keys=tmp_path / "keys.db")
        with other, pytest.raises(KeyboardInterrupt):
            other.tick()
        store.decide = decide
        engine.run_until(120)
        failed = [run for run in runs if engine.get_run(run).status == "failed"]
        assert failed == [runs[1]]
        assert "error.outcome_unknown" in actions(engine, runs[1])
        assert sorted(action.run_id for action in channel.actions) == runs, "each was sent once"
        assert_replays(engine)
