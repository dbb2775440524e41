"""The scheduler: from tick to tick, as long as any run is due."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Final

from dee_es.engine.interpreter import seldom_collected
from dee_es.engine.models import TickReport
from dee_es.engine.scheduling.dispatch import Dispatcher
from dee_es.engine.scheduling.leases import LeaseKeeper
from dee_es.engine.scheduling.outages import Outage
from dee_es.engine.scheduling.passes import Passes
from dee_es.engine.timekeeping import EngineClock
from dee_es.errors import ConcurrencyConflict, DeeError, InvalidInput, StoreUnavailable
from dee_es.ports import EventStore

POLL_S: Final = 0.5
"""How often a worker looks for runs that others made due, in wall seconds."""
_ANY_TICK: Final = 2**62

OnTick = Callable[[TickReport], None]


class Scheduler:
    """Advances runs. One scheduler at a time holds a database's lease."""

    def __init__(
        self,
        store: EventStore,
        passes: Passes,
        dispatcher: Dispatcher,
        clock: EngineClock,
        leases: LeaseKeeper,
    ) -> None:
        self._store = store
        self._passes = passes
        self._dispatcher = dispatcher
        self._clock = clock
        self._leases = leases
        self._busy = threading.RLock()

    @contextmanager
    def _working(self) -> Iterator[None]:
        """Hold the lease for as long as the block takes, and let go of it afterwards."""
        with self._busy, seldom_collected():
            self._passes.take_up_again()
            self._leases.start_renewing()
            try:
                yield
            finally:
                try:
                    # Whoever breaks it off: what is known of its sends belongs into the log. What
                    # cannot be recorded now is unknown to the next one at work.
                    with suppress(DeeError):
                        self._dispatcher.record_rest()
                finally:
                    self._leases.stop_renewing()
                    self._leases.release()

    # --- ticks ------------------------------------------------------------------------------------

    def tick(self) -> TickReport:
        """Do everything that is due in the present tick.

        Raises `ConcurrencyConflict` if another scheduler holds the database. A run that cannot be
        read or decided holds up nobody else: why it could not is raised when the others are done,
        here as in all that follows but `work`.
        """
        with self._working():
            report = self._passes.tick(self._clock.refresh())
            self._passes.tell_held_up()
            return report

    def advance(self, run_id: str, actor: str) -> TickReport:
        """Do what one run is due for in the present tick, and nothing else, in the actor's name.

        Raises `ConcurrencyConflict` if another scheduler holds the database.
        """
        with self._working():
            tick = self._clock.refresh()
            self._dispatcher.record_rest()
            report, moved = TickReport(tick), True
            while moved:
                head = list(self._store.heads([run_id]).values())
                done, moved = self._passes.once(tick, head, actor)
                report = report.plus(done)
            self._passes.tell_held_up()
            return report

    def run_until(self, tick: int, on_tick: OnTick | None = None) -> TickReport:
        """Process everything due up to and including `tick`.

        A manual clock jumps from due tick to due tick and ends at `tick`; with a system clock this
        takes as long as the time does. Raises `InvalidInput` for a tick that has passed, and for
        one beyond the year 9999: time never goes back, and nothing would have a date any more.
        """
        with self._working():
            now = self._clock.refresh()
            if tick < now:
                raise InvalidInput("tick", f"{tick} has passed; it is now tick {now}")
            if tick > self._clock.scale.last_tick:
                raise InvalidInput("tick", f"{tick} lies beyond the year 9999")
            report = self._drive(lambda: self._reach(tick, stays=True), on_tick)
            while not self._arrives(tick):
                pass
            self._passes.tell_held_up()
            return replace(report, tick=self._clock.now())

    def run_until_idle(self, on_tick: OnTick | None = None) -> TickReport:
        """Process everything until no run is due any more, as far ahead as the calendar goes."""
        with self._working():
            last = self._clock.scale.last_tick
            report = self._drive(lambda: self._reach(last), on_tick)
            self._passes.tell_held_up()
            return report

    def _reach(self, limit: int, stays: bool = False) -> bool:
        """Go to the next due tick within `limit`; False if there is none. Who `stays` finds that
        out at `limit`: until then others may make something due."""
        while True:
            due = self._next_due()
            if due is not None and due <= limit:
                goal = due
            elif stays:
                goal = limit
            else:
                return False
            if self._arrives(goal):
                return goal == due

    def _next_due(self) -> int | None:
        """The next tick at which something can be done."""
        held_up = self._passes.held_up
        if not held_up:
            return self._store.next_due(self._leases.partition)
        due = self._store.due(_ANY_TICK, len(held_up) + 1, self._leases.partition)
        return next((head.due_tick for head in due if head.stream_id not in held_up), None)

    def _drive(self, advance: Callable[[], bool], on_tick: OnTick | None) -> TickReport:
        total = TickReport(self._clock.now())
        stuck: int | None = None
        while advance():
            report = self._passes.tick(self._clock.now())
            total = total.plus(report)
            if on_tick is not None:
                on_tick(total)
            if report.events == 0 and stuck == report.tick:
                break
            # A tick without events can be due to a rival's open intent, or to what others recorded
            # at a later tick; one more look, then stop.
            stuck = report.tick if report.events == 0 else None
            if stuck is not None:
                self._clock.refresh()
        return total

    def _arrives(self, tick: int) -> bool:
        """Whether a tick is reached; a manual clock goes there, and for a system clock it is waited
        for a moment."""
        if self._clock.move_to(tick) >= tick:
            return True
        self._leases.require()
        threading.Event().wait(min(self._clock.seconds_until(tick) + 0.001, POLL_S))
        # Whoever asks looks first what has become due meanwhile.
        return False

    def work(
        self,
        stop: threading.Event,
        on_tick: OnTick | None = None,
        on_begin: Callable[[], object] | None = None,
        between: Callable[[], object] | None = None,
    ) -> TickReport:
        """Process what is due until `stop` is set; the tick under way is finished first.

        `between` is called after each tick, and may raise `StoreUnavailable`.

        While another worker holds the lease this one stands by. The database may go away and come
        back meanwhile.
        """
        total, outage = TickReport(self._clock.now()), Outage()
        with self._working():
            while not stop.is_set():
                try:
                    # What is known of own sends is recorded by right of evidence, lease or not.
                    self._dispatcher.record_rest()
                    if self._leases.acquire() is not None:
                        self._passes.take_up_again()
                        if on_begin is not None:
                            on_begin()
                        total = total.plus(self._passes.tick(self._clock.refresh()))
                        self._passes.tell_once()
                        if on_tick is not None:
                            on_tick(total)
                        if between is not None:
                            between()
                    outage.ends()
                except StoreUnavailable as error:
                    outage.goes_on(error)
                    self._leases.forget()
                except ConcurrencyConflict:
                    # The lease went to another worker in the middle of a tick.
                    self._leases.forget()
                stop.wait(POLL_S)
        return total
