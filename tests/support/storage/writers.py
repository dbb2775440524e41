"""Writers for tests of concurrency, in threads or in processes of their own."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from time import monotonic
from typing import NamedTuple, TypeVar

from dee_es.ports import Committed, EventStore
from tests.support.storage.backends import Kind, open_at
from tests.support.storage.events import run, unit

ResultT = TypeVar("ResultT")
SHARED = "contact:shared"
"""A stream that all writers append to."""


class Write(NamedTuple):
    """One accepted commit: when it was asked for, when it was answered, and its last position."""

    began: float
    ended: float
    position: int


def write_much(store: EventStore, writer: int, commits: int) -> list[Write]:
    """Append runs of this writer's own, and now and then to the stream that all share."""
    chance = random.Random(writer)
    writes: list[Write] = []
    for number in range(commits):
        units = [
            unit(
                run(number * 3 + k, f"writer_{writer}"), 0, chance.randrange(1, 4), due_tick=number
            )
            for k in range(chance.randrange(1, 4))
        ]
        if chance.random() < 0.5:
            heads = store.heads([SHARED])
            units.append(unit(SHARED, heads[SHARED].version if heads else 0))
        began = monotonic()
        outcomes = store.commit(units)
        accepted = [o.position for o in outcomes if isinstance(o, Committed)]
        assert len(accepted) >= len(units) - 1, "only the shared stream can have moved"
        writes.append(Write(began, monotonic(), accepted[-1]))
    return writes


def _in_process(kind: Kind, address: str, writer: int, commits: int) -> list[Write]:
    store, _ = open_at(kind, address)
    try:
        return write_much(store, writer, commits)
    finally:
        store.close()


def in_processes(kind: Kind, address: str, writers: int, commits: int) -> list[list[Write]]:
    """`write_much` in processes that open the database themselves, all at once."""
    with ProcessPoolExecutor(writers, mp_context=get_context("spawn")) as pool:
        futures = [
            pool.submit(_in_process, kind, address, writer, commits) for writer in range(writers)
        ]
        return [future.result(120) for future in futures]


def in_threads(work: Callable[[int], ResultT], numbers: Iterable[int]) -> list[ResultT]:
    """`work` for each number at the same time; the first failure is raised."""
    numbers = list(numbers)
    with ThreadPoolExecutor(len(numbers)) as pool:
        return [future.result(120) for future in [pool.submit(work, n) for n in numbers]]
