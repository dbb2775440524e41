"""Sends what was decided: intents first, then the channel, then the outcomes.

An intent is committed before the channel is touched and the outcome after, each for a whole batch
of runs in one transaction; the channel is called outside of any.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import chain
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from dee_es.core import commands as c
from dee_es.core import events as e
from dee_es.core.ids import CounterKey, outcome_id
from dee_es.core.runs.state import Intent
from dee_es.engine.bisecting import bisected
from dee_es.engine.links import Links
from dee_es.engine.log.committing import Proposal
from dee_es.engine.log.settling import ATTEMPTS
from dee_es.engine.run_cache import LoadedRun
from dee_es.engine.scheduling.answers import INTERRUPTED, NOT_BEGUN
from dee_es.engine.scheduling.attempts import Attempts, intent_of
from dee_es.engine.scheduling.gatekeeping import given_back
from dee_es.engine.scheduling.leases import LeaseKeeper
from dee_es.engine.transact import Decided, Runs
from dee_es.errors import (
    ConcurrencyConflict,
    DeeError,
    RunNotFound,
)
from dee_es.ports import (
    Channel,
    ChannelResult,
    Committed,
    Conflict,
    Lease,
    Unit,
)
from dee_es.ports.beside import Begun

_log: Final = logging.getLogger(__name__)
_Attempt = tuple[str, int, int]
"""Its key and its number, and the epoch of who makes it: nobody else's is taken for our own."""


class _Outcome(Struct):
    """What is known of an attempt, with its run as last loaded."""

    run: LoadedRun
    intent: Intent
    result: ChannelResult


class _Sending(Struct, frozen=True):
    """Runs whose attempts are made: those that have not begun, and what came of the others, each in
    its place."""

    runs: Sequence[LoadedRun]
    waiting: deque[tuple[int, LoadedRun]]
    results: list[ChannelResult | None]


class _Known(Struct, frozen=True):
    """What to commit so that outcomes are recorded, and the runs after it."""

    units: list[Unit]
    decided: list[tuple[_Outcome, LoadedRun]]


