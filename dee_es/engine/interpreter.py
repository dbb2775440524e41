"""How the interpreter is set while very many objects are made, and threads work beside each other.

The engine's objects make no cycles, so that nearly all of them go by reference counting. The
collector still looks through them once for every 700 that are made: a fifth of the time of a tick
or an enrolment went into that.

While one thread decides, another one has the database take in what was decided before. It needs the
interpreter a hundred times for some microseconds each, and has to wait for it each time as long as
the switch interval is: at the usual one, a tenth of the time of a tick or an enrolment.
"""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

_MADE: Final = 50_000
"""Objects between two looks; what lies about unseen meanwhile takes a few MiB."""
_INTERVAL_S: Final = 0.0005
"""How long a thread may keep the interpreter from others. Shorter ones cost more than they save."""


class _Settings(NamedTuple):
    thresholds: tuple[int, int, int]
    interval_s: float


_lock: Final = threading.Lock()
_blocks: Final[list[_Settings]] = []
"""One for each block under way: how things were set before the first of them."""


@contextmanager
def in_bulk() -> Iterator[None]:
    """While the block runs, the whole process collects less often and hands over sooner. Blocks may
    overlap, in threads too: the last to end restores what was before the first."""
    with _lock:
        now = _Settings(gc.get_threshold(), sys.getswitchinterval())
        before = _blocks[0] if _blocks else now
        _blocks.append(before)
        if 0 < before.thresholds[0] < _MADE:
            gc.set_threshold(_MADE, *before.thresholds[1:])
        _hand_over_after(min(before.interval_s, _INTERVAL_S))
    try:
        yield
    finally:
        with _lock:
            _blocks.pop()
            if not _blocks:
                gc.set_threshold(*before.thresholds)
                _hand_over_after(before.interval_s)


def _hand_over_after(interval_s: float) -> None:
    # It is cut to whole microseconds: what is told as 99 of them would be set to 98.
    sys.setswitchinterval(interval_s + 0.000_000_5)
