"""The scheduler: passes over the runs that are due, until none is left in the tick."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from operator import attrgetter
from typing import Final, NamedTuple

from dee_es.core import commands as c
from dee_es.core.events import Event, StepDispatched
from dee_es.core.runs.advance import may_send
from dee_es.engine.interpreter import seldom_collected, soon_handed_over
from dee_es.engine.models import TickReport
from dee_es.engine.scheduling.dispatch import Dispatcher
from dee_es.engine.scheduling.gatekeeping import Gatekeeper, counter_uses, guarded
from dee_es.engine.scheduling.leases import LeaseKeeper
from dee_es.engine.timekeeping import EngineClock
from dee_es.engine.transact import LoadedRun, Runs
from dee_es.errors import (
    ConcurrencyConflict,
    DeeError,
    InvalidInput,
    MasterKeyRotated,
    StoreUnavailable,
)
from dee_es.ports import Committed, Head, Lease, Unit

_log: Final = logging.getLogger(__name__)
POLL_S: Final = 0.5
"""How often a worker looks for runs that others made due, in wall seconds."""
_ANY_TICK: Final = 2**62

OnTick = Callable[[TickReport], None]


class Scheduler:
    """Advances runs. One scheduler at a time holds a database's lease."""

    def __init__(
        self,
        runs: Runs,
        gatekeeper: Gatekeeper,
        dispatcher: Dispatcher,
        clock: EngineClock,
        leases: LeaseKeeper,
        max_runs_per_tick: int,
    ) -> None:
        self._runs = runs
        self._gatekeeper = gatekeeper
        self._dispatcher = dispatcher
        self._clock = clock
        self._store = runs.store
        self._page = max_runs_per_tick
        self._leases = leases
        self._busy = threading.RLock()
        self._held_up: dict[str, Exception] = {}
        self._told: frozenset[str] = frozenset()

    @contextmanager
    def _working(self) -> Iterator[None]:
        """Hold the lease for as long as the block takes, and let go of it afterwards."""
        with self._busy, seldom_collected(), soon_handed_over():
            self._held_up = {}
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
            report = self._tick(self._clock.refresh())
            self._tell_held_up()
            return report

    def advance(self, run_id: str, actor: str) -> TickReport:
        """Do what one run is due for in the present tick, and nothing else, in the actor's name.

        Raises `ConcurrencyConflict` if another scheduler holds the database.
        """
        with self._working():
            tick = self._clock.refresh()
            self._dispatcher.record_rest()
            report, moved = TickReport(tick), {run_id}
            while moved:
                head = list(self._store.heads([run_id]).values())
                done, moved = self._pass(tick, head, self._leases.require(), actor)
                self._dispatcher.record_rest()
                report = report.plus(done)
            self._tell_held_up()
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
            report = self._drive(lambda: self._reach(tick), on_tick)
            self._await(tick)
            self._tell_held_up()
            return replace(report, tick=self._clock.now())

    def run_until_idle(self, on_tick: OnTick | None = None) -> TickReport:
        """Process everything until no run is due any more, as far ahead as the calendar goes."""
        with self._working():
            last = self._clock.scale.last_tick
            report = self._drive(lambda: self._reach(last), on_tick)
            self._tell_held_up()
            return report

    def _reach(self, limit: int) -> bool:
        """Go to the next due tick within `limit`; False if there is none."""
        due = self._next_due()
        if due is None or due > limit:
            return False
        self._await(due)
        return True

    def _next_due(self) -> int | None:
        """The next tick at which something can be done."""
        if not self._held_up:
            return self._store.next_due(self._leases.partition)
        due = self._store.due(_ANY_TICK, len(self._held_up) + 1, self._leases.partition)
        return next((head.due_tick for head in due if head.stream_id not in self._held_up), None)

    def _drive(self, advance: Callable[[], bool], on_tick: OnTick | None) -> TickReport:
        total = TickReport(self._clock.now())
        stuck: int | None = None
        while advance():
            report = self._tick(self._clock.now())
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

    def _await(self, tick: int) -> None:
        if self._clock.move_to(tick) >= tick:
            return
        waiting = threading.Event()
        while self._clock.now() < tick:
            self._leases.require()
            waiting.wait(min(self._clock.seconds_until(tick) + 0.001, POLL_S))

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
        total = TickReport(self._clock.now())
        with self._working():
            while not stop.is_set():
                try:
                    # What is known of own sends is recorded by right of evidence, lease or not.
                    self._dispatcher.record_rest()
                    if self._leases.acquire() is not None:
                        self._held_up = {}
                        if on_begin is not None:
                            on_begin()
                        total = total.plus(self._tick(self._clock.refresh()))
                        self._told = frozenset(self._held_up)
                        if on_tick is not None:
                            on_tick(total)
                        if between is not None:
                            between()
                except StoreUnavailable as error:
                    _log.warning("database_unavailable", extra={"problem": str(error)})
                    self._leases.forget()
                except ConcurrencyConflict:
                    # The lease went to another worker in the middle of a tick.
                    self._leases.forget()
                stop.wait(POLL_S)
        return total

    # --- passes -----------------------------------------------------------------------------------

    def _tick(self, tick: int) -> TickReport:
        """Do what is due at the tick, page by page.

        While the database takes in what came of a page's sends, the next page is decided, without
        the runs that are under way: in what order entries are written does not depend on how long
        anything takes.
        """
        self._dispatcher.record_rest()
        report, idle = TickReport(tick), set(self._held_up)
        try:
            while True:
                lease = self._leases.require()
                busy = self._dispatcher.recording
                looked = self._page + len(idle) + len(busy)
                due = self._store.due(tick, looked, self._leases.partition)
                waiting = idle | busy
                chosen = [head for head in due if head.stream_id not in waiting]
                if chosen:
                    chosen = sorted(chosen[: self._page], key=_run_id)
                    done, moved = self._pass(tick, chosen, lease)
                    report = report.plus(done)
                    idle |= {head.stream_id for head in chosen} - moved
                elif busy:
                    self._dispatcher.record_rest()
                else:
                    return report
        finally:
            self._dispatcher.finish_recording()

    def _pass(
        self, tick: int, chosen: Sequence[Head], lease: Lease, actor: str | None = None
    ) -> tuple[TickReport, set[str]]:
        """Advance these runs once; returns what was done, and the runs for which anything was.

        What came of their sends is still being recorded then. What a scheduler does by itself has
        no actor: it is no person.
        """
        decided = self._decide_each(tick, chosen, lease, actor)
        self._dispatcher.record_rest()
        if not decided:
            return TickReport(tick, 1), set()
        results = self._runs.committer.commit([each.unit for each in decided], lease)
        done = [
            each
            for each, result in zip(decided, results, strict=True)
            if isinstance(result, Committed)
        ]
        self._runs.remember(each.after for each in done)
        # Only an intent of this very pass is sent; an older one may be somebody else's.
        sends = [each.after for each in done if isinstance(each.events[-1], StepDispatched)]
        outcomes = self._dispatcher.send(sends, lease) if sends else []
        self._dispatcher.begin_recording()
        count = {
            status: sum(result.status == status for result in outcomes)
            for status in ("delivered", "pending", "failed", "unknown")
        }
        events = sum(len(each.events) for each in done) + len(outcomes)
        moved = {each.after.state.run_id for each in decided}
        return TickReport(tick, 1, len(done), events, **count), moved

    def _decide_each(
        self, tick: int, chosen: Sequence[Head], lease: Lease, actor: str | None
    ) -> list[_Decided]:
        """What each of these runs does at the tick; one for which that cannot be told is put aside,
        and holds up none of the others."""
        try:
            loaded = self._runs.load_at(chosen)
            runs = [loaded[head.stream_id] for head in chosen if head.stream_id in loaded]
            # What others recorded of a run at a later tick comes before what it does: it waits for
            # a tick that is as late, since a run's own ticks never go back.
            runs = [run for run in runs if run.state.last_tick <= tick]
            return self._decide(tick, runs, lease, actor)
        except (ConcurrencyConflict, MasterKeyRotated, StoreUnavailable):
            raise
        except Exception as error:
            if len(chosen) == 1:
                self._put_aside(chosen[0].stream_id, error)
                return []
        half = len(chosen) // 2
        parts = (chosen[:half], chosen[half:])
        return [each for part in parts for each in self._decide_each(tick, part, lease, actor)]

    def _put_aside(self, run_id: str, error: Exception) -> None:
        self._held_up[run_id] = error
        if run_id not in self._told:
            _log.error("run_held_up", extra={"run": run_id, "error": type(error).__name__})

    def _tell_held_up(self) -> None:
        """Raise why the first of the runs that were put aside was, in order of their ids."""
        if self._held_up:
            raise self._held_up[min(self._held_up)]

    def _decide(
        self, tick: int, runs: Sequence[LoadedRun], lease: Lease, actor: str | None
    ) -> list[_Decided]:
        """What each run does at the tick; runs that do nothing are left out."""
        meta = self._runs.meta("tick", f"tick_{tick}", tick=tick, actor=actor)
        asking = [run.state for run in runs if may_send(run.state, tick)]
        seen = iter(self._gatekeeper.look(asking, tick))
        decided = []
        for run in runs:
            state = run.state
            snapshots, guard = next(seen) if may_send(state, tick) else ({}, None)
            abandoned = state.intent is not None and self._dispatcher.abandoned(run, lease)
            command = c.Advance(meta, snapshots, lease.epoch, abandoned)
            decision = self._runs.decide(run, command)
            if decision is None:
                continue
            unit, after, events = decision
            last = events[-1]
            if isinstance(last, StepDispatched):
                assert guard is not None, "nothing is sent that the gate was not asked about"
                unit = guarded(unit, guard, counter_uses(last.counted))
            elif guard is not None:
                unit = guarded(unit, guard, ())
            decided.append(_Decided(unit, after, events))
        return decided


_run_id: Final = attrgetter("stream_id")


class _Decided(NamedTuple):
    """A run's part of a pass: what to commit, and what it comes to."""

    unit: Unit
    after: LoadedRun
    events: list[Event]
