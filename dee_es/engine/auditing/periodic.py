"""The worker's checkpoints: signed whenever enough has come together, without anybody asking.

Nothing that goes wrong here stops a worker: it is told, counted, and tried again with growing
pauses.
"""

from __future__ import annotations

import logging
import time
from functools import partial
from typing import Final

from msgspec import Struct

from dee_es.engine.auditing.signing import SignedCheckpoint, Signing, Standing
from dee_es.engine.timekeeping import EngineClock
from dee_es.engine.transact import Runs
from dee_es.errors import ConcurrencyConflict, DeeError, IntegrityViolation, StoreUnavailable
from dee_es.ports import IdSource

_log: Final = logging.getLogger(__name__)
FIRST_PAUSE_S: Final = 5.0
LONGEST_PAUSE_S: Final = 300.0
MOST_AT_ONCE: Final = 100_000
"""So many entries at most one checkpoint adds, so that no send waits for a long one."""
_MUCH: Final = 10
"""How many times the entries of one checkpoint may wait to be signed before somebody is told."""


class Every(Struct, frozen=True):
    """When to sign: after so many entries or seconds of logical time, whichever comes first; 0
    switches one of them off."""

    events: int = 10_000
    seconds: int = 300


class SigningHealth(Struct, frozen=True):
    """How the signing stands: entries not signed yet (None if that cannot be told), what is wrong,
    and what somebody should do in time."""

    unsigned: int | None
    problems: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()


class _Pause:
    """Grows with every failure, in seconds of this machine."""

    def __init__(self) -> None:
        self._length = 0.0
        self._until = 0.0

    def grow(self) -> float:
        """Begin a pause, longer than the one before; returns its length in seconds."""
        self._length = min(max(FIRST_PAUSE_S, 2 * self._length), LONGEST_PAUSE_S)
        self._until = time.monotonic() + self._length
        return self._length

    def end(self) -> None:
        """Forget the failures."""
        self._length = self._until = 0.0

    @property
    def over(self) -> bool:
        """Whether to try again."""
        return time.monotonic() >= self._until


class PeriodicSigning:
    """Signs for a worker, and tells how the signing stands."""

    def __init__(
        self, signing: Signing, runs: Runs, ids: IdSource, clock: EngineClock, every: Every
    ) -> None:
        self._signing = signing
        self._runs = runs
        self._ids = ids
        self._clock = clock
        self._every = every
        self._ticks = max(1, clock.scale.ticks(every.seconds * 1000)) if every.seconds else None
        self._last: Standing | None = None
        self._pause = _Pause()
        self._places_lack = False
        self._place_pause = _Pause()
        self._violation: str | None = None
        self._trouble: str | None = None
        self.signed = 0
        self.failures = 0

    @property
    def wanted(self) -> bool:
        """Whether there is a place for checkpoints."""
        return self._signing.places > 0

    def attempt(self) -> SignedCheckpoint | None:
        """Sign if that is due; returns what was signed now.

        Raises `StoreUnavailable` only: whatever else goes wrong is told, counted and tried again.
        """
        if not self.wanted or not self._pause.over:
            return None
        try:
            if self._due():
                # A checkpoint of its own by nobody: a worker is no person.
                meta = partial(self._runs.meta, "checkpoint", self._ids.command_id())
                done = self._signing.sign(meta, attempts=1, most=MOST_AT_ONCE)
                self._signed(done)
                return done
            if self._places_lack and self._place_pause.over:
                again = self._signing.keep_again()
                self._took(() if again is None else again.failed)
        except StoreUnavailable:
            raise
        except ConcurrencyConflict:
            # Another worker was faster: one is enough.
            self._last = None
        except IntegrityViolation as error:
            self._violation = str(error)
            _log.critical("log_not_as_signed", extra=self._failed(error))
        except Exception as error:
            # A place is whatever a setting names; no fault of it may end a worker.
            _log.warning("checkpoint_failed", extra=self._failed(error))
        return None

    def look(self) -> SigningHealth:
        """How the signing stands, and whether the log's end is what was signed last; see
        `Signing.check`."""
        problems = [self._violation] if self._violation is not None else []
        advice = [self._trouble] if self._trouble is not None else []
        unsigned = None
        try:
            unsigned = self._signing.unsigned(self._signing.standing())
            advice += self._signing.check()
        except IntegrityViolation as error:
            problems.append(str(error))
        except DeeError as error:
            advice.append(str(error))
        if unsigned is not None and 0 < _MUCH * self._every.events < unsigned:
            advice.append(
                f"{unsigned:,} entries are not signed yet; see that a worker runs and reaches the "
                "places, or sign with `dee audit checkpoint`"
            )
        return SigningHealth(unsigned, _told(problems), _told(advice))

    def unsigned(self) -> int | None:
        """Entries not signed yet; None without a place, or if it cannot be told."""
        if not self.wanted:
            return None
        try:
            return self._signing.unsigned(self._signing.standing())
        except IntegrityViolation:
            return None

    # --- steps ------------------------------------------------------------------------------------

    def _due(self) -> bool:
        if self._last is None:
            self._last = self._signing.standing()
        if not self._reached(self._last):
            return False
        # It may have been signed elsewhere since.
        self._last = self._signing.standing()
        return self._reached(self._last)

    def _reached(self, last: Standing) -> bool:
        unsigned = self._signing.unsigned(last)
        if unsigned <= 0:
            return False
        many = 0 < self._every.events <= unsigned
        return many or (self._ticks is not None and self._clock.now() - last.tick >= self._ticks)

    def _signed(self, done: SignedCheckpoint) -> None:
        self.signed += 1
        self._last = None
        self._violation = self._trouble = None
        self._pause.end()
        _log.info("checkpoint_signed", extra={"size": done.size, "places": done.places})
        self._took(done.failed)

    def _took(self, failed: tuple[str, ...]) -> None:
        """Take note of the places that could not be reached while others could."""
        self._places_lack = bool(failed)
        if not failed:
            self._place_pause.end()
            return
        self.failures += 1
        again = self._place_pause.grow()
        _log.warning("checkpoint_not_kept", extra={"problems": failed, "again_in_s": again})

    def _failed(self, error: Exception) -> dict[str, object]:
        """Count a failure; returns what is logged of it."""
        self.failures += 1
        self._last = None
        # The text of an error that is not ours may hold anything.
        problem = str(error) if isinstance(error, DeeError) else type(error).__name__
        self._trouble = None if isinstance(error, IntegrityViolation) else problem
        return {"problem": problem, "again_in_s": self._pause.grow()}


def _told(texts: list[str]) -> tuple[str, ...]:
    return tuple(f"checkpoints: {text}" for text in dict.fromkeys(texts))
