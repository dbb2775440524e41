"""Passes over the runs that are due in one tick: decide, commit, send, record what came of it."""

from __future__ import annotations

import logging
from collections.abc import Sequence, Set
from contextlib import suppress
from operator import attrgetter
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from dee_es.core import commands as c
from dee_es.core.events import StepDispatched
from dee_es.core.ids import CounterKey
from dee_es.core.runs.advance import may_send
from dee_es.engine.bisecting import bisected
from dee_es.engine.models import TickReport
from dee_es.engine.run_cache import LoadedRun
from dee_es.engine.scheduling.dispatch import Dispatcher
from dee_es.engine.scheduling.gatekeeping import Gatekeeper, Looked, added_by, counter_uses, guarded
from dee_es.engine.scheduling.leases import LeaseKeeper
from dee_es.engine.transact import Decided, Runs
from dee_es.errors import ConcurrencyConflict, DeeError, MasterKeyRotated, StoreUnavailable
from dee_es.ports import Committed, Conflict, Head, Lease, SuppressionGuard, Unit
from dee_es.ports.beside import Begun

_log: Final = logging.getLogger(__name__)
_run_id: Final = attrgetter("stream_id")


class _Pass(Struct):
    """Runs that were decided together, on their way into the log.

    `read` are the policy's counters that the decisions rest on, if anything else was under way.
    """

    tick: int
    lease: Lease
    decided: Sequence[Decided] = ()
    read: frozenset[CounterKey] = frozenset()
    commit: Begun[list[Committed | Conflict]] | None = None

    @property
    def units(self) -> list[Unit]:
        return [each.unit for each in self.decided]

    @property
    def run_ids(self) -> set[str]:
        return {each.after.state.run_id for each in self.decided}


class _Done(Struct, frozen=True):
    """What came of a pass: what was done, whether `all` of it is in the log, and the policy's
    counters to which its sends give anything back."""

    report: TickReport
    all: bool = True
    given_back: Set[CounterKey] = frozenset()

    def bears(self, following: _Pass | None) -> bool:
        """Whether what was decided as if all of it came about still holds."""
        return self.all and (following is None or self.given_back.isdisjoint(following.read))


class _Seen(Struct, frozen=True):
    """Runs as they were read, and what the gate may read about those that may send at the tick."""

    tick: int
    runs: Sequence[LoadedRun]
    looked: Looked


