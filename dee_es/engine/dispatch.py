"""Sends what was decided: intents first, then the channel, then the outcomes.

An intent is committed before the channel is touched and the outcome after, each for a whole batch
of runs in one transaction; the channel is called outside of any.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from dee_es.core import commands as c
from dee_es.core import events as e
from dee_es.engine.transact import MAX_ATTEMPTS, LoadedRun, Runs
from dee_es.errors import ChannelFailed, ConcurrencyConflict
from dee_es.ports import Action, Channel, ChannelResult, Committed, Lease, SendContext, Unit

NO_SENDER: Final = "noreply@localhost"
"""The From address when no sender has been published."""


class Dispatcher:
    """Hands committed intents to channels and records what came of them."""

    def __init__(
        self, runs: Runs, channels: Mapping[str, Channel], max_concurrent_sends: int
    ) -> None:
        self._runs = runs
        self._channels = channels
        self._limit = max_concurrent_sends
        self._in_flight: set[tuple[str, int]] = set()

    def abandoned(self, loaded: LoadedRun, lease: Lease) -> bool:
        """Whether a run's intent has no sender any more: neither an earlier holder's, which a new
        lease epoch ends, nor one of ours that is being sent right now."""
        intent = loaded.state.intent
        if intent is None or intent.lease_epoch > lease.epoch:
            return False
        return (intent.key, intent.attempt) not in self._in_flight

    def send(self, runs: Sequence[LoadedRun], lease: Lease) -> list[ChannelResult]:
        """Make the attempts whose intents these runs hold, and record each outcome.

        Every outcome is recorded, whatever happened to its run meanwhile.
        """
        intents = {(i.key, i.attempt) for run in runs if (i := run.state.intent) is not None}
        self._in_flight |= intents
        try:
            if self._limit > 1 and len(runs) > 1:
                with ThreadPoolExecutor(min(self._limit, len(runs)), "dee-send") as pool:
                    results = list(pool.map(self._attempt, runs))
            else:
                results = [self._attempt(run) for run in runs]
            self._record(runs, results)
        finally:
            self._in_flight -= intents
        return results

    def _attempt(self, run: LoadedRun) -> ChannelResult:
        state, intent = run.state, run.state.intent
        assert intent is not None, "only a run with an intent is sent"
        if intent.message is None:
            return ChannelResult("failed", error="the contact was erased")
        channel = self._channels.get(intent.channel)
        if channel is None:
            return ChannelResult("failed", error=f"no channel serves {intent.channel!r}")
        action = Action(
            state.run_id, intent.step_id, intent.channel, intent.key, intent.attempt, intent.message
        )
        try:
            return channel.send(action, self._context(run))
        except ChannelFailed as error:
            # The channel says that it could not even begin.
            return ChannelResult("failed", error=str(error))
        except Exception as error:
            # Anything else may have happened after the message left: fail closed.
            return ChannelResult("unknown", error=f"the channel raised {type(error).__name__}")

    def _context(self, run: LoadedRun) -> SendContext:
        state = run.state
        materials = self._runs.definitions.materials(state.plan_id, state.plan_version, state.pins)
        sender: Mapping[str, Any] = materials.sender or {}
        return SendContext(
            sender_address=sender.get("address", NO_SENDER),
            sender_name=sender.get("name"),
            postal_address=sender.get("postalAddress"),
            time_ms=int(materials.scale.time(state.last_tick).timestamp() * 1000),
            unsubscribe_url=sender.get("unsubscribeUrl"),
        )

    def _record(self, runs: Sequence[LoadedRun], results: Sequence[ChannelResult]) -> None:
        left = {run.state.run_id: (run, result) for run, result in zip(runs, results, strict=True)}
        for _ in range(MAX_ATTEMPTS):
            units: list[Unit] = []
            after: list[LoadedRun] = []
            for run, result in list(left.values()):
                decided = self._runs.decide(run, self._outcome(run, result))
                if decided is None:
                    del left[run.state.run_id]
                    continue
                units.append(decided[0])
                after.append(decided[1])
            if not units:
                return
            outcomes = self._runs.committer.commit(units)
            done = [a for a, r in zip(after, outcomes, strict=True) if isinstance(r, Committed)]
            self._runs.remember(done)
            for run in done:
                del left[run.state.run_id]
            if not left:
                return
            # Somebody paused or cancelled a run while its message was under way.
            current = self._runs.load_many(list(left))
            left = {name: (current[name], result) for name, (_, result) in left.items()}
        raise ConcurrencyConflict(f"{len(left)} outcomes could not be recorded; they are unknown")

    def _outcome(self, run: LoadedRun, result: ChannelResult) -> c.RecordResult:
        state, intent = run.state, run.state.intent
        assert intent is not None, "the outcome belongs to an intent"
        # The outcome carries the tick of the dispatch, or of what has happened to the run since.
        meta = self._runs.meta(
            "result", f"{intent.key[:32]}.{intent.attempt}", tick=state.last_tick
        )
        return c.RecordResult(
            meta,
            intent.key,
            intent.attempt,
            result.status,
            result.message_id,
            result.error,
            result.retryable,
            e.Detail(dict(result.detail)) if result.detail else None,
        )