class Dispatcher:
    """Hands committed intents to channels and records what came of them."""

    def __init__(
        self,
        runs: Runs,
        channels: Mapping[str, Channel],
        leases: LeaseKeeper,
        max_concurrent_sends: int,
        links: Links | None = None,
    ) -> None:
        self._runs = runs
        self._attempts = Attempts(runs.definitions, channels, links)
        self._leases = leases
        self._limit = max_concurrent_sends
        self._pool: ThreadPoolExecutor | None = None
        self._sending: _Sending | None = None
        self._unrecorded: dict[str, _Outcome] = {}
        self._doubted: dict[str, _Attempt] = {}
        self._refused = False
        self._recording: tuple[_Known, Begun[list[Committed | Conflict]]] | None = None

    def take(self, runs: Sequence[LoadedRun]) -> None:
        """Take these over, whose intents are committed: whoever interrupts it from here on, what is
        known of each is recorded."""
        self._sending = _Sending(runs, deque(enumerate(runs)), [None] * len(runs))

    def send(self, lease: Lease) -> list[ChannelResult]:
        """Make the attempts whose intents those runs hold that were taken.

        What came of them is still to be recorded, by `begin_recording` or `record_rest`.
        """
        sending = self._sending
        assert sending is not None, "what is sent was taken over first"
        try:
            self._attempt_all(sending, lease)
        finally:
            self._note_sent()
        return [result for result in sending.results if result is not None]

    def _note_sent(self) -> None:
        """Keep what is known of the attempts until it is recorded; once more does no harm, if this
        was interrupted."""
        sending = self._sending
        if sending is None:
            return
        # All are known by now, unless they were interrupted, as by Ctrl-C: then those that had not
        # begun are told so, and those that were under way are abandoned.
        # Threads may still take from what is left, so it is empty when that is said.
        with suppress(IndexError):
            while True:
                place, _ = sending.waiting.popleft()
                sending.results[place] = INTERRUPTED
        self._note(sending.runs, sending.results)
        self._sending = None

    def _note(self, runs: Sequence[LoadedRun], results: Sequence[ChannelResult | None]) -> None:
        """Keep what is known until it is recorded, in the order of the runs."""
        for run, result in zip(runs, results, strict=True):
            if result is not None:
                self._unrecorded[run.state.run_id] = _Outcome(run, intent_of(run), result)

    def leave(self, runs: Sequence[LoadedRun]) -> None:
        """Make no attempt for these intents: it was broken off before any began, and that is what
        is still to be recorded of them."""
        self._note(runs, [INTERRUPTED] * len(runs))

    def doubt(self, runs: Sequence[LoadedRun]) -> None:
        """The same for intents of which nobody was told whether they are in the log; `record_rest`
        finds that out first."""
        self._doubted.update((run.state.run_id, _attempt_of(intent_of(run))) for run in runs)

    def counters_given_back(self) -> set[CounterKey]:
        """The policy's counters to which what is known and not recorded yet gives anything back."""
        return {
            (use.key, use.slot)
            for outcome in self._unrecorded.values()
            for use in given_back(outcome.intent.counted, outcome.result)
        }

    @property
    def recording(self) -> Set[str]:
        """The runs whose outcomes are being recorded: nothing else is decided for them yet."""
        if self._recording is None:
            return frozenset()
        known, _ = self._recording
        return {after.state.run_id for _, after in known.decided}

    def begin_recording(self) -> None:
        """Have the outcomes that are known recorded while the caller goes on."""
        self.finish_recording()
        if self._refused:
            self.record_rest()
        known = self._outcomes()
        if not known.units:
            return
        self._recording = known, self._runs.committer.begin(known.units)
        if any(unit.counters for unit in known.units):
            # What they give back to the policy's counters is to be found by the caller's next look,
            # however long this takes, and whatever happened to their runs meanwhile.
            self.record_rest()

    def finish_recording(self) -> None:
        """Wait for what was begun; what it could not record is left to `record_rest`."""
        if self._recording is None:
            return
        known, under_way = self._recording
        if under_way.exception() is None:
            self._recorded(known, under_way.result())
            self._refused = any(isinstance(each, Conflict) for each in under_way.result())
        self._recording = None

    def record_rest(self) -> None:
        """Record the outcomes that are known and not recorded yet, whatever happened to their runs
        meanwhile. Raises `StoreUnavailable` while the database is away; nothing is lost by that."""
        self.finish_recording()
        self._note_sent()
        self._refused = False
        if self._doubted:
            self._leave_doubted()
        for _ in range(ATTEMPTS):
            if not self._unrecorded:
                return
            known = self._outcomes()
            if known.units:
                self._recorded(known, self._runs.committer.commit(known.units))
            if self._unrecorded:
                # Somebody paused or cancelled a run while its message was under way.
                self._load_again()
        if self._unrecorded:
            raise ConcurrencyConflict(f"{len(self._unrecorded)} outcomes could not be recorded yet")

    def close(self) -> None:
        """Wait for sends under way."""
        if self._pool is not None:
            self._pool.shutdown()

    # --- one attempt ------------------------------------------------------------------------------

    def _attempt_all(self, sending: _Sending, lease: Lease) -> None:
        """Make the attempts that are waiting, and put what came of each into its place."""
        waiting, results = sending.waiting, sending.results

        def work() -> None:
            # A thread takes the next run when it is done with one: to hand over each by itself
            # takes longer than a quick channel does.
            while True:
                try:
                    place, run = waiting.popleft()
                except IndexError:
                    return
                results[place] = self._attempt(run, lease)

        if self._limit == 1 or len(waiting) == 1:
            work()
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._limit, "dee-send")
        for thread in [self._pool.submit(work) for _ in range(min(self._limit, len(waiting)))]:
            thread.result()

    def _attempt(self, run: LoadedRun, lease: Lease) -> ChannelResult:
        return self._attempts.make(run) if self._leases.still(lease) else NOT_BEGUN

    # --- outcomes ---------------------------------------------------------------------------------

    def _outcomes(self) -> _Known:
        """All that is known and not recorded yet, ready to commit."""
        units: list[Unit] = []
        decided: list[tuple[_Outcome, LoadedRun]] = []
        known = list(self._unrecorded.values())
        parts = bisected(known, self._decisions, self._give_up, Exception)
        for outcome, decision in chain.from_iterable(parts):
            if decision is None:
                # The run knows this outcome, or has no use for it any more.
                self._settled([outcome])
                continue
            counters = given_back(outcome.intent.counted, outcome.result)
            unit = decision.unit
            units.append(replace(unit, counters=counters) if counters else unit)
            decided.append((outcome, decision.after))
        return _Known(units, decided)

    def _decisions(self, outcomes: Sequence[_Outcome]) -> list[tuple[_Outcome, Decided | None]]:
        """What outcomes lead to."""
        given = [(outcome.run, self._command(outcome)) for outcome in outcomes]
        return list(zip(outcomes, self._runs.decide_each(given), strict=True))

    def _leave_doubted(self) -> None:
        """Leave those of the intents in doubt that are in the log; the others never will be."""
        # Behind a commit that goes on although it was given up.
        self._runs.committer.decide(Proposal((), (), lambda _: ()))
        found = self._runs.load_readable(list(self._doubted), lambda *_: None)
        known = [(found[each], attempt) for each, attempt in self._doubted.items() if each in found]
        self.leave([run for run, attempt in known if _intends(run, attempt)])
        self._doubted = {}

    def _load_again(self) -> None:
        """Take the runs of what is yet to be recorded as they are now."""
        unread: dict[str, DeeError] = {}
        found = self._runs.load_readable(list(self._unrecorded), unread.__setitem__)
        for run_id, outcome in list(self._unrecorded.items()):
            if run_id in found:
                outcome.run = found[run_id]
            else:
                self._give_up(outcome, unread.get(run_id) or RunNotFound.named(run_id))

    def _give_up(self, outcome: _Outcome, error: Exception) -> None:
        """An outcome that cannot be recorded must not keep the others off the log. Its intent stays
        without one, and is abandoned: its run fails closed, if it can be read at all."""
        about = {"run": outcome.run.state.run_id, "step": outcome.intent.step_id}
        _log.error("outcome_not_recorded", extra={**about, "error": type(error).__name__})
        self._settled([outcome])

    def _recorded(self, known: _Known, results: Sequence[Committed | Conflict]) -> None:
        """Note which of them were committed; the others are still to be recorded."""
        done = [
            pair
            for pair, result in zip(known.decided, results, strict=True)
            if isinstance(result, Committed)
        ]
        self._runs.remember([after for _, after in done])
        self._settled([outcome for outcome, _ in done])

    def _settled(self, outcomes: Sequence[_Outcome]) -> None:
        """Keep these no longer; once more does no harm, if this was interrupted."""
        for outcome in outcomes:
            self._unrecorded.pop(outcome.run.state.run_id, None)

    def _command(self, outcome: _Outcome) -> c.RecordResult:
        intent, result = outcome.intent, outcome.result
        # It carries the tick of the dispatch, or of what has happened to the run since.
        command_id = outcome_id(intent.key, intent.attempt)
        meta = self._runs.meta("result", command_id, tick=outcome.run.state.last_tick)
        return c.RecordResult(
            meta,
            intent.key,
            intent.attempt,
            result.status,
            result.message_id,
            result.error,
            result.retryable,
            e.Detail(dict(result.detail)) if result.detail else None,
            result.ours,
        )


def _attempt_of(intent: Intent) -> _Attempt:
    return intent.key, intent.attempt, intent.lease_epoch


def _intends(run: LoadedRun, attempt: _Attempt) -> bool:
    return run.state.intent is not None and _attempt_of(run.state.intent) == attempt
