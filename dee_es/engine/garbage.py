"""Fewer looks of the garbage collector while very many objects are made.

The engine's objects make no cycles, so that nearly all of them go by reference counting. The
collector still looks through them once for every 700 that are made: a fifth of the time of a tick
or an enrolment went into that.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_MADE: Final = 50_000
"""Objects between two looks; what lies about unseen meanwhile takes a few MiB."""


_lock: Final = threading.Lock()
_blocks: Final[list[tuple[int, int, int]]] = []
"""One for each block under way: the thresholds before the first of them."""


@contextmanager
def seldom_collected() -> Iterator[None]:
    """While the block runs, the whole process collects less often. Blocks may overlap, in threads
    too: the last to end restores what was before the first."""
    with _lock:
        before = _blocks[0] if _blocks else gc.get_threshold()
        _blocks.append(before)
        if 0 < before[0] < _MADE:
            gc.set_threshold(_MADE, *before[1:])
    try:
        yield
    finally:
        with _lock:
            _blocks.pop()
            if not _blocks:
                gc.set_threshold(*before)
