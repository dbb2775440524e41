"""Work that goes on beside other work of its thread, in turns.

While the database takes in what was decided, the next is decided. Two threads could do that, but
they share one interpreter: the one that commits needs it a hundred times for some microseconds
each, and each time has to wait until the one that computes is made to let go of it. So one thread
does both. What it begins here runs until it would wait for an answer. It goes on when that has come
and its thread says `go_on`, waits for an answer itself, or wants the result.

What was begun first is over first; what never waits is over at once. So nothing that is committed,
nor its order, depends on how long anything takes.

Whoever waits for an answer may hold locks while what was begun goes on, in the same thread: so that
must take none but by `holding`. For the same reason nothing else of the thread uses a connection
that it uses, until it is over: the thread would wait for itself.
"""

from __future__ import annotations

import select
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from itertools import chain
from typing import Any, Final, Generic, NamedTuple, Self, TypeVar

from greenlet import getcurrent, greenlet

T = TypeVar("T")

_LOOK_S: Final = 0.1
"""How long an answer is waited for before whoever waits may look at the clock."""
_LOCKED_S: Final = 0.001
"""How often a lock is tried that another thread holds."""
_PART: Final = 25
"""Items of some microseconds each that are worked on between two looks at what was begun."""


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
    """Work that was begun. As a context manager it is over when the block ends, however that does;
    what came of it is told by `result` alone."""

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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.wait()

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
        self._awaited: Awaited | threading.Lock | None = None
        self._watch = _Watch()
        self._taken = False

    def look(self, timeout_s: float = 0, other: Awaited | None = None) -> bool:
        """Whether what was begun can go on; looks about that long, or until `other` is ready."""
        awaited = self._awaited
        if awaited is None:
            return True
        if isinstance(awaited, Awaited):
            watch = self._watch if other is None else _Watch(awaited, other)
            return awaited.socket in watch.ready(timeout_s)
        if other is not None:
            timeout_s = 0
            _Watch(other).ready(_LOCKED_S)
        # It is taken at once, or others might always be faster.
        self._taken = self._taken or awaited.acquire(timeout=timeout_s)
        return self._taken

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

    def pause(self, awaited: Awaited | threading.Lock, watch: _Watch | None = None) -> bool:
        """End the turn of what is running, until a socket is ready or a lock is taken; says whether
        it was."""
        assert self.running is not None
        self._awaited, self._watch = awaited, watch or self._watch
        self.running.give_turn()
        taken, self._taken = self._taken, False
        return taken


_here: Final = _Lane()


def begin(work: Callable[[], T]) -> Begun[T]:
    """Have this done beside what the thread goes on to do, behind all that it has begun before."""
    begun = Begun(work)
    assert _here.running is None, "what was begun begins nothing itself"
    _here.begun.append(begun)
    if len(_here.begun) == 1:
        _here.step()
    return begun


def go_on() -> None:
    """Let what this thread has begun go on, if the answer that it waits for has come."""
    if _here.begun and _here.running is None and _here.look():
        _here.step()


def parts(items: Sequence[T], size: int = _PART) -> Iterator[Sequence[T]]:
    """Many items in parts, with a look before each behind the first whether what was begun can go
    on; a part should be the work of a tenth of a millisecond."""
    for start in range(0, len(items), size):
        if start:
            go_on()
        yield items[start : start + size]


def each(items: Sequence[T], size: int = _PART) -> Iterator[T]:
    """Many items one by one, with the looks of `parts`."""
    return chain.from_iterable(parts(items, size))


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
    watch = _Watch(awaited)
    if watch.ready():
        return
    if _here.running is not None:
        _here.pause(awaited, watch)
        return
    while _here.begun and _here.look(_LOOK_S, awaited):
        _here.step()
        if watch.ready():
            return


@contextmanager
def holding(lock: threading.Lock) -> Iterator[None]:
    """Hold a lock that other threads may have for a while; what was begun lets its thread go on
    until it is free."""
    taken = lock.acquire(blocking=_here.running is None)
    while not taken:
        taken = _here.pause(lock) or lock.acquire(blocking=False)
    try:
        yield
    finally:
        lock.release()
