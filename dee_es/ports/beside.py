"""Work that goes on beside other work of its thread, in turns.

While the database takes in what was decided, the next is decided. Two threads could do that, but
they share one interpreter: the one that commits needs it a hundred times for some microseconds
each, and each time has to wait until the one that computes is made to let go of it. So one thread
does both. What it begins here runs until it would wait for an answer. It goes on when that has come
and its thread says `go_on`, waits for an answer itself, or wants the result.

What was begun first is over first; what never waits is over at once. So nothing that is committed,
nor its order, depends on how long anything takes.

Whoever has begun something must not wait for a lock that another thread holds while that one waits
for what was begun.
"""

from __future__ import annotations

import select
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, Final, Generic, NamedTuple, TypeVar

from greenlet import getcurrent, greenlet

T = TypeVar("T")

_LOOK_S: Final = 0.1
"""How long an answer is waited for before whoever waits may look at the clock."""


class Awaited(NamedTuple):
    """A socket that is to become ready to be read from, to be written to, or either."""

    socket: int
    reads: bool
    writes: bool


class _Watch:
    """Looks whether sockets are ready."""

    def __init__(self, *awaited: Awaited) -> None:
        self._awaited = awaited
        self._poll = select.poll() if hasattr(select, "poll") else None
        if self._poll is not None:
            for each in awaited:
                wanted = (select.POLLIN if each.reads else 0) | (
                    select.POLLOUT if each.writes else 0
                )
                self._poll.register(each.socket, wanted)

    def ready(self, timeout_s: float = 0) -> list[int]:
        """Those that are ready within this time."""
        if self._poll is not None:
            return [socket for socket, _ in self._poll.poll(timeout_s * 1000)]
        reads = [each.socket for each in self._awaited if each.reads]
        writes = [each.socket for each in self._awaited if each.writes]
        return [socket for found in select.select(reads, writes, [], timeout_s) for socket in found]


class Begun(Generic[T]):
    """Work that was begun."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._future: Future[T] = Future()
        self._task = greenlet(self._run)
        self._thread = threading.get_ident()

    def _run(self) -> None:
        try:
            result = self._work()
        except BaseException as error:
            self._future.set_exception(error)
            if not isinstance(error, Exception):
                # Ctrl-C is for the whole thread.
                raise
        else:
            self._future.set_result(result)

    @property
    def done(self) -> bool:
        """Whether it is over, as far as is known without a look."""
        return self._future.done()

    def result(self) -> T:
        """What it came to, or raise what it raised, when it is over."""
        self.wait()
        return self._future.result()

    def exception(self) -> BaseException | None:
        """What it raised, if anything, when it is over."""
        self.wait()
        return self._future.exception()

    def wait(self) -> None:
        """Wait until it is over."""
        assert self._thread == threading.get_ident(), "it goes on in the thread that began it alone"
        while not self.done:
            _here.look(_LOOK_S)
            _here.step()

    def take_turn(self) -> None:
        """Run until it waits or is over."""
        self._task.parent = getcurrent()
        self._task.switch()

    def give_turn(self) -> None:
        """Wait here until the next turn; called by the work itself."""
        parent = self._task.parent
        assert parent is not None, "it was given its turn by somebody"
        parent.switch()


class _Lane(threading.local):
    """What one thread has begun, in order; only the first of it has ever run."""

    def __init__(self) -> None:
        self.begun: deque[Begun[Any]] = deque()
        self.running: Begun[Any] | None = None
        self._awaited: Awaited | None = None
        self._watch = _Watch()

    def look(self, timeout_s: float = 0, other: Awaited | None = None) -> bool:
        """Whether what was begun can go on; looks that long, or until `other` is ready."""
        if self._awaited is None:
            return True
        watch = self._watch if other is None else _Watch(self._awaited, other)
        return self._awaited.socket in watch.ready(timeout_s)

    def step(self) -> None:
        """Let what was begun run until it waits."""
        self._awaited = None
        while self.begun and self._awaited is None:
            first = self.running = self.begun[0]
            try:
                first.take_turn()
            finally:
                self.running = None
                if first.done:
                    self.begun.popleft()

    def pause(self, running: Begun[Any], awaited: Awaited, watch: _Watch) -> None:
        """End the turn of what is running, until a socket is ready."""
        self._awaited, self._watch = awaited, watch
        running.give_turn()


_here: Final = _Lane()


def begin(work: Callable[[], T]) -> Begun[T]:
    """Have this done beside what the thread goes on to do, behind all that it has begun before."""
    begun = Begun(work)
    assert _here.running is None, "what was begun begins nothing itself"
    _here.begun.append(begun)
    if len(_here.begun) == 1:
        _here.step()
    return begun


@contextmanager
def meanwhile(work: Callable[[], T]) -> Iterator[Begun[T]]:
    """Have this done beside what the block does; it is over when the block ends, however that
    does."""
    begun = begin(work)
    try:
        yield begun
    finally:
        begun.wait()


def go_on() -> None:
    """Let what this thread has begun go on, if the answer that it waits for has come."""
    if _here.begun and _here.running is None and _here.look():
        _here.step()


def finish() -> None:
    """Wait until all that this thread has begun is over, whatever it came to."""
    while _here.begun and _here.running is None:
        _here.look(_LOOK_S)
        _here.step()


def takes_turns() -> bool:
    """Whether this thread has begun anything that is not over, and has to `wait_for` answers."""
    return bool(_here.begun)


def wait_for(awaited: Awaited) -> None:
    """Wait for a socket while the other part of this thread's work goes on.

    Returns when it is ready, or after a moment in which nothing happened.
    """
    watch, running = _Watch(awaited), _here.running
    if watch.ready():
        return
    if running is not None:
        _here.pause(running, awaited, watch)
        return
    while _here.begun and _here.look(_LOOK_S, awaited):
        _here.step()
        if watch.ready():
            return
