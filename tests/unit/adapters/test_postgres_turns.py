"""Who of a process may append next: in the order in which they came, and nobody for ever."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from psycopg.errors import LockNotAvailable

from dee_es.adapters.storage.postgres.turns import Turns
from dee_es.ports import beside
from tests.support.waiting import PATIENCE_S, eventually

LONG_S = PATIENCE_S
MANY = 8


@pytest.fixture
def turns() -> Turns:
    return Turns()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(MANY) as pool:
        yield pool


class Line:
    """Threads that want a turn, each in line before the next one asks."""

    def __init__(self, turns: Turns, pool: ThreadPoolExecutor) -> None:
        self.served: list[str] = []
        self._turns, self._pool = turns, pool

    def take(self, name: str, timeout_s: float = LONG_S) -> None:
        with self._turns.turn(timeout_s):
            self.served.append(name)

    def joined_by(self, name: str, timeout_s: float = LONG_S) -> Future[None]:
        before = len(self._turns._line)
        waiting = self._pool.submit(self.take, name, timeout_s)
        eventually(lambda: len(self._turns._line) > before or waiting.done())
        return waiting


@pytest.fixture
def line(turns: Turns, pool: ThreadPoolExecutor) -> Line:
    return Line(turns, pool)


def test_who_came_first_is_served_first(turns: Turns, line: Line) -> None:
    names = [f"thread {n}" for n in range(MANY)]
    with turns.turn(LONG_S) as free:
        assert free
        waiting = [line.joined_by(name) for name in names]
        assert line.served == []
    for each in waiting:
        each.result(PATIENCE_S)
    assert line.served == names


def test_who_had_a_turn_stands_behind_those_who_wait(turns: Turns, line: Line) -> None:
    with turns.turn(LONG_S):
        waiting = line.joined_by("who waits")
    line.take("who had it")
    waiting.result(PATIENCE_S)
    assert line.served == ["who waits", "who had it"]


def test_who_gives_up_keeps_nobody_from_a_turn(turns: Turns, line: Line) -> None:
    with turns.turn(LONG_S):
        impatient, patient = line.joined_by("impatient", 0.05), line.joined_by("patient")
        with pytest.raises(LockNotAvailable):
            impatient.result(PATIENCE_S)
    patient.result(PATIENCE_S)
    assert line.served == ["patient"]
    line.take("another")


def test_an_error_gives_the_turn_to_the_next(turns: Turns, line: Line) -> None:
    waiting: list[Future[None]] = []

    def fail() -> None:
        with turns.turn(LONG_S):
            waiting.append(line.joined_by("next"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    waiting[0].result(PATIENCE_S)


def held(turns: Turns, pool: ThreadPoolExecutor) -> tuple[threading.Event, Future[None]]:
    """The turn taken by another thread, until the event is set."""
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with turns.turn(LONG_S):
            entered.set()
            assert leave.wait(PATIENCE_S)

    holding = pool.submit(hold)
    assert entered.wait(PATIENCE_S)
    return leave, holding


def test_what_was_begun_keeps_its_place_and_lets_its_thread_go_on(
    turns: Turns, line: Line, pool: ThreadPoolExecutor
) -> None:
    leave, holding = held(turns, pool)
    begun = beside.begin(lambda: line.take("what was begun"))
    assert not begun.done
    behind = line.joined_by("behind it")
    leave.set()
    holding.result(PATIENCE_S)
    assert line.served == [], "nobody has looked whether it can go on"
    begun.result()
    behind.result(PATIENCE_S)
    assert line.served == ["what was begun", "behind it"]


def test_a_thread_sees_through_what_it_has_begun_before_it_has_a_turn(
    turns: Turns, line: Line, pool: ThreadPoolExecutor
) -> None:
    leave, holding = held(turns, pool)
    begun = [beside.begin(lambda n=n: line.take(f"begun {n}")) for n in range(2)]  # type: ignore[misc]
    threading.Timer(0.05, leave.set).start()
    line.take("its thread")
    assert line.served == ["begun 0", "begun 1", "its thread"]
    assert all(each.done for each in begun)
    holding.result(PATIENCE_S)
