"""How hard long work may work, so that those who wait for the database hardly notice it."""

from __future__ import annotations

import time
from typing import Final

from dee_es.core.values import is_number
from dee_es.errors import InvalidInput

_TURN_S: Final = 0.003
"""How long one piece of throttled work may take, about."""
_LEAST: Final = 20
_MOST_GROWTH: Final = 2


LEAST_SHARE: Final = 0.001


def check_share(field: str, value: object) -> float:
    """Return `value` if it is a share of the time that work gets done in."""
    if not is_number(value) or not LEAST_SHARE <= value <= 1:
        raise InvalidInput(field, f"must be a share of the time, {LEAST_SHARE} to 1")
    return value


class Pace:
    """Measures work in pieces and rests between them.

    `share` is the part of the time that is worked, 0.001 to 1. Below 1, pieces are kept
    short, since others may have to wait for one to end.
    """

    def __init__(self, share: float, page: int) -> None:
        self.share = check_share("throttle", share)
        self._most = page
        self.page = page if share == 1 else min(page, _LEAST)
        self.worked_s = 0.0
        self._began = time.perf_counter()

    @property
    def spares(self) -> bool:
        """Whether there are others for whom some of the time is left."""
        return self.share < 1

    def begin(self) -> None:
        """A piece of work begins."""
        self._began = time.perf_counter()

    def rest(self) -> None:
        """A piece of work, of at most `page` events, has ended: rest for as long as is due."""
        took = time.perf_counter() - self._began
        self.worked_s += took
        if self.share < 1:
            fitting = int(self.page * _TURN_S / max(took, 1e-6))
            most = min(self._most, self.page * _MOST_GROWTH)
            self.page = max(min(_LEAST, self._most), min(fitting, most))
            time.sleep(took * (1 / self.share - 1))
        self._began = time.perf_counter()