class Passes:
    """Advances runs in a tick, page by page.

    While the database takes in one page, the next is decided, without the runs that are under way
    and as if all that is under way came about. Where it does not, what was decided by that is
    dropped. So what is written, and in which order, does not depend on how long anything takes.
    """

    def __init__(
        self,
        runs: Runs,
        gatekeeper: Gatekeeper,
        dispatcher: Dispatcher,
        leases: LeaseKeeper,
        max_runs_per_tick: int,
    ) -> None:
        self._runs = runs
        self._gatekeeper = gatekeeper
        self._dispatcher = dispatcher
        self._leases = leases
        self._page = max_runs_per_tick
        self._ahead: _Pass | None = None
        self._last_chosen: Head | None = None
        self.held_up: dict[str, Exception] = {}
        self._told: frozenset[str] = frozenset()

    def take_up_again(self) -> None:
        """Forget which runs were put aside, to try each once more."""
        self.held_up = {}

    def tell_once(self) -> None:
        """Log no more of the runs that are put aside now, as long as they are."""
        self._told = frozenset(self.held_up)

    # --- one tick ---------------------------------------------------------------------------------

    def tick(self, tick: int) -> TickReport:
        """Do what is due at the tick."""
        self._dispatcher.record_rest()
        report, idle = TickReport(tick), set(self.held_up)
        self._last_chosen = None
        try:
            while True:
                # Before anything is under way: to renew it takes the lock that a commit holds.
                self._dispatcher.finish_recording()
                lease = self._leases.require()
                self._dispatcher.begin_recording()
                ahead = self._ahead.run_ids if self._ahead is not None else set()
                busy = self._dispatcher.recording | ahead
                chosen = self._choose(tick, idle | busy)
                if not chosen and not busy:
                    return report.plus(self._complete().report)
                following = self._decide_meanwhile(tick, chosen, lease)
                done = self._complete()
                report, sound = report.plus(done.report), done.bears(following)
                if not sound:
                    # Who was refused, or is decided anew, comes before all that are due later.
                    self._last_chosen = None
                if following is None:
                    following = self._decide_each(tick, chosen, lease)
                elif not sound:
                    continue
                if chosen:
                    idle |= {head.stream_id for head in chosen} - following.run_ids
                    self._ahead = following
                else:
                    self._dispatcher.record_rest()
        except Exception:
            # What is on its way into the log already is sent all the same.
            if self._ahead is not None and self._ahead.commit is not None:
                with suppress(DeeError):
                    self._complete()
            raise
        finally:
            self._leave()
            self._dispatcher.finish_recording()

    def once(self, tick: int, head: Sequence[Head], actor: str) -> tuple[TickReport, bool]:
        """Advance a run once, in the actor's name; says whether there was anything to do."""
        self._ahead = self._decide_each(tick, head, self._leases.require(), actor)
        moved = bool(self._ahead.decided)
        try:
            report = self._complete().report
        finally:
            self._leave()
        self._dispatcher.record_rest()
        return report, moved

    def _choose(self, tick: int, waiting: set[str]) -> list[Head]:
        """The heads of the next runs that are due, without those that have to wait; none if no
        other is due.

        They are taken from behind those that were chosen last, so that runs under way, which are
        due as long as that is not committed, are not read again and again. Behind the last of all
        it goes on with the first. Whether runs that wait are still found has no say in it: that
        depends on how fast the database is.
        """
        chosen: dict[str, Head] = {}
        after = self._last_chosen
        while True:
            due = self._runs.store.due(tick, self._page, self._leases.partition, after)
            chosen.update((head.stream_id, head) for head in due if head.stream_id not in waiting)
            if len(chosen) >= self._page:
                page = list(chosen.values())[: self._page]
                self._last_chosen = page[-1]
                return sorted(page, key=_run_id)
            if len(due) == self._page:
                after = due[-1]
            elif chosen or self._last_chosen is None:
                self._last_chosen = None
                return sorted(chosen.values(), key=_run_id)
            else:
                after = self._last_chosen = None

    # --- deciding ---------------------------------------------------------------------------------

    def _decide_meanwhile(self, tick: int, chosen: Sequence[Head], lease: Lease) -> _Pass | None:
        """What these runs do at the tick, decided while the pass ahead of them is committed; None
        if it cannot be told of all of them."""
        try:
            seen = self._read(tick, chosen)
            self._begin()
            return self._decided(seen, lease, None)
        except (ConcurrencyConflict, MasterKeyRotated, StoreUnavailable):
            raise
        except Exception:
            return None

    def _decide_each(
        self, tick: int, chosen: Sequence[Head], lease: Lease, actor: str | None = None
    ) -> _Pass:
        """What each of these runs does at the tick, with nothing under way; one for which that
        cannot be told is put aside, and holds up none of the others."""

        def decided(part: Sequence[Head]) -> _Pass:
            return self._decided(self._read(tick, part), lease, actor)

        parts = bisected(chosen, decided, self._put_aside, Exception)
        return _Pass(tick, lease, [each for part in parts for each in part.decided])

    def tell_held_up(self) -> None:
        """Raise why the first of the runs that were put aside was, in order of their ids."""
        if self.held_up:
            raise self.held_up[min(self.held_up)]

    def _put_aside(self, head: Head, error: Exception) -> None:
        run_id = head.stream_id
        self.held_up[run_id] = error
        if run_id not in self._told:
            told = {"run": run_id, "error": type(error).__name__}
            # What is raised on purpose holds nothing personal; of anything else nobody knows.
            why = {"problem": str(error)} if isinstance(error, DeeError) else {}
            _log.error("run_held_up", extra={**told, **why})

    def _read(self, tick: int, chosen: Sequence[Head]) -> _Seen:
        """All that is to be known of these runs at the tick, as if what is ahead came about."""
        loaded = self._runs.load_at(chosen)
        runs = [loaded[head.stream_id] for head in chosen if head.stream_id in loaded]
        # What others recorded of a run at a later tick comes before what it does: it waits for a
        # tick that is as late, since a run's own ticks never go back.
        runs = [run for run in runs if run.state.last_tick <= tick]
        asking = [run.state for run in runs if may_send(run.state, tick)]
        ahead = added_by(self._ahead.units) if self._ahead is not None else {}
        return _Seen(tick, runs, self._gatekeeper.look(asking, tick, ahead))

    def _decided(self, seen: _Seen, lease: Lease, actor: str | None) -> _Pass:
        """What each of the runs does at the tick; those that do nothing are left out."""
        tick = seen.tick
        meta = self._runs.meta("tick", f"tick_{tick}", tick=tick, actor=actor)
        found = iter(seen.looked.found)
        given: list[tuple[LoadedRun, c.RunCommand]] = []
        guards: list[SuppressionGuard | None] = []
        for run in seen.runs:
            state = run.state
            snapshots, guard = next(found) if may_send(state, tick) else ({}, None)
            # Its sender has gone: it had an earlier epoch, or was ours, and nothing is left to be
            # recorded of it.
            abandoned = state.intent is not None and state.intent.lease_epoch <= lease.epoch
            given.append((run, c.Advance(meta, snapshots, lease.epoch, abandoned)))
            guards.append(guard)
        pairs = zip(self._runs.decide_each(given), guards, strict=True)
        decided = [_guarded(each, guard) for each, guard in pairs if each is not None]
        return _Pass(tick, lease, decided, seen.looked.read)

    # --- committing and sending -------------------------------------------------------------------

    def _begin(self) -> None:
        """Have what is ahead committed while the caller goes on."""
        ahead = self._ahead
        if ahead is not None and ahead.commit is None:
            ahead.commit = self._runs.committer.begin(ahead.units, ahead.lease)

    def _complete(self) -> _Done:
        """Commit what is ahead and send its messages; what came of them is still to be recorded."""
        ahead = self._ahead
        if ahead is None:
            return _Done(TickReport(0))
        self._begin()
        assert ahead.commit is not None
        results = ahead.commit.result()
        done = [
            each
            for each, result in zip(ahead.decided, results, strict=True)
            if isinstance(result, Committed)
        ]
        self._runs.remember(each.after for each in done)
        # Only an intent of this very pass is sent; an older one may be somebody else's.
        sends = _sends(done)
        # In this order: at each moment one of the two knows that none of them has begun.
        self._dispatcher.take(sends)
        self._ahead = None
        outcomes = self._dispatcher.send(ahead.lease) if sends else []
        count = {
            status: sum(result.status == status for result in outcomes)
            for status in ("delivered", "pending", "failed", "unknown")
        }
        events = sum(len(each.events) for each in done) + len(outcomes)
        report = TickReport(ahead.tick, 1, len(done), events, **count)
        given_back = self._dispatcher.counters_given_back()
        return _Done(report, len(done) == len(ahead.decided), given_back)

    def _leave(self) -> None:
        """Whoever broke it off: none of the messages of what is ahead is sent, whether that is in
        the log or nobody knows."""
        ahead, self._ahead = self._ahead, None
        if ahead is None:
            return
        if ahead.commit is None or ahead.commit.exception() is not None:
            self._dispatcher.doubt(_sends(ahead.decided))
            return
        results = zip(ahead.decided, ahead.commit.result(), strict=True)
        done = [each for each, result in results if isinstance(result, Committed)]
        self._dispatcher.leave(_sends(done))


def _guarded(decided: Decided, guard: SuppressionGuard | None) -> Decided:
    """The decision, refused if what the gate was told has changed by the time it commits."""
    last = decided.events[-1]
    if guard is None:
        assert not isinstance(last, StepDispatched), "nothing is sent without asking the gate"
        return decided
    uses = counter_uses(last.counted) if isinstance(last, StepDispatched) else ()
    return replace(decided, unit=guarded(decided.unit, guard, uses))


def _sends(done: Sequence[Decided]) -> list[LoadedRun]:
    return [each.after for each in done if isinstance(each.events[-1], StepDispatched)]
