"""Work that goes on beside other work of its thread: in order, in turns, and never for its sake."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from greenlet import getcurrent, greenlet

from dee_es.ports import beside
from dee_es.ports.beside import Awaited


class Line:
    """A socket on which an answer arrives when the test says so."""

    def __init__(self) -> None:
        self._near, self._far = socket.socketpair()
        self._near.setblocking(False)

    def answer(self, text: bytes = b"x") -> None:
        self._far.send(text)

    def fill(self) -> None:
        """Write until there is no room left."""
        with suppress(BlockingIOError):
            while self._near.send(b"x" * 65_536):
                pass

    @property
    def answered(self) -> bool:
        try:
            return bool(self._near.recv(1, socket.MSG_PEEK))
        except BlockingIOError:
            return False

    def ask(self) -> bytes:
        """Wait as an adapter does, until there is an answer."""
        while not self.answered:
            beside.wait_for(Awaited(self._near.fileno(), reads=True, writes=False))
        return self._near.recv(100)

    def close(self) -> None:
        self._near.close()
        self._far.close()


@pytest.fixture
def line() -> Iterator[Line]:
    made = Line()
    yield made
    made.close()


@pytest.fixture
def other() -> Iterator[Line]:
    made = Line()
    yield made
    made.close()


def test_what_never_waits_is_over_at_once() -> None:
    begun = beside.begin(lambda: 42)
    assert begun.done
    assert begun.result() == 42
    assert begun.exception() is None
    assert not beside.takes_turns()


def test_it_goes_on_when_its_answer_has_come_and_its_thread_says_so(line: Line) -> None:
    begun = beside.begin(line.ask)
    beside.go_on()
    assert not begun.done
    assert beside.takes_turns()
    line.answer()
    assert not begun.done, "its thread has said nothing yet"
    beside.go_on()
    assert begun.done
    assert begun.result() == b"x"


def test_what_is_in_a_hurry_is_seen_through_at_the_next_look(line: Line, other: Line) -> None:
    def work() -> bytes:
        beside.hurry()
        return line.ask()

    begun, behind = beside.begin(work), beside.begin(other.ask)
    timer = threading.Timer(0.05, line.answer)
    timer.start()
    assert not begun.done, "whoever begins it goes on first"
    beside.go_on()
    assert begun.done
    assert begun.result() == b"x"
    assert not behind.done, "that one is in no hurry"
    beside.go_on()
    assert not behind.done
    other.answer()
    assert behind.result() == b"x"
    timer.join()


def test_a_hurry_does_not_end_with_other_work(line: Line, other: Line) -> None:
    hurried = beside.begin(lambda: [beside.hurry(), line.ask()])
    apart = beside.begin(other.ask, apart=True)
    other.answer()
    timer = threading.Timer(0.05, line.answer)
    timer.start()
    beside.go_on()
    assert apart.done
    assert hurried.done
    timer.join()


def test_what_was_begun_looks_after_nothing_but_itself(line: Line) -> None:
    """It may do what its thread does elsewhere, and waits for nothing there."""
    begun = beside.begin(line.ask)

    def work() -> list[int]:
        line.answer()
        beside.go_on()
        beside.finish()
        seen = list(beside.each(list(range(100)), 3))
        assert not begun.done
        with pytest.raises(AssertionError, match="begins nothing itself"):
            beside.begin(lambda: 1)
        return seen

    apart = beside.begin(work, apart=True)
    assert apart.done
    assert apart.result() == list(range(100))
    assert begun.result() == b"x"


def test_a_hurry_ends_with_its_work(line: Line, other: Line) -> None:
    beside.hurry()
    failing = beside.begin(lambda: [beside.hurry(), line.ask(), [][1]])
    line.answer()
    assert isinstance(failing.exception(), IndexError)
    later = beside.begin(other.ask)
    beside.go_on()
    assert not later.done
    other.answer()
    assert later.result() == b"x"


def test_the_result_is_waited_for(line: Line) -> None:
    begun = beside.begin(line.ask)
    timer = threading.Timer(0.05, line.answer)
    timer.start()
    assert begun.result() == b"x"
    timer.join()


def test_what_was_begun_first_is_over_first(line: Line, other: Line) -> None:
    order: list[str] = []
    first = beside.begin(lambda: order.append(f"first {line.ask()!r}"))
    second = beside.begin(lambda: order.append(f"second {other.ask()!r}"))
    third = beside.begin(lambda: order.append("third"))
    other.answer()
    beside.go_on()
    assert order == []
    line.answer()
    third.result()
    assert order == ["first b'x'", "second b'x'", "third"]
    assert first.done
    assert second.done


def test_one_look_lets_all_go_on_that_can(line: Line, other: Line) -> None:
    order: list[str] = []
    beside.begin(lambda: order.append(f"first {line.ask()!r}"))
    beside.begin(lambda: order.append("behind"))
    beside.begin(lambda: order.append(f"apart {other.ask()!r}"), apart=True)
    for each in (line, other):
        each.answer()
    beside.begin(lambda: order.append("last"))
    assert order == [], "to begin something is no look"
    beside.go_on()
    assert sorted(order) == ["apart b'x'", "behind", "first b'x'", "last"]
    assert not beside.takes_turns()


def test_its_turn_ends_where_it_was_given(line: Line) -> None:
    """Also where that is not what has begun it: a thread may be in several places at once."""
    order: list[str] = []
    begun: list[beside.Begun[bytes]] = []

    def begin() -> None:
        begun.append(beside.begin(line.ask))
        parent = getcurrent().parent
        assert parent is not None
        parent.switch()
        order.append("where it was begun")

    place = greenlet(begin)
    place.switch()
    line.answer()
    beside.go_on()
    order.append("where it was given its turn")
    assert begun[0].result() == b"x"
    place.switch()
    assert order == ["where it was given its turn", "where it was begun"]


def test_an_error_is_its_owners_and_stops_nobody(line: Line) -> None:
    def fail() -> None:
        line.ask()
        raise KeyError("gone")

    failing = beside.begin(fail)
    behind = beside.begin(lambda: 1)
    line.answer()
    beside.finish()
    assert behind.result() == 1
    assert isinstance(failing.exception(), KeyError)
    with pytest.raises(KeyError):
        failing.result()


def test_ctrl_c_is_for_the_whole_thread(line: Line) -> None:
    def interrupted() -> None:
        line.ask()
        raise KeyboardInterrupt

    begun = beside.begin(interrupted)
    behind = beside.begin(lambda: 1)
    line.answer()
    with pytest.raises(KeyboardInterrupt):
        beside.go_on()
    assert isinstance(begun.exception(), KeyboardInterrupt)
    assert behind.result() == 1


def test_who_waits_lets_it_go_on(line: Line, other: Line) -> None:
    """The thread itself waits for what only the work beside it brings about."""

    def answer_other() -> None:
        line.ask()
        other.answer(b"y")

    begun = beside.begin(answer_other)
    timer = threading.Timer(0.05, line.answer)
    timer.start()
    assert other.ask() == b"y"
    assert begun.done
    timer.join()


def test_a_wait_without_anything_beside_it_is_short(line: Line) -> None:
    # Whoever waits alone does so by itself, and may look at the clock.
    beside.wait_for(Awaited(line._near.fileno(), reads=True, writes=False))
    assert not line.answered


def test_who_waits_may_look_at_the_clock_now_and_then(line: Line) -> None:
    """As whoever gives up on a server that says nothing any more."""

    def patient() -> str:
        for _ in range(3):
            assert not line.answered, "only somebody else has ended it"
            beside.wait_for(Awaited(line._near.fileno(), reads=True, writes=False))
        return "given up"

    timer = threading.Timer(5, line.answer)
    timer.start()
    assert beside.begin(patient).result() == "given up"
    begun = beside.begin(patient)
    while not begun.done:
        beside.go_on()
    assert begun.result() == "given up"
    timer.cancel()


def test_who_waits_may_look_at_the_clock_whatever_goes_on_beside(line: Line, other: Line) -> None:
    begun = beside.begin(other.ask)
    timer = threading.Timer(5, line.answer)
    timer.start()
    for _ in range(3):
        beside.wait_for(Awaited(line._near.fileno(), reads=True, writes=False))
        assert not line.answered
    timer.cancel()
    line.answer()
    assert beside._here._watch.ready() == [], "nobody waits for that one any more"
    other.answer()
    assert begun.result() == b"x"


def test_it_waits_to_write_as_well(line: Line) -> None:
    begun = beside.begin(
        lambda: beside.wait_for(Awaited(line._near.fileno(), reads=False, writes=True))
    )
    assert begun.done, "there was room to write"


def test_as_a_block_it_is_over_when_that_ends(line: Line) -> None:
    timer = threading.Timer(0.05, line.answer)
    with beside.begin(line.ask) as begun:
        timer.start()
        assert not begun.done
    assert begun.done
    assert begun.result() == b"x"
    timer.join()


def test_it_is_over_even_if_its_block_is_broken_off(line: Line) -> None:
    begun: list[beside.Begun[bytes]] = []
    timer = threading.Timer(0.05, line.answer)

    def broken_off() -> None:
        with beside.begin(line.ask) as asking:
            begun.append(asking)
            timer.start()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken_off()
    assert begun[0].done
    assert not beside.takes_turns()
    timer.join()


def test_it_waits_for_a_lock_without_holding_up_its_thread() -> None:
    """The thread that has the lock may itself wait for what this one does meanwhile."""
    lock, order = threading.Lock(), []

    def work() -> None:
        beside.holding(lock, lambda: order.append("begun"))

    with lock:
        begun = beside.begin(work)
        beside.go_on()
        order.append("this thread")
        assert not begun.done
    beside.go_on()
    assert begun.done
    assert order == ["this thread", "begun"]
    assert not lock.locked()


def test_who_wants_its_result_waits_for_the_lock_too(line: Line) -> None:
    lock = threading.Lock()

    def work() -> str:
        return beside.holding(lock, lambda: "done")

    lock.acquire()
    timer = threading.Timer(0.05, lock.release)
    with beside.begin(work) as begun:
        timer.start()
    assert begun.result() == "done"
    timer.join()
    # Likewise while the thread waits for something else.
    lock.acquire()
    begun = beside.begin(work)
    timers = [threading.Timer(0.02, lock.release), threading.Timer(0.1, line.answer)]
    for each in timers:
        each.start()
    assert line.ask() == b"x"
    assert begun.result() == "done"
    for each in timers:
        each.join()


def test_a_lock_that_is_free_is_taken_at_once() -> None:
    lock = threading.Lock()
    assert beside.holding(lock, lock.locked)
    assert not lock.locked()


def test_each_thread_has_its_own(line: Line) -> None:
    begun = beside.begin(line.ask)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(beside.takes_turns).result() is False
        assert pool.submit(lambda: beside.begin(lambda: 7).result()).result() == 7
        with pytest.raises(AssertionError, match="the thread that began it"):
            pool.submit(begun.result).result()
    line.answer()
    assert begun.result() == b"x"


@pytest.mark.parametrize("polls", [True, False])
def test_it_works_without_poll(polls: bool, line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    if not polls:
        monkeypatch.delattr("select.poll")
    begun = beside.begin(line.ask)
    beside.go_on()
    assert not begun.done
    line.answer()
    beside.go_on()
    assert begun.result() == b"x"


@pytest.mark.parametrize("polls", [True, False])
def test_it_looks_for_what_is_asked_for_alone(
    polls: bool, line: Line, other: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody who cannot write would be woken again and again by what there is to read."""
    if not polls:
        monkeypatch.delattr("select.poll")
    watch = beside._Watch()
    reading, writing = line._near.fileno(), other._near.fileno()
    line.fill()
    for each in (line, other):
        each.answer()
    watch.add(Awaited(reading, reads=False, writes=True))
    assert watch.ready() == []
    watch.add(Awaited(reading, reads=True, writes=True))
    watch.add(Awaited(writing, reads=False, writes=True))
    assert set(watch.ready()) == {reading, writing}
    assert watch.ready() == [], "each is told of once"
    watch.add(Awaited(reading, reads=True, writes=False))
    watch.add(Awaited(writing, reads=False, writes=True))
    watch.remove(reading)
    watch.remove(reading)
    assert watch.ready() == [writing]
    line._near.recv(100)
    watch.add(Awaited(reading, reads=True, writes=False))
    assert watch.ready() == []


