"""How the interpreter is set while work in bulk is under way: for the whole process, until the last
of such blocks ends."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_MADE: Final = 50_000
"""Objects between two looks of the collector; what lies about meanwhile takes a few MiB."""

_lock: Final = threading.Lock()
_before: Final[list[tuple[int, int, int]]] = []
"""One for each block under way: how it was set before the first of them. They may overlap, in
threads too: the last to end restores it."""


@contextmanager
def seldom_collected() -> Iterator[None]:
    """While the block runs, the garbage collector looks less often.

    The engine's objects make no cycles, so that nearly all of them go by reference counting. The
    collector still looks through them once for every 700 that are made: a fifth of the time of a
    tick or an enrolment went into that. Structs that are made by the thousand are hidden from it
    altogether (`gc=False`): they are frozen, or hold only what is, so that none can hold what holds
    it.
    """
    with _lock:
        before = _before[0] if _before else gc.get_threshold()
        _before.append(before)
        made, younger, older = before
        if 0 < made < _MADE:
            gc.set_threshold(_MADE, younger, older)
    try:
        yield
    finally:
        with _lock:
            _before.pop()
            if not _before:
                gc.set_threshold(*before)
