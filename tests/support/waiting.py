"""Waiting for what other threads and processes do."""

from __future__ import annotations

import time
from collections.abc import Callable

# Nothing takes as long by itself: a test that fails here has met a fault, not a slow machine.
PATIENCE_S = 60.0


def eventually(
    holds: Callable[[], bool], what: str | Callable[[], str] = "it did not come to pass"
) -> None:
    """Wait until something holds; looked at ever more rarely, down to every 50 ms.

    `what` is told if it never does: what was waited for, or what the others said meanwhile.
    """
    ends = time.monotonic() + PATIENCE_S
    pause = 0.0002
    while not holds():
        assert time.monotonic() < ends, what if isinstance(what, str) else what()
        time.sleep(pause)
        pause = min(pause * 2, 0.05)
