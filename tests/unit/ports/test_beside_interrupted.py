"""Whenever a thread is interrupted, what it has begun is seen through by its next wait at the
latest, and nothing of it is left."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import pytest

from dee_es.ports import beside
from tests.support.interruption import interrupted
from tests.unit.ports.test_beside import Line


class Scene:
    """A thread with two things to do beside its own: one in turn, with a lock, and one apart."""

    def __init__(self) -> None:
        self.lines = [Line() for _ in range(4)]
        self.first, self.second, self.apart, self.own = self.lines
        self.lock = threading.Lock()
        self.begun: list[beside.Begun[bytes]] = []
        self._later: list[threading.Timer] = []

    def begin(self) -> None:
        self.begun.append(beside.begin(lambda: beside.holding(self.lock, self._work)))
        self.begun.append(beside.begin(self.apart.ask, apart=True))

    def _work(self) -> bytes:
        return self.first.ask() + self.second.ask()

    def begin_behind_another(self) -> None:
        self.begun.append(beside.begin(self.own.ask))

    def wait_for_the_lock(self) -> None:
        self.lock.acquire()
        self.begin()
        self._later.append(threading.Timer(0.02, self.lock.release))

    def answer(self) -> None:
        self.begin()
        for line in self.lines:
            line.answer()

    def go_on(self) -> None:
        """From here on answers arrive."""
        self._later += [threading.Timer(0.01, each.answer) for each in self.lines]
        for each in self._later:
            each.start()

    def close(self) -> None:
        for each in self._later:
            each.join()
        for line in self.lines:
            line.close()


WAYS: Final[dict[str, tuple[Callable[[Scene], object], Callable[[Scene], object]]]] = {
    "wait": (Scene.begin, lambda scene: scene.begun[0].wait()),
    "wait for its lock": (Scene.wait_for_the_lock, lambda scene: scene.begun[0].wait()),
    "wait for another": (Scene.begin, lambda scene: scene.own.ask()),
    "look": (Scene.answer, lambda _: beside.go_on()),
    "begin": (lambda _: None, Scene.begin),
    "begin behind another": (Scene.begin_behind_another, Scene.begin),
    "hold": (lambda _: None, lambda scene: beside.holding(scene.lock, lambda: None)),
}
"""What comes before, and what is interrupted."""


def _interrupted(way: str, at: int) -> bool:
    """That is interrupted at its `at`-th chance; says whether there was that chance."""
    scene = Scene()
    before, does = WAYS[way]
    before(scene)
    scene.go_on()
    was = interrupted(beside.__file__, at, lambda: does(scene))
    outcomes = [each.exception() for each in scene.begun]
    assert sum(isinstance(each, KeyboardInterrupt) for each in outcomes) <= 1
    assert all(each is None or isinstance(each, KeyboardInterrupt) for each in outcomes)
    assert way.startswith("begin") or not scene.lock.locked()
    beside.finish()
    assert not scene.lock.locked()
    assert not beside.takes_turns()
    assert beside.begin(lambda: 42).done, "nothing stands before it"
    scene.close()
    beside._here._watch.ready()
    assert beside._here._watch.ready() == [], "it would never sleep again"
    return was


@pytest.mark.parametrize("way", WAYS)
def test_nothing_is_left_of_it(way: str) -> None:
    chances = 0
    # In a thread of its own, so that what might be left of it is in nobody's way.
    with ThreadPoolExecutor(1) as pool:
        while pool.submit(_interrupted, way, chances + 1).result():
            chances += 1
    assert chances > (5 if way == "hold" else 20)
