"""The engine's clock: ticks that never go back, from wall time or from whoever moves them."""

from __future__ import annotations

import threading
from datetime import datetime
from typing import Final, Literal

from dee_es.core.clock import LogicalClock, TimeScale
from dee_es.ports import EventStore, ServerClock, WallClock

_MS_PER_SECOND: Final = 1000
_LEVEL_S: Final = 60.0
"""How long a server's clock is taken to go as this machine's does."""


class EngineClock:
    """Gives the present tick.

    A system clock follows wall time, but never falls behind the highest tick ever stored. A manual
    clock stands still until it is moved. `server` is what tells wall time, if it is not this
    machine. Safe to share between threads.
    """

    def __init__(
        self,
        store: EventStore,
        wall: WallClock,
        scale: TimeScale,
        kind: Literal["system", "manual"],
        server: ServerClock | None = None,
    ) -> None:
        self.scale = scale
        self.kind = kind
        self._store = store
        self._wall = wall
        self._server = server
        self._tick = store.log_head().tick
        self._lock = threading.Lock()

    def now(self) -> int:
        """The present tick."""
        if self.kind == "system":
            elapsed = self._wall.now_ms() - int(self.scale.epoch.timestamp() * _MS_PER_SECOND)
            self._reach(elapsed // self.scale.resolution_ms)
        return self._tick

    def level(self) -> None:
        """Look at the server's clock, unless that was done within the last minute. Called where a
        command begins: later it may hold locks, and ask for nothing.

        Raises `StoreUnavailable`.
        """
        if self._server is not None:
            self._server.sync(_LEVEL_S)

    def refresh(self) -> int:
        """Take notice of ticks that other processes have stored, and of the server's clock; returns
        the present one. Raises `StoreUnavailable`."""
        if self._server is not None and self.kind == "system":
            self._server.sync()
        self._reach(self._store.log_head().tick)
        return self.now()

    def move_to(self, tick: int) -> int:
        """Move a manual clock forward, durably; a lower tick changes nothing."""
        if self.kind == "manual" and tick > self._tick:
            self._reach(self._store.advance_clock(tick))
        return self.now()

    def _reach(self, tick: int) -> None:
        """Go forward to a tick that was just read; another thread may be beyond it by now."""
        with self._lock:
            self._tick = max(self._tick, tick)

    def seconds_until(self, tick: int) -> float:
        """Wall seconds until `tick` begins, by the system clock; 0 if it has begun."""
        start_ms = int(self.scale.time(tick).timestamp() * _MS_PER_SECOND)
        return max(0.0, (start_ms - self._wall.now_ms()) / _MS_PER_SECOND)

    def behind_s(self) -> float:
        """By how many wall seconds a system clock would have to catch up with its own ticks; 0 if
        it is level."""
        if self.kind == "manual":
            return 0.0
        return self.seconds_until(self.now())

    def recorded_at(self) -> int:
        """Wall time in ms since 1970 UTC, for information."""
        return self._wall.now_ms()

    def reading(self) -> LogicalClock:
        """The present tick together with its scale."""
        return LogicalClock(self.now(), self.scale.resolution_ms, self.scale.epoch)

    def time(self, tick: int) -> datetime:
        """The UTC time of a tick."""
        return self.scale.time(tick)
