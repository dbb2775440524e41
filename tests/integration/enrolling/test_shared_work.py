"""Work that is shared among processes: in order, and whatever becomes of those that help."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from itertools import islice
from pathlib import Path

import pytest

from dee_es.adapters.processes import Work, shared
from dee_es.errors import StoreUnavailable
from tests.support.waiting import PATIENCE_S

Told = tuple[int, int]
"""An item, and the process that worked on it."""


def telling() -> Work[int, Told]:
    return lambda item: (item, os.getpid())


def failing_at(bad: int) -> Work[int, Told]:
    def work(item: int) -> Told:
        if item == bad:
            raise StoreUnavailable(f"item {item}")
        return item, os.getpid()

    return work


def unable(parent: int) -> Work[int, Told]:
    if os.getpid() != parent:
        raise StoreUnavailable("no more connections")
    return telling()


def dying_at(bad: int, parent: int) -> Work[int, Told]:
    def work(item: int) -> Told:
        if item == bad and os.getpid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
        return item, os.getpid()

    return work


def large() -> Work[int, bytes]:
    return lambda item: bytes([item]) * 3_000_000


def secretive(parent: int) -> Work[int, object]:
    return lambda item: item if os.getpid() == parent else lambda: item


def endless_after(first: int, finished: str) -> Work[int, int]:
    def work(item: int) -> int:
        if item > first:
            time.sleep(PATIENCE_S)
            Path(finished).touch()
        return item

    return work


@pytest.fixture(autouse=True)
def _nobody_is_left() -> Iterator[None]:
    yield
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("workers", [2, 3])
@pytest.mark.parametrize("count", [0, 1, 2, 200])
def test_results_come_in_order_from_this_process_and_others(workers: int, count: int) -> None:
    here = telling()
    told = list(shared(telling, range(count), workers, here))
    assert [item for item, _ in told] == list(range(count))
    if count == 1:
        assert told == [(0, os.getpid())]


def test_others_work_alone_where_this_process_does_not() -> None:
    told = list(shared(telling, iter(range(40)), 2))
    assert [item for item, _ in told] == list(range(40))
    assert os.getpid() not in {who for _, who in told}


@pytest.mark.parametrize("with_this_one", [True, False])
def test_an_error_comes_in_its_turn(with_this_one: bool) -> None:
    begin = partial(failing_at, 7)
    results = shared(begin, range(20), 2, begin() if with_this_one else None)
    with closing(results):
        assert [item for item, _ in islice(results, 7)] == list(range(7))
        with pytest.raises(StoreUnavailable, match="item 7"):
            next(results)


def test_who_cannot_begin_is_done_without() -> None:
    begin = partial(unable, os.getpid())
    for here in (telling(), None):
        told = list(shared(begin, range(30), 2, here))
        assert told == [(item, os.getpid()) for item in range(30)]


@pytest.mark.parametrize("with_this_one", [True, False])
def test_the_work_of_one_that_is_killed_is_done_here(with_this_one: bool) -> None:
    begin = partial(dying_at, 0, os.getpid())
    told = list(shared(begin, range(60), 2, begin() if with_this_one else None))
    assert [item for item, _ in told] == list(range(60))
    assert told[0] == (0, os.getpid())


def test_results_may_be_larger_than_a_pipe() -> None:
    for result, item in zip(shared(large, range(24), 2, large()), range(24), strict=True):
        assert result == bytes([item]) * 3_000_000


def test_what_cannot_be_sent_is_made_here() -> None:
    begin = partial(secretive, os.getpid())
    assert list(shared(begin, range(10), 2, begin())) == list(range(10))
    items = [0, threading.Lock(), 2]
    told = list(shared(telling, iter(items), 2, telling()))
    assert [item for item, _ in told] == items
    assert told[1][1] == os.getpid()


@pytest.mark.parametrize("with_this_one", [True, False])
def test_what_follows_a_barrier_is_begun_when_all_before_is_done(with_this_one: bool) -> None:
    done: list[int] = []

    def items() -> Iterator[int | None]:
        for item in range(60):
            if item % 7 == 0:
                yield None
                assert done == list(range(item))
            yield item
        yield None

    for item, _ in shared(telling, items(), 3, telling() if with_this_one else None):
        done.append(item)
    assert done == list(range(60))


def test_what_is_done_instead_may_differ() -> None:
    begin = partial(dying_at, 0, os.getpid())
    told = list(shared(begin, range(8), 2, begin(), lambda item: (-item, os.getpid())))
    assert [abs(item) for item, _ in told] == list(range(8))
    assert told[1] == (-1, os.getpid())


def test_nobody_waits_for_what_is_not_asked_for(tmp_path: Path) -> None:
    begin = partial(endless_after, 1, str(tmp_path / "finished"))
    with closing(shared(begin, range(10), 2)) as results:
        assert [next(results), next(results)] == [0, 1]
    assert not (tmp_path / "finished").exists()