def test_many_items_are_worked_on_in_parts_with_a_look_between_them(line: Line) -> None:
    begun = beside.begin(line.ask)
    items, seen = list(range(1_000)), []
    for part in beside.parts(items):
        seen += part
        if len(seen) < len(items) / 2:
            assert not begun.done
        else:
            line.answer()
    assert seen == items
    assert begun.done
    assert list(beside.parts([])) == []


def test_a_look_comes_behind_as_many_items_as_are_said(line: Line) -> None:
    begun = beside.begin(line.ask)
    line.answer()
    seen = []
    for item in beside.each(list(range(7)), 3):
        assert begun.done == (item >= 3)
        seen.append(item)
    assert seen == list(range(7))


def test_what_is_begun_apart_is_not_held_up(line: Line, other: Line) -> None:
    order: list[str] = []
    first = beside.begin(lambda: order.append(f"first {line.ask()!r}"))
    behind = beside.begin(lambda: order.append("behind"))
    apart = beside.begin(lambda: order.append(f"apart {other.ask()!r}"), apart=True)
    at_once = beside.begin(lambda: 42, apart=True)
    assert at_once.done
    other.answer()
    beside.go_on()
    assert apart.done
    assert order == ["apart b'x'"]
    assert beside.takes_turns()
    line.answer()
    beside.finish()
    assert order == ["apart b'x'", "first b'x'", "behind"]
    assert first.done
    assert behind.done
    assert not beside.takes_turns()


