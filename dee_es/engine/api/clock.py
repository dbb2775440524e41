"""Time: the present tick, and doing what is due."""

from __future__ import annotations

import threading
from collections.abc import Callable

from dee_es.core.clock import LogicalClock
from dee_es.engine.api.base import ApiBase
from dee_es.engine.auditing.signing import SignedCheckpoint
from dee_es.engine.models import TickReport
from dee_es.engine.scheduling.scheduler import OnTick
from dee_es.errors import InvalidInput

OnCheckpoint = Callable[[SignedCheckpoint], object]


class ClockApi(ApiBase):
    """The scheduler's doors."""

    def now(self) -> LogicalClock:
        """The present tick, with its scale."""
        return self.clock.reading()

    def tick(self) -> TickReport:
        """Do everything due in the present tick."""
        return self._scheduler.tick()

    def run_until(self, tick: int, on_tick: OnTick | None = None) -> TickReport:
        """Process everything due up to and including `tick`."""
        if isinstance(tick, bool) or not isinstance(tick, int):
            raise InvalidInput("tick", "must be a whole number of ticks")
        return self._scheduler.run_until(tick, on_tick)

    def run_until_idle(self, on_tick: OnTick | None = None) -> TickReport:
        """Process until no run is due any more."""
        return self._scheduler.run_until_idle(on_tick)

    def worker(
        self,
        stop: threading.Event | None = None,
        on_tick: OnTick | None = None,
        on_begin: Callable[[], object] | None = None,
        on_checkpoint: OnCheckpoint | None = None,
    ) -> TickReport:
        """Process what is due until `stop` is set; `on_begin` and `on_tick` frame each tick.

        Between ticks the log is signed whenever that is due, if there are places for checkpoints;
        `on_checkpoint` is told of each. What goes wrong with that never ends the worker.
        """

        def between() -> None:
            done = self._periodic_signing.attempt()
            if done is not None and on_checkpoint is not None:
                on_checkpoint(done)

        return self._scheduler.work(stop or threading.Event(), on_tick, on_begin, between)
