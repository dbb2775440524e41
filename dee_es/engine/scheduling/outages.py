"""How an outage of the database is told in the log: at once, each minute, and when it is over."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

from dee_es.errors import StoreUnavailable

_log: Final = logging.getLogger(__name__)
AGAIN_S: Final = 60.0
"""After so many seconds an outage is told once more: each look of a night would fill the log."""


class Outage:
    """What a worker says of a database that does not answer; `now` gives seconds of a clock that
    never goes back."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._since: float | None = None
        self._told = 0.0
        self._problem = ""

    def goes_on(self, error: StoreUnavailable) -> None:
        """Take note that there was no answer; told if it is news, or a minute after the last."""
        now, problem = self._now(), str(error)
        if self._since is None:
            self._since = now
        elif problem == self._problem and now - self._told < AGAIN_S:
            return
        self._told, self._problem = now, problem
        about = {"problem": problem, "for_s": round(now - self._since, 1)}
        _log.warning("database_unavailable", extra=about)

    def ends(self) -> None:
        """Take note that everything was answered."""
        if self._since is not None:
            _log.warning("database_back", extra={"after_s": round(self._now() - self._since, 1)})
            self._since = None
