"""Work on many items shared among processes, in the order of the items and in flat memory."""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from contextlib import ExitStack, closing, suppress
from functools import cache
from multiprocessing.connection import Connection
from operator import length_hint
from queue import SimpleQueue
from threading import Thread
from typing import Any, Final, Generic, TypeVar

from dee_es.errors import DeeError

Item = TypeVar("Item")
Result = TypeVar("Result")

_AHEAD: Final = 3
"""Items that a process has to do at most, so that it is never idle."""
_MOST_KEPT: Final = 8
"""Results for each process that wait for one before them; the first come while others start."""

# Not forked: threads and connections of this process do not survive that.
_SPAWNING: Final = multiprocessing.get_context("spawn")


def shared(
    begin: Callable[[], Callable[[Item], Result]],
    items: Iterable[Item],
    workers: int,
    here: Callable[[Item], Result] | None = None,
) -> Generator[Result, None, None]:
    """The results for the items, worked on by so many processes; an error comes in its turn.

    Each of them calls `begin` once, and what it returns ever after: a function of a module, or a
    `functools.partial` of one with plain arguments. With `here`, this process is one of them, which
    does that with an item whenever the others have enough; there must be two or more then. A
    process that cannot begin, fails or is killed costs time alone: its work is done in this one.
    """
    own = cache(begin) if here is None else lambda: here
    with ExitStack() as stack:
        others = workers if here is None else workers - 1
        helpers = [stack.enter_context(closing(_Helper(begin, own))) for _ in range(others)]
        under_way: deque[tuple[Future[Result], _Helper[Item, Result]]] = deque()
        coming = iter(items)
        for item in coming:
            helper = min(helpers, key=_Helper.owes)
            result: Future[Result] = Future()
            under_way.append((result, helper))
            # At the end nobody should wait for what another one still has ahead.
            if here is None or helper.owes() < min(_AHEAD, length_hint(coming, _AHEAD)):
                helper.give(item, result)
            else:
                _do(here, item, result)
            for each in helpers:
                each.take_in()
            while under_way and (
                under_way[0][0].done()
                or len(under_way) > _MOST_KEPT * workers
                or (here is None and min(each.owes() for each in helpers) >= _AHEAD)
            ):
                yield _awaited(*under_way.popleft())
        # They may leave while the last results are taken in.
        for each in helpers:
            each.dismiss()
        while under_way:
            yield _awaited(*under_way.popleft())


def _awaited(result: Future[Result], helper: _Helper[Any, Result]) -> Result:
    while not result.done():
        helper.take_in(wait=True)
    return result.result()


def _do(work: Callable[[Item], Result], item: Item, result: Future[Result]) -> None:
    try:
        result.set_result(work(item))
    except Exception as error:
        result.set_exception(error)


class _Helper(Generic[Item, Result]):
    """A process that works on items in the order in which they are given to it.

    What it leaves undone is done by what `own` returns, in this process.
    """

    def __init__(
        self,
        begin: Callable[[], Callable[[Item], Result]],
        own: Callable[[], Callable[[Item], Result]],
    ) -> None:
        self._own = own
        self._owed: deque[tuple[Item, Future[Result]]] = deque()
        self._lost = False
        items, self._items = _SPAWNING.Pipe(duplex=False)
        self._answers, answers = _SPAWNING.Pipe(duplex=False)
        self._process = _SPAWNING.Process(target=_serve, args=(begin, items, answers), daemon=True)
        self._process.start()
        # That it is gone shows here only if nobody else holds its ends.
        items.close()
        answers.close()

    def owes(self) -> int:
        """How many items it has not answered."""
        return len(self._owed)

    def give(self, item: Item, result: Future[Result]) -> None:
        """Have an item worked on."""
        self._owed.append((item, result))
        if not self._lost:
            try:
                self._items.send(item)
            except OSError:
                self._lost = True
        self._make_up()

    def take_in(self, wait: bool = False) -> None:
        """Take in what it has answered; the next answer is waited for if that is asked."""
        try:
            while self._owed and not self._lost and (wait or self._answers.poll()):
                done, value = self._answers.recv()
                item, result = self._owed.popleft()
                if done:
                    result.set_result(value)
                else:
                    _do(self._own(), item, result)
                wait = False
        except (EOFError, OSError):
            self._lost = True
        self._make_up()

    def _make_up(self) -> None:
        """Do what it owes, if it is lost."""
        while self._lost and self._owed:
            item, result = self._owed.popleft()
            _do(self._own(), item, result)

    def dismiss(self) -> None:
        """No more items come: it leaves when it has answered."""
        self._items.close()

    def close(self) -> None:
        """See it out; nobody waits for what it owes."""
        self.dismiss()
        if self._owed:
            self._process.terminate()
        self._process.join()
        self._process.close()
        self._answers.close()


def _serve(
    begin: Callable[[], Callable[[Any], Any]], items: Connection, answers: Connection
) -> None:
    """What a process that works for another one does, until that one has nothing more for it."""
    # Ctrl-C reaches all processes of a terminal: the one that is worked for decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    outgoing: SimpleQueue[tuple[bool, Any] | None] = SimpleQueue()
    with answers:
        try:
            work = begin()
        except DeeError:
            return
        # An answer may be larger than a pipe: the work goes on while it is taken in.
        sender = Thread(target=_send, args=(outgoing, answers))
        sender.start()
        with suppress(EOFError):
            while True:
                outgoing.put(_answer(work, items.recv()))
        outgoing.put(None)
        sender.join()


def _answer(work: Callable[[Item], Result], item: Item) -> tuple[bool, Result | None]:
    try:
        return True, work(item)
    except Exception:
        # It is done again by the one that is worked for, which then has the error at first hand.
        return False, None


def _send(outgoing: SimpleQueue[tuple[bool, Any] | None], answers: Connection) -> None:
    # Without its end there is nobody who waits.
    with answers, suppress(BrokenPipeError):
        while answer := outgoing.get():
            answers.send(answer)
