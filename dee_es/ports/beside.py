"""Work that goes on beside other work of its thread, in turns.

While the database takes in what was decided, the next is decided. Two threads could do that, but
they share one interpreter: the one that commits needs it a hundred times for some microseconds
each, and each time has to wait until the one that computes is made to let go of it. So one thread
does both. What it begins here runs until it would wait for an answer. It goes on when that has come
and its thread says `go_on`, waits for an answer itself, or wants the result.

What was begun first is over first; what never waits is over at once. So nothing that is committed,
nor its order, depends on how long anything takes. What only reads may be begun `apart` from all
else, if it does not matter what it finds done of that: it is not held up by it.

Work that has come to keep others waiting says `hurry`: its thread then sees it through first.

Whoever waits for an answer may hold locks while what was begun goes on, in the same thread: so that
must take none but by `holding`. For the same reason nothing else of the thread uses a connection
that it uses, until it is over, but what is begun behind it: the thread would wait for itself.
"""

from __future__ import annotations

import select
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from itertools import chain
from typing import Any, Final, Generic, Self, TypeVar

from greenlet import getcurrent, greenlet
from msgspec import Struct

T = TypeVar("T")

_LOOK_S: Final = 0.1
"""How long an answer is waited for before whoever waits may look at the clock."""
_LOCKED_S: Final = 0.001
"""How often a lock is tried that another thread holds."""
_PART: Final = 25
"""Items of some microseconds each that are worked on between two looks at what was begun."""


class Awaited(Struct, frozen=True, gc=False):
    """A socket that is to become ready to be read from, to be written to, or either."""

    socket: int
    reads: bool
    writes: bool


class _Watch:
    """Looks whether sockets are ready."""

    def __init__(self) -> None:
        self._awaited: dict[int, Awaited] = {}
        self._poll = select.poll() if hasattr(select, "poll") else None

    def add(self, awaited: Awaited) -> None:
        """Look at this one, too."""
        if self._poll is None:
            self._awaited[awaited.socket] = awaited
            return
        reads = select.POLLIN if awaited.reads else 0
        self._poll.register(awaited.socket, reads | (select.POLLOUT if awaited.writes else 0))

    def remove(self, socket: int) -> None:
        """Look at this one no more, if it was looked at."""
        if self._poll is None:
            self._awaited.pop(socket, None)
        else:
            with suppress(KeyError):
                self._poll.unregister(socket)

    def ready(self, timeout_s: float = 0) -> list[int]:
        """Those that are ready within this time; they are looked at no more."""
        if self._poll is not None:
            found = [socket for socket, _ in self._poll.poll(timeout_s * 1000)]
        else:
            reads = [each.socket for each in self._awaited.values() if each.reads]
            writes = [each.socket for each in self._awaited.values() if each.writes]
            looks = select.select(reads, writes, [], timeout_s)
            found = [socket for sockets in looks for socket in sockets]
        for socket in found:
            self.remove(socket)
        return found


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
        except Exception as error:
            self._future.set_exception(error)
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
        """Wait until it is over; see `finish`."""
        assert self._thread == threading.get_ident(), "it goes on in the thread that began it alone"
        _here.step_until(self._future.done)

    def take_turn(self) -> None:
        """Run until it waits or is over."""
        self._task.parent = getcurrent()
        try:
            self._task.switch()
        except BaseException as error:
            # Ctrl-C is for the whole thread, and whatever it comes to, this is over.
            if self._task.dead and not self.done:
                self._future.set_exception(error)
            raise

    def give_turn(self) -> None:
        """Wait here until the next turn; called by the work itself."""
        parent = self._task.parent
        assert parent is not None, "it was given its turn by somebody"
        parent.switch()


class _Wanted:
    """A lock that is wanted; once it is taken, `taken` holds anything."""

    __slots__ = ("_lock", "taken")

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock
        self.taken: list[bool] = []

    def take(self, timeout_s: float) -> bool:
        """Whether it is taken, within this time; -1 stands for however long it takes."""
        if not self.taken:
            # In one call: whoever is interrupted behind it has it noted that the lock is taken.
            self.taken.extend(filter(None, map(self._lock.acquire, (True,), (timeout_s,))))
        return bool(self.taken)


class _Strand:
    """What is done one after the other: only the first of it has ever run.

    `awaited` is what that waits for, and None until it runs; `until` is when it looks at the clock,
    if that is a socket.
    """

    __slots__ = ("awaited", "begun", "until")

    def __init__(self) -> None:
        self.begun: deque[Begun[Any]] = deque()
        self.awaited: Awaited | _Wanted | None = None
        self.until = 0.0


