"""Times calls that each commit something: one after the other, and from several threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Final

Opened = Callable[[range], AbstractContextManager[Callable[[int], object]]]
"""Makes ready for the calls of these numbers, in the thread that is to make them."""
_READY_S: Final = 60.0
"""How long any of the threads may take to make ready."""


def latencies(opened: Opened, first: int, count: int) -> list[float]:
    """What each of so many calls takes in ms, one after the other."""
    numbers = range(first, first + count)
    times = []
    with opened(numbers) as call:
        for n in numbers:
            start = time.perf_counter()
            call(n)
            times.append((time.perf_counter() - start) * 1000)
    return times


def together(opened: Opened, first: int, count: int, threads: int) -> float:
    """Calls a second from several threads, each of which makes its share of them."""
    share = count // threads
    ready = threading.Barrier(threads + 1)

    def work(numbers: range) -> None:
        with opened(numbers) as call:
            ready.wait()
            for n in numbers:
                call(n)

    starts = range(first, first + share * threads, share)
    with ThreadPoolExecutor(threads) as pool:
        works = [pool.submit(work, range(n, n + share)) for n in starts]
        ready.wait(_READY_S)
        start = time.perf_counter()
        for each in works:
            each.result()
        return share * threads / (time.perf_counter() - start)
