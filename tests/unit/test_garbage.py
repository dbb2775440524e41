"""How often the collector looks, while work that makes many objects is under way."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator

import pytest

from dee_es.engine.garbage import seldom_collected


@pytest.fixture(autouse=True)
def ordinary() -> Iterator[tuple[int, int, int]]:
    before = gc.get_threshold()
    gc.set_threshold(700, 10, 10)
    yield (700, 10, 10)
    gc.set_threshold(*before)


def test_the_thresholds_are_restored_whatever_happens() -> None:
    seen = []

    @seldom_collected()
    def fail() -> None:
        seen.append(gc.get_threshold())
        raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert seen[0][0] > 10_000
    assert seen[0][1:] == (10, 10)
    assert gc.get_threshold() == (700, 10, 10)


def test_blocks_may_end_in_another_order() -> None:
    begun, end = threading.Event(), threading.Event()

    def other() -> None:
        with seldom_collected():
            begun.set()
            end.wait()

    thread = threading.Thread(target=other)
    with seldom_collected():
        thread.start()
        begun.wait()
    assert gc.get_threshold()[0] > 10_000
    end.set()
    thread.join()
    assert gc.get_threshold() == (700, 10, 10)


@pytest.mark.parametrize("given", [0, 1_000_000])
def test_who_collects_less_already_is_left_alone(given: int) -> None:
    gc.set_threshold(given, 10, 10)
    with seldom_collected():
        assert gc.get_threshold() == (given, 10, 10)
    assert gc.get_threshold() == (given, 10, 10)
