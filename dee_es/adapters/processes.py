"""Work on many items shared among processes, in the order of the items and in flat memory."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
_AHEAD = 2
"""Items that wait for each process, so that none is ever idle."""

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


def _begin(begin: Callable[[], Callable[[Any], Any]]) -> None:
    _work.append(begin())


def _do(item: Any) -> Any:
    return _work[0](item)