class _Lane(threading.local):
    """What one thread has begun."""

    def __init__(self) -> None:
        self.strands: list[_Strand] = []
        self.running: _Strand | None = None
        self.hurried: Begun[Any] | None = None
        self._in_order = _Strand()
        self._watch = _Watch()

    def begin(self, begun: Begun[Any], apart: bool) -> None:
        """Take it up, and let it run if nothing comes before it."""
        strand = _Strand() if apart else self._in_order
        # In this order, or nobody would ever go on with what was interrupted between the two.
        if strand not in self.strands:
            self.strands.append(strand)
        strand.begun.append(begun)
        if strand.begun[0] is begun:
            self._step(strand)

    def step(self, timeout_s: float = 0, other: Awaited | None = None) -> bool:
        """Let what was begun run where it can go on; looks about that long, or until `other` is
        ready. Says whether any could."""
        ready = self._ready(timeout_s, other)
        for strand in ready:
            self._step(strand)
        return bool(ready)

    def step_until(self, over: Callable[[], bool]) -> None:
        """Let what was begun run until that is so, even if this is interrupted: it may hold locks,
        and nobody else goes on with it."""
        try:
            while not over():
                self.step(_LOOK_S)
        except BaseException:
            while not over():
                self.step(_LOOK_S)
            raise

    def _ready(self, timeout_s: float, other: Awaited | None) -> list[_Strand]:
        """Which can go on, or have waited so long that they are to look at the clock; where one
        waits for a lock, and others for answers, the look is short, since nothing tells that a lock
        is free."""
        waiting: dict[int, _Strand] = {}
        ready: list[_Strand] = []
        locked: list[tuple[_Strand, _Wanted]] = []
        for strand in self.strands:
            awaited = strand.awaited
            if isinstance(awaited, Awaited):
                waiting[awaited.socket] = strand
            elif awaited is None:
                ready.append(strand)
            else:
                locked.append((strand, awaited))
        if ready:
            return ready
        if locked:
            alone = not waiting and other is None and len(locked) == 1
            # It is taken at once, or others might always be faster.
            ready = [each for each, lock in locked if lock.take(timeout_s if alone else 0)]
            timeout_s = 0 if ready or alone else min(timeout_s, _LOCKED_S)
        try:
            if other is not None:
                self._watch.add(other)
            found = self._watch.ready(timeout_s)
        finally:
            if other is not None:
                self._watch.remove(other.socket)
        now = time.monotonic()
        ready += [each for at, each in waiting.items() if at in found or each.until <= now]
        return ready

    def _step(self, strand: _Strand) -> None:
        """Let this run until it waits."""
        goes_on = True
        while goes_on:
            self.running = strand
            try:
                if strand.begun:
                    strand.begun[0].take_turn()
            finally:
                self.running = None
                self._drop_over(strand)
            goes_on = bool(strand.begun) and strand.awaited is None

    def _drop_over(self, strand: _Strand) -> None:
        """Drop what is over; once more does no harm, if this was interrupted."""
        while strand.begun and strand.begun[0].done:
            if self.hurried is strand.begun[0]:
                self.hurried = None
            strand.begun.popleft()
        if not strand.begun and strand in self.strands:
            self.strands.remove(strand)

    def pause(self, awaited: Awaited | _Wanted) -> None:
        """End the turn of what is running, until a socket is ready or a moment is over, or until a
        lock is taken."""
        strand = self.running
        assert strand is not None
        try:
            strand.awaited = awaited
            if isinstance(awaited, Awaited):
                self._watch.add(awaited)
                strand.until = time.monotonic() + _LOOK_S
            strand.begun[0].give_turn()
        finally:
            strand.awaited = None


_here: Final = _Lane()


def begin(work: Callable[[], T], *, apart: bool = False) -> Begun[T]:
    """Have this done beside what the thread goes on to do, behind all that it has begun before, or
    `apart` from that."""
    begun = Begun(work)
    assert _here.running is None, "what was begun begins nothing itself"
    _here.begin(begun, apart)
    return begun


def go_on() -> None:
    """Let what this thread has begun go on, if the answer that it waits for has come; what is in a
    hurry until it is over."""
    if _here.strands and _here.running is None:
        _here.step()
        if _here.hurried is not None:
            _here.hurried.wait()


def hurry() -> None:
    """Have the thread see this work through at its next look, if it goes on beside any other: it
    keeps somebody waiting by now, as whoever holds a lock does that others want."""
    if _here.running is not None:
        _here.hurried = _here.running.begun[0]


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
    """Wait until all that this thread has begun is over, whatever it came to.

    Who presses Ctrl-C meanwhile is heard when it is over, and who does so again is heard at once.
    """
    if _here.running is None:
        _here.step_until(lambda: not _here.strands)


def takes_turns() -> bool:
    """Whether this thread has begun anything that is not over, and has to `wait_for` answers."""
    return bool(_here.strands)


def wait_for(awaited: Awaited) -> None:
    """Wait for a socket while the other part of this thread's work goes on.

    Returns when it is ready, or after a moment, so that whoever waits may look at the clock.
    """
    watch = _Watch()
    watch.add(awaited)
    if watch.ready():
        return
    if _here.running is not None:
        _here.pause(awaited)
        return
    until = time.monotonic() + _LOOK_S
    while _here.step(_LOOK_S, awaited) and time.monotonic() < until:
        if watch.ready():
            return


def holding(lock: threading.Lock, work: Callable[[], T]) -> T:
    """Do this with a lock that other threads may have for a while; what was begun lets its thread
    go on until it is free. Whoever is interrupted, at whatever moment, leaves the lock free."""
    wanted = _Wanted(lock)
    try:
        wanted.take(-1 if _here.running is None else 0)
        while not wanted.taken:
            _here.pause(wanted)
        result = work()
    finally:
        if wanted.taken:
            lock.release()
    return result
