"""Work on many items shared among processes, in the order of the items and in flat memory."""

from __future__ import annotations

import multiprocessing
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
_AHEAD = 2
"""Items that wait for each process, so that none is ever idle."""
_MOST_KEPT = 4
"""Results for each process that wait for one before them."""

_TURN_S = 0.0002
"""How long this process works on before it takes in more of a result that is sent to it."""

_lock = threading.Lock()
_blocks: list[float] = []
"""One for each block of short turns under way: the interval before the first of them."""

_work: list[Callable[[Any], Any]] = []
"""In a process that works for another one: what it does with an item."""


def shared(
    begin: Callable[[], Callable[[Item], Result]], items: Iterable[Item], workers: int
) -> Iterator[Result]:
    """The results for the items. Each process calls `begin` once, and what it returns ever after.

    `begin` is a function of a module, or a `functools.partial` of one with plain arguments.
    """
    # Not forked: threads and connections of this process do not survive that.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _begin, (begin,)) as pool:
        under_way: deque[Future[Result]] = deque()
        for item in items:
            under_way.append(pool.submit(_do, item))
            if len(under_way) > _AHEAD * workers:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()


def helped(
    begin: Callable[[], Callable[[Item], Result]],
    here: Callable[[Item], Result],
    items: Iterable[Item],
    workers: int,
) -> Generator[Result, None, None]:
    """The results for the items, where this process is one of those that work: it does with an item
    what `here` does, while the others start and ever after. They are as those of `shared`."""
    context = multiprocessing.get_context("spawn")
    others = workers - 1
    with (
        _short_turns(),
        ProcessPoolExecutor(others, context, _begin, (begin,)) as pool,
    ):
        started = [pool.submit(_nothing) for _ in range(others)]
        results: deque[Future[Result]] = deque()
        for item in items:
            waiting = sum(not result.done() for result in results)
            ready = sum(each.done() for each in started)
            if waiting < _AHEAD * ready:
                results.append(pool.submit(_do, item))
            else:
                results.append(_done(here(item)))
            while results and (results[0].done() or len(results) > _MOST_KEPT * workers):
                yield results.popleft().result()
        while results:
            yield results.popleft().result()


@contextmanager
def _short_turns() -> Iterator[None]:
    """Let the thread that takes results in have its turn often: a result may be larger than a pipe,
    and its sender does nothing else until all of it was taken in. It holds for the whole process;
    blocks may overlap, and the last to end restores what was before the first."""
    with _lock:
        before = _blocks[0] if _blocks else sys.getswitchinterval()
        _blocks.append(before)
        sys.setswitchinterval(_TURN_S)
    try:
        yield
    finally:
        with _lock:
            _blocks.pop()
            if not _blocks:
                sys.setswitchinterval(before)


def _done(value: Result) -> Future[Result]:
    result: Future[Result] = Future()
    result.set_result(value)
    return result


def _nothing() -> None:
    """What a process is asked first, to see when it has begun."""


def _begin(begin: Callable[[], Callable[[Any], Any]]) -> None:
    _work.append(begin())


def _do(item: Any) -> Any:
    return _work[0](item)