def test_what_is_begun_apart_goes_on_while_others_are_waited_for(line: Line, other: Line) -> None:
    """The one that is waited for may be what only the other brings about."""

    def answer_line() -> None:
        other.ask()
        line.answer()

    asking = beside.begin(line.ask)
    beside.begin(answer_line, apart=True)
    timer = threading.Timer(0.05, other.answer)
    timer.start()
    assert asking.result() == b"x"
    timer.join()
    lock = threading.Lock()

    def release() -> None:
        other.ask()
        lock.release()

    def locked() -> str:
        return beside.holding(lock, lambda: "done")

    lock.acquire()
    waiting = beside.begin(locked)
    beside.begin(release, apart=True)
    timer = threading.Timer(0.05, other.answer)
    timer.start()
    assert waiting.result() == "done"
    timer.join()
    assert not beside.takes_turns()


def test_an_interruption_leaves_what_was_begun_apart(line: Line, other: Line) -> None:
    def interrupted() -> None:
        line.ask()
        raise KeyboardInterrupt

    begun = beside.begin(interrupted)
    apart = beside.begin(other.ask, apart=True)
    for each in (line, other):
        each.answer()
    with pytest.raises(KeyboardInterrupt):
        beside.finish()
    assert isinstance(begun.exception(), KeyboardInterrupt)
    beside.finish()
    assert apart.result() == b"x"


@pytest.mark.parametrize("at_last", [True, False])
def test_who_is_interrupted_sees_through_what_was_waited_for(
    at_last: bool, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever catches Ctrl-C finds no lock taken by what nobody goes on with."""
    lock = threading.Lock()

    def work() -> bytes:
        return beside.holding(lock, line.ask)

    def interrupted(_: float) -> list[int]:
        monkeypatch.undo()
        raise KeyboardInterrupt

    begun = beside.begin(work)
    monkeypatch.setattr(beside._here._watch, "ready", interrupted)
    timer = threading.Timer(0.05, line.answer)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        beside.finish() if at_last else begun.wait()
    assert begun.done
    assert not beside.takes_turns()
    assert not lock.locked()
    assert begun.result() == b"x"
    timer.join()
