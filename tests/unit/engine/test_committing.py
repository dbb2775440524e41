"""Who leads, when several threads want to commit at one moment."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from msgspec.structs import replace

from dee_es.adapters.storage.memory import open_memory
from dee_es.engine.log import committing
from dee_es.engine.log.committing import Committer, Proposal
from dee_es.errors import StoreUnavailable
from dee_es.ports import Committed, Conflict, EventStore, Situation, Unit
from tests.support.storage.events import append, run, unit
from tests.support.waiting import eventually

Outcomes = list[Committed | Conflict]


class Gate:
    """Lets the store decide only when it is open, and notes for how many at once."""

    def __init__(self, store: EventStore) -> None:
        self.store = store
        self.groups: list[int] = []
        self.open = threading.Event()
        self.entered = threading.Event()
        self._plain = store.decide

    def decide(self, streams: Sequence[str], *given: Any, **options: Any) -> Outcomes:
        self.groups.append(len(streams))
        self.entered.set()
        assert self.open.wait(60)
        return self._plain(streams, *given, **options)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    store, _ = open_memory()
    gate = Gate(store)
    monkeypatch.setattr(store, "decide", gate.decide)
    return gate


@pytest.fixture
def committer(gate: Gate) -> Committer:
    return Committer(gate.store, lambda *_: None)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


Begin = Callable[..., Future[Outcomes]]


@pytest.fixture
def begin(gate: Gate, committer: Committer, pool: ThreadPoolExecutor) -> Begin:
    """Has a proposal made by a thread, and returns when it leads or is queued."""

    def begin(number: int, error: Exception | None = None) -> Future[Outcomes]:
        def units_of(_: Situation) -> Sequence[Unit]:
            if error is not None:
                raise error
            return [unit(run(number))]

        waiting = len(committer._queue)
        led = committer._leader is not None
        made = pool.submit(committer.decide, Proposal([run(number)], [], units_of))
        eventually(lambda: len(committer._queue) > waiting if led else gate.entered.is_set())
        return made

    return begin


def test_those_who_come_while_one_commits_share_the_next(gate: Gate, begin: Begin) -> None:
    made = [begin(n) for n in range(6)]
    gate.open.set()
    assert [each.result(10) for each in made] == [[Committed(n, n)] for n in range(1, 7)]
    assert gate.groups == [1, 5]


def test_what_one_gets_wrong_is_its_own(gate: Gate, begin: Begin) -> None:
    first, good, bad, better = begin(0), begin(1), begin(2, ZeroDivisionError()), begin(3)
    gate.open.set()
    assert [each.result(10) for each in (first, good, better)] == [
        [Committed(1, 1)],
        [Committed(2, 2)],
        [Committed(3, 3)],
    ]
    with pytest.raises(ZeroDivisionError):
        bad.result(10)


def test_what_the_store_cannot_take_of_one_it_takes_of_the_others(
    gate: Gate, begin: Begin, committer: Committer, pool: ThreadPoolExecutor
) -> None:
    wrong = Unit((replace(append(run(9)), expected_version=5),))
    first, good = begin(0), begin(1)
    bad = pool.submit(committer.decide, Proposal([run(9)], [], lambda _: [unit(run(9)), wrong]))
    eventually(lambda: len(committer._queue) == 2)
    better = begin(2)
    gate.open.set()
    assert [each.result(10) for each in (first, good, better)] == [
        [Committed(1, 1)],
        [Committed(2, 2)],
        [Committed(3, 3)],
    ]
    with pytest.raises(ValueError, match=run(9)):
        bad.result(10)
    assert gate.store.log_head().position == 3


def test_what_the_store_cannot_do_everybody_hears(
    gate: Gate, begin: Begin, committer: Committer
) -> None:
    asked: list[int] = []

    def refuse(streams: Sequence[str], *_: Any, **__: Any) -> Outcomes:
        asked.append(len(streams))
        raise StoreUnavailable("gone")

    made = [begin(n) for n in range(3)]
    gate.store.decide = refuse  # type: ignore[method-assign]
    gate.open.set()
    assert made[0].result(10) == [Committed(1, 1)]
    for each in made[1:]:
        with pytest.raises(StoreUnavailable):
            each.result(10)
    assert asked == [2], "what may have been committed is not committed again"
    gate.store.decide = gate.decide  # type: ignore[method-assign]
    assert committer.commit([unit(run(7))]) == [Committed(2, 2)]


class Interrupted:
    """A turn whose thread is interrupted while it waits: at once, or when it is told to lead."""

    def __init__(self, *, told: bool) -> None:
        self._lock = threading.Lock()
        self._told = told
        self.release, self.locked = self._lock.release, self._lock.locked

    def acquire(self) -> None:
        if self._lock.acquire(blocking=False):
            return
        if self._told:
            eventually(lambda: not self.locked())
        raise KeyboardInterrupt


@pytest.mark.parametrize("told", [False, True])
def test_who_is_interrupted_keeps_nobody_waiting(
    gate: Gate, begin: Begin, committer: Committer, monkeypatch: pytest.MonkeyPatch, told: bool
) -> None:
    plain = committing._Waiting
    first = begin(0)
    raised = threading.Event()

    def waiting(proposal: Proposal) -> committing._Waiting:
        made = plain(proposal)
        turn: Any = Interrupted(told=told)
        turn.acquire()
        made.turn = turn
        return made

    monkeypatch.setattr(committing, "_Waiting", waiting)

    def interrupted() -> None:
        with pytest.raises(KeyboardInterrupt):
            committer.decide(Proposal([run(1)], [], lambda _: [unit(run(1))]))
        raised.set()

    thread = threading.Thread(target=interrupted)
    thread.start()
    eventually(lambda: len(committer._queue) == 1 or raised.is_set())
    monkeypatch.setattr(committing, "_Waiting", plain)
    if not told:
        thread.join(60)
    behind = begin(2)
    gate.open.set()
    assert first.result(10) == [Committed(1, 1)]
    assert behind.result(10) == [Committed(2, 2)]
    thread.join(60)
    assert raised.is_set()
    assert gate.store.read_stream(run(1)) == []
    assert committer.commit([unit(run(3))]) == [Committed(3, 3)]


def test_a_leader_that_is_interrupted_hands_over(
    gate: Gate, begin: Begin, committer: Committer
) -> None:
    def interrupt(*_: Any, **__: Any) -> Outcomes:
        gate.store.decide = gate.decide  # type: ignore[method-assign]
        assert gate.open.wait(60)
        raise KeyboardInterrupt

    gate.store.decide = interrupt  # type: ignore[method-assign]
    gate.entered.set()
    led = begin(0)
    behind = begin(1)
    gate.open.set()
    with pytest.raises(KeyboardInterrupt):
        led.result(10)
    assert behind.result(10) == [Committed(1, 1)]
