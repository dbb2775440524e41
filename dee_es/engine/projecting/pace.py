"""How hard long work may work, so that those who wait for the database hardly notice it."""

from __future__ import annotations

import time
from typing import Final

from dee_es.errors import InvalidInput

_TURN_S: Final = 0.003
"""How long one piece of throttled work may take, about."""
_LEAST: Final = 20
_MOST_GROWTH: Final = 2


class Pace:
    """Measures work in pieces and rests between them.

    `share` is the part of the time that is worked, above 0 and up to 1. Below 1, pieces are kept
    short, since others may have to wait for one to end.
    """

    def __init__(self, share: float, page: int) -> None:
        if not 0 < share <= 1:
            raise InvalidInput("throttle", "must be a share of the time above 0 and up to 1")
        self._share = share
        self._most = page
        self.page = page if share == 1 else min(page, _LEAST)
        self.worked_s = 0.0
        self._began = time.perf_counter()

    @property
    def spares(self) -> bool:
        """Whether there are others for whom some of the time is left."""
        return self._share < 1

    def begin(self) -> None:
        """A piece of work begins."""
        self._began = time.perf_counter()

    def rest(self) -> None:
        """A piece of work, of at most `page` events, has ended: rest for as long as is due."""
        took = time.perf_counter() - self._began
        self.worked_s += took
        if self._share < 1:
            fitting = int(self.page * _TURN_S / max(took, 1e-6))
            most = min(self._most, self.page * _MOST_GROWTH)
            self.page = max(min(_LEAST, self._most), min(fitting, most))
            time.sleep(took * (1 / self._share - 1))
        self._began = time.perf_counter()
