"""How the interpreter is set while work in bulk is under way: for the whole process, until the last
of such blocks ends."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, Generic, TypeVar

_T = TypeVar("_T")

_MADE: Final = 50_000
"""Objects between two looks of the collector; what lies about meanwhile takes a few MiB."""
_INTERVAL_S: Final = 0.0005
"""How long a thread may keep the interpreter from others. Shorter ones cost more than they save."""


class _Setting(Generic[_T]):
    """A setting of the interpreter that blocks change. They may overlap, in threads too: the last
    to end restores what was before the first."""

    def __init__(self, read: Callable[[], _T], write: Callable[[_T], object]) -> None:
        self._read = read
        self._write = write
        self._lock = threading.Lock()
        self._before: list[_T] = []
        """One for each block under way: how it was set before the first of them."""

    @contextmanager
    def changed(self, change: Callable[[_T], _T]) -> Iterator[None]:
        """Have it as `change` makes it of what was before the first block."""
        with self._lock:
            before = self._before[0] if self._before else self._read()
            self._before.append(before)
            self._write(change(before))
        try:
            yield
        finally:
            with self._lock:
                self._before.pop()
                if not self._before:
                    self._write(before)


def _hand_over_after(interval_s: float) -> None:
    # It is cut to whole microseconds: what is told as 99 of them would be set to 98.
    sys.setswitchinterval(interval_s + 0.000_000_5)


_thresholds: Final = _Setting(gc.get_threshold, lambda given: gc.set_threshold(*given))
_interval: Final = _Setting(sys.getswitchinterval, _hand_over_after)


@contextmanager
def seldom_collected() -> Iterator[None]:
    """While the block runs, the garbage collector looks less often.

    The engine's objects make no cycles, so that nearly all of them go by reference counting. The
    collector still looks through them once for every 700 that are made: a fifth of the time of a
    tick or an enrolment went into that. Structs that are made by the thousand are hidden from it
    altogether (`gc=False`): they are frozen, so that none can hold what holds it.
    """

    def seldom(before: tuple[int, int, int]) -> tuple[int, int, int]:
        made, younger, older = before
        return (_MADE, younger, older) if 0 < made < _MADE else before

    with _thresholds.changed(seldom):
        yield


@contextmanager
def soon_handed_over() -> Iterator[None]:
    """While the block runs, a thread that wants the interpreter waits less for one that computes.

    While one thread decides, another one has the database take in what was decided before. It needs
    the interpreter a hundred times for some microseconds each, and has to wait for it each time as
    long as the switch interval is: at the usual one, a tenth of the time of a tick or an enrolment.
    """
    with _interval.changed(lambda before: min(before, _INTERVAL_S)):
        yield
