"""How the database stands, and what somebody on call should do about it."""

from __future__ import annotations

from typing import Final, Literal

from dee_es.core.views import RunFilter, RunStatus
from dee_es.engine.auditing.periodic import PeriodicSigning, SigningHealth
from dee_es.engine.keys import PLAIN
from dee_es.engine.models import Health
from dee_es.engine.projecting.manager import Projections
from dee_es.engine.projecting.models import ParkedStream
from dee_es.engine.projecting.projector import AnyProjection, Projector
from dee_es.engine.queries import Queries
from dee_es.engine.timekeeping import EngineClock
from dee_es.errors import DeeError, MasterKeyRotated, StoreUnavailable
from dee_es.ports import EventStore, KeyStore

_SHOWN: Final = 5
_PATIENCE_S: Final = 60
"""How long runs may be due before somebody is told, in seconds of logical time."""


class HealthCheck:
    """Looks at time, the scheduler, the projections that must never lag, the keys, the signing,
    and the runs that have failed."""

    def __init__(
        self,
        backend: str,
        store: EventStore,
        clock: EngineClock,
        projector: Projector,
        projections: Projections,
        kept_level: AnyProjection,
        queries: Queries,
        signing: PeriodicSigning,
        keys: KeyStore,
    ) -> None:
        self._backend = backend
        self._store = store
        self._clock = clock
        self._projector = projector
        self._projections = projections
        self._kept_level = kept_level
        self._queries = queries
        self._signing = signing
        self._keys = keys

    def look(self) -> Health:
        """The state as of now, with a sentence for each problem."""
        found = [self._overdue(), self._backwards(), self._stuck(), self._locked()]
        problems = [problem for problem in found if problem is not None]
        parked = self._projections.parked()
        problems += [_told(each) for each in parked[:_SHOWN]]
        if len(parked) > _SHOWN:
            problems.append(f"{len(parked) - _SHOWN:,} more streams are parked")
        signing = self._signing.look() if self._signing.wanted else SigningHealth(None)
        problems += signing.problems
        advice = [f"projection {name}: {text}" for name, text in self._projections.advice().items()]
        advice += [*signing.advice, *self._failed()]
        if not self._keys.encrypts:
            advice.append(PLAIN)
        lag = self._projections.lag()
        head = self._store.log_head()
        tick = self._clock.now()
        kind: Literal["system", "manual"] = self._clock.kind
        return Health(
            ok=not problems,
            backend=self._backend,
            tick=tick,
            time=self._clock.time(tick),
            clock=kind,
            position=head.position,
            runs=head.ordinal,
            next_due=self._store.next_due(),
            lag=lag,
            problems=tuple(problems),
            advice=tuple(advice),
            unsigned=signing.unsigned,
        )

    def _overdue(self) -> str | None:
        """Runs that nobody advances. A manual clock stands still, so nothing is late on it."""
        if self._clock.kind == "manual":
            return None
        patience = self._clock.scale.ticks(_PATIENCE_S * 1000)
        first = self._store.due(self._clock.now() - patience - 1, 1)
        if not first:
            return None
        (head,) = first
        assert head.due_tick is not None, "it is due"
        late = f"runs are due since {self._clock.time(head.due_tick):%Y-%m-%d %H:%M:%S}Z"
        if any(lease.expires_in_ms > 0 for lease in self._store.leases()):
            return (
                f"{late}, {head.stream_id} before all others; a worker is at work but falls "
                "behind, or cannot decide that one: then its log says run_held_up"
            )
        return f"{late} and no worker is at work; start `dee worker`"

    def _backwards(self) -> str | None:
        behind = self._clock.behind_s()
        if behind <= _PATIENCE_S:
            return None
        return f"the wall clock is {behind:,.0f} s behind the database's time, which stands still"

    def _stuck(self) -> str | None:
        try:
            self._projector.catch_up(self._kept_level)
        except DeeError as error:
            return str(error)
        return None

    def _failed(self) -> tuple[str, ...]:
        """Runs that stand still until somebody does something: no fault of what serves them."""
        try:
            failed = self._queries.count(RunFilter((RunStatus.FAILED.value,)))
        except DeeError as error:
            return (f"how many runs have failed cannot be told: {error}",)
        if not failed:
            return ()
        told = (
            "1 run has failed and waits" if failed == 1 else f"{failed:,} runs have failed and wait"
        )
        return (
            f"{told} for somebody: `dee runs list --status failed`, then `dee explain RUN` says "
            "why and what to do",
        )

    def _locked(self) -> str | None:
        """Keys that this process can no longer use, whatever another one that starts anew can."""
        try:
            self._keys.check()
        except (MasterKeyRotated, StoreUnavailable) as error:
            return str(error)
        return None


def _told(each: ParkedStream) -> str:
    return (
        f"projection {each.name} has parked {each.stream_id}: {each.event}, entry {each.entry} at "
        f"position {each.position:,}, cannot be folded ({each.error})"
    )
