"""The scheduler: passes over the runs that are due, until none is left in the tick."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

from dee_es.core import commands as c
from dee_es.engine.contacts import Contacts
from dee_es.engine.dispatch import Dispatcher
from dee_es.engine.models import TickReport
from dee_es.engine.timekeeping import EngineClock
from dee_es.engine.transact import LoadedRun, Runs
from dee_es.errors import ConcurrencyConflict, InvalidInput, StoreUnavailable
from dee_es.ports import Committed, IdSource, Lease, SuppressionGuard, Unit

PARTITION: Final = "0/1"
LEASE_MS: Final = 10_000
"""How long a holder that is not heard of keeps the others out."""
RENEW_S: Final = 2.0
POLL_S: Final = 0.5
"""How often a worker looks for runs that others made due, in wall seconds."""

OnTick = Callable[[TickReport], None]


class Scheduler:
    """Advances runs. One scheduler at a time holds a database's lease."""

    def __init__(
        self,
        runs: Runs,
        contacts: Contacts,
        dispatcher: Dispatcher,
        clock: EngineClock,
        ids: IdSource,
        max_runs_per_tick: int,
    ) -> None:
        self._runs = runs
        self._contacts = contacts
        self._dispatcher = dispatcher
        self._clock = clock
        self._ids = ids
        self._store = runs.store
        self._page = max_runs_per_tick
        self._owner: str | None = None
        self._lease: Lease | None = None
        self._renewed = 0.0
        self._busy = threading.RLock()

    # --- the lease --------------------------------------------------------------------------------

    def _acquire(self) -> Lease | None:
        if self._owner is None:
            self._owner = self._ids.command_id()
        now = time.monotonic()
        if self._lease is None or now - self._renewed >= RENEW_S:
            self._lease = self._store.acquire_lease(PARTITION, self._owner, LEASE_MS)
            self._renewed = now
        return self._lease

    def _require_lease(self) -> Lease:
        lease = self._acquire()
        if lease is None:
            raise ConcurrencyConflict(
                "another scheduler is at work on this database; stop it, or wait until its lease "
                f"of {LEASE_MS // 1000} s has run out"
            )
        return lease

    def release(self) -> None:
        """Let others schedule at once, instead of when the lease has run out."""
        with self._busy:
            if self._lease is not None:
                self._store.release_lease(self._lease)
                self._lease = None

    @contextmanager
    def _working(self) -> Iterator[None]:
        with self._busy:
            try:
                yield
            finally:
                self.release()

    # --- ticks ------------------------------------------------------------------------------------

    def tick(self) -> TickReport:
        """Do everything that is due in the present tick.

        Raises `ConcurrencyConflict` if another scheduler holds the database.
        """
        with self._working():
            return self._tick(self._clock.refresh())

    def run_until(self, tick: int, on_tick: OnTick | None = None) -> TickReport:
        """Process everything due up to and including `tick`.

        A manual clock jumps from due tick to due tick and ends at `tick`; with a system clock this
        takes as long as the time does. Raises `InvalidInput` for a tick that has passed.
        """
        with self._working():
            now = self._clock.refresh()
            if tick < now:
                raise InvalidInput("tick", f"{tick} has passed; it is now tick {now}")
            report = self._drive(lambda: self._reach(tick), on_tick)
            self._await(tick)
            return replace(report, tick=self._clock.now())

    def run_until_idle(self, on_tick: OnTick | None = None) -> TickReport:
        """Process everything until no run is due any more, however far ahead that is."""
        with self._working():
            return self._drive(lambda: self._reach(None), on_tick)

    def _reach(self, limit: int | None) -> bool:
        """Go to the next due tick within `limit`; False if there is none."""
        due = self._store.next_due()
        if due is None or (limit is not None and due > limit):
            return False
        self._await(due)
        return True

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
            # A tick without events can be due to a rival's open intent; one more look, then stop.
            stuck = report.tick if report.events == 0 else None
        return total

    def _await(self, tick: int) -> None:
        if self._clock.move_to(tick) >= tick:
            return
        waiting = threading.Event()
        while self._clock.now() < tick:
            self._require_lease()
            waiting.wait(min(self._clock.seconds_until(tick) + 0.001, RENEW_S))

    def work(self, stop: threading.Event, on_tick: OnTick | None = None) -> TickReport:
        """Process what is due until `stop` is set; the tick under way is finished first.

        While another worker holds the lease this one stands by. The database may go away and come
        back meanwhile.
        """
        total = TickReport(self._clock.now())
        with self._working():
            while not stop.is_set():
                try:
                    lease = self._acquire()
                    if lease is not None:
                        total = total.plus(self._tick(self._clock.refresh()))
                        if on_tick is not None:
                            on_tick(total)
                except StoreUnavailable:
                    self._lease = None
                except ConcurrencyConflict:
                    # The lease went to another worker in the middle of a tick; nothing was written.
                    self._lease = None
                stop.wait(POLL_S)
        return total

    # --- passes -----------------------------------------------------------------------------------

    def _tick(self, tick: int) -> TickReport:
        report = TickReport(tick)
        idle: set[str] = set()
        while True:
            lease = self._require_lease()
            due = self._store.due(tick, self._page + len(idle))
            chosen = sorted([run for run in due if run not in idle][: self._page])
            if not chosen:
                return report
            done, moved = self._pass(tick, chosen, lease)
            report = report.plus(done)
            idle |= set(chosen) - moved

    def _pass(self, tick: int, chosen: Sequence[str], lease: Lease) -> tuple[TickReport, set[str]]:
        """Advance these runs once; returns what was done, and the runs for which anything was."""
        epoch = self._store.log_head().suppression_epoch
        loaded = self._runs.load_many(chosen)
        runs = [loaded[run] for run in chosen if run in loaded]
        subjects = [self._subjects(run) for run in runs]
        snapshots = self._contacts.snapshots(subjects) if epoch else [None] * len(runs)
        meta = self._runs.meta("tick", f"tick_{tick}", tick=tick)
        units: list[Unit] = []
        after: list[LoadedRun] = []
        moved: set[str] = set()
        events = 0
        for run, about, snapshot in zip(runs, subjects, snapshots, strict=True):
            command = c.Advance(meta, lease_epoch=lease.epoch)
            if snapshot is not None or run.state.intent is not None:
                command = c.Advance(
                    meta,
                    snapshot or command.snapshot,
                    lease.epoch,
                    self._dispatcher.abandoned(run, lease),
                )
            decided = self._runs.decide(run, command, SuppressionGuard(about, epoch))
            if decided is None:
                continue
            units.append(decided[0])
            after.append(decided[1])
            moved.add(run.state.run_id)
        committed: list[LoadedRun] = []
        if units:
            results = self._runs.committer.commit(units, lease)
            for run, unit, result in zip(after, units, results, strict=True):
                if isinstance(result, Committed):
                    committed.append(run)
                    events += len(unit.appends[0].events)
            self._runs.remember(committed)
        sends = [run for run in committed if run.state.intent is not None]
        outcomes = self._dispatcher.send(sends, lease) if sends else []
        count = {
            status: sum(result.status == status for result in outcomes)
            for status in ("delivered", "pending", "failed", "unknown")
        }
        report = TickReport(tick, 1, len(committed), events + len(outcomes), **count)
        return report, moved

    def _subjects(self, run: LoadedRun) -> tuple[str, ...]:
        state = run.state
        return self._contacts.subjects(state.contact_id, state.contact.email, state.contact.phone)
