"""The clock of a PostgreSQL server."""

from __future__ import annotations

import time
from typing import Final

from dee_es.adapters.storage.postgres.database import PostgresDatabase

_NOW: Final = f"SELECT {PostgresDatabase.now_ms}"


class PostgresClock:
    """Implements `ServerClock`. It is never ahead of its server's by more than this machine's
    steady clock gains, and behind it by no more than the answer took."""

    def __init__(self, database: PostgresDatabase) -> None:
        self._database = database
        self._told = (0, 0)
        self.sync()

    def now_ms(self) -> int:
        """See `WallClock.now_ms`."""
        server, here = self._told
        return server + _steady_ms() - here

    def sync(self, unless_within_s: float = 0.0) -> None:
        """See `ServerClock.sync`."""
        if unless_within_s and _steady_ms() - self._told[1] < unless_within_s * 1000:
            return
        ((server,),) = self._database.query(_NOW)
        # In one step, for other threads.
        self._told = (server, _steady_ms())


def _steady_ms() -> int:
    """Time that nobody sets; where the system has such a clock, it goes on while it sleeps."""
    return time.clock_gettime_ns(_STEADY) // 1_000_000


_STEADY: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
