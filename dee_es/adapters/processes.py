"""Work on many items shared among processes, in the order of the items and in flat memory."""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from contextlib import ExitStack, closing, suppress
from functools import cache, partial
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from operator import length_hint
from queue import SimpleQueue
from threading import Thread
from typing import Any, Final, Generic, TypeVar

from dee_es.errors import DeeError

Item = TypeVar("Item")
Result = TypeVar("Result")
Work = Callable[[Item], Result]
"""What is done with items, one after the other."""

_AHEAD: Final = 3
"""Items that a process has to do at most, so that it is never idle."""
_MOST_KEPT: Final = 8
"""Results for each process that wait for one before them; the first come while others start."""

# Not forked: threads and connections of this process do not survive that.
_SPAWNING: Final = multiprocessing.get_context("spawn")


def shared(
    begin: Callable[[], Work[Item, Result]],
    items: Iterable[Item | None],
    workers: int,
    here: Work[Item, Result] | None = None,
    instead: Work[Item, Result] | None = None,
) -> Generator[Result, None, None]:
    """The results for the items, worked on by so many processes; an error comes in its turn.

    Each of them calls `begin` once, a function of a module or a `functools.partial` of one with
    plain arguments, and what it returns for every item. With `here`, this process is one of them,
    which does that with an item whenever the others have enough; there must be two or more then.
    None among the items is none: what follows is begun when all before it is done.

    A process that cannot begin, fails or is killed costs time alone: this one does what it left,
    as `instead` has it, which must bear that the item was done and only the answer was lost.
    """
    instead = instead or here
    own = cache(begin) if instead is None else lambda: instead
    with ExitStack() as stack:
        others = workers if here is None else workers - 1
        helpers = [stack.enter_context(closing(_Helper(begin, own))) for _ in range(others)]
        under_way: deque[_Task[Item, Result]] = deque()
        coming = iter(items)
        for item in coming:
            while under_way and item is None:
                yield under_way.popleft().result()
            if item is None:
                continue
            helper = min(helpers, key=_Helper.owes)
            task = _Task(item, helper)
            under_way.append(task)
            # At the end nobody should wait for what another one still has ahead.
            if here is None or helper.owes() < min(_AHEAD, length_hint(coming, _AHEAD)):
                helper.give(task)
            else:
                task.do(here)
            for each in helpers:
                each.take_in()
            while under_way and (
                under_way[0].done()
                or len(under_way) > _MOST_KEPT * workers
                or (here is None and min(each.owes() for each in helpers) >= _AHEAD)
            ):
                yield under_way.popleft().result()
        # They may leave while the last results are taken in.
        for each in helpers:
            each.dismiss()
        while under_way:
            yield under_way.popleft().result()


class _Task(Generic[Item, Result]):
    """An item, and what comes of it."""

    def __init__(self, item: Item, helper: _Helper[Item, Result]) -> None:
        self.item = item
        self._helper = helper
        self._outcome: Future[Result] = Future()

    def do(self, work: Work[Item, Result]) -> None:
        """Have it worked on in this process."""
        _do(work, self.item, self._outcome)

    def end(self, result: Result) -> None:
        """It was worked on elsewhere."""
        self._outcome.set_result(result)

    def done(self) -> bool:
        """Whether the result can be had at once."""
        return self._outcome.done()

    def result(self) -> Result:
        """The result, once it is there."""
        while not self._outcome.done():
            self._helper.take_in(wait=True)
        return self._outcome.result()


def _do(work: Work[Item, Result], item: Item, outcome: Future[Result]) -> None:
    """Work on an item, and note what comes of it."""
    try:
        outcome.set_result(work(item))
    except Exception as error:
        outcome.set_exception(error)


class _Helper(Generic[Item, Result]):
    """A process that works on items in the order in which they are given to it.

    What it leaves undone is done by what `own` returns, in this process.
    """

    def __init__(
        self, begin: Callable[[], Work[Item, Result]], own: Callable[[], Work[Item, Result]]
    ) -> None:
        self._own = own
        self._owed: deque[_Task[Item, Result]] = deque()
        self._lost = False
        items, given = _SPAWNING.Pipe(duplex=False)
        self._answers, answers = _SPAWNING.Pipe(duplex=False)
        self._process = _SPAWNING.Process(target=_serve, args=(begin, items, answers), daemon=True)
        self._process.start()
        # That it is gone shows here only if nobody else holds its ends.
        items.close()
        answers.close()
        self._outgoing = _Outgoing(given)

    def owes(self) -> int:
        """How many items it has not answered."""
        return len(self._owed)

    def give(self, task: _Task[Item, Result]) -> None:
        """Have an item worked on; one that cannot be sent is worked on here."""
        try:
            message = ForkingPickler.dumps(task.item)
        except Exception:
            task.do(self._own())
            return
        self._outgoing.put(lambda: message)
        self._owed.append(task)
        self._make_up()

    def take_in(self, wait: bool = False) -> None:
        """Take in what it has answered; the next answer is waited for if that is asked."""
        try:
            while self._owed and not self._lost and (wait or self._answers.poll()):
                done, result = self._answers.recv()
                task = self._owed.popleft()
                if done:
                    task.end(result)
                else:
                    task.do(self._own())
                wait = False
        except (EOFError, OSError):
            self._lost = True
        self._make_up()

    def _make_up(self) -> None:
        """Do what it owes, if it is lost."""
        while self._lost and self._owed:
            self._owed.popleft().do(self._own())

    def dismiss(self) -> None:
        """No more items come: it leaves when it has answered."""
        self._outgoing.end()

    def close(self) -> None:
        """See it out; nobody waits for what it owes."""
        self.dismiss()
        if self._owed:
            self._process.terminate()
        self._process.join()
        self._process.close()
        self._outgoing.join()
        self._answers.close()


class _Outgoing:
    """Messages on their way to another process. They may be larger than a pipe, and not be there
    yet: it is a thread that waits."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._waiting: SimpleQueue[Callable[[], memoryview] | None] = SimpleQueue()
        self._thread = Thread(target=self._send, daemon=True)
        self._thread.start()

    def put(self, message: Callable[[], memoryview]) -> None:
        """Send what this returns, behind what is on its way already."""
        self._waiting.put(message)

    def end(self) -> None:
        """Nothing more comes."""
        self._waiting.put(None)

    def join(self) -> None:
        """Wait until all was taken in, or nobody is there who would."""
        self._thread.join()

    def _send(self) -> None:
        with self._connection, suppress(BrokenPipeError):
            while (message := self._waiting.get()) is not None:
                self._connection.send_bytes(message())


def _serve(begin: Callable[[], Work[Any, Any]], items: Connection, answers: Connection) -> None:
    """What a process that works for another one does, until that one has nothing more for it."""
    # Ctrl-C reaches all processes of a terminal: the one that is worked for decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    outgoing = _Outgoing(answers)
    with suppress(DeeError, EOFError):
        work = begin()
        while True:
            outcome: Future[Any] = Future()
            _do(work, items.recv(), outcome)
            outgoing.put(partial(_answer, outcome))
    outgoing.end()
    outgoing.join()


def _answer(outcome: Future[Any]) -> memoryview:
    """Whether an item was done, and its result."""
    try:
        return ForkingPickler.dumps((True, outcome.result()))
    except Exception:
        # It is done again by the one that is worked for, which then has the error at first hand.
        return ForkingPickler.dumps((False, None))
