"""The right to schedule a partition: taken, renewed while work goes on, and looked at before sends.

Correctness never rests on it: every append states the version it expects. It keeps two schedulers
from deciding the same runs, and tells one that was stopped that another has taken over.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Final

from dee_es.errors import ConcurrencyConflict, StoreUnavailable
from dee_es.ports import EventStore, IdSource, Lease

_log: Final = logging.getLogger(__name__)
LEASE_MS: Final = 8_000
"""How long a holder that is not heard of keeps the others out, in ms of the database's clock."""
RENEW_S: Final = 2.0
_TRUSTED_S: Final = LEASE_MS / 1000 - RENEW_S
"""How long a confirmed lease is relied on without asking, in seconds of this machine."""
_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", None)


def _now() -> float:
    """Seconds of a clock that never goes back, and where there is one, that goes on while the
    machine sleeps: meanwhile another one may have taken over."""
    return time.monotonic() if _CLOCK is None else time.clock_gettime(_CLOCK)


class LeaseKeeper:
    """Holds one partition's lease for one scheduler; safe to share between its threads."""

    def __init__(self, store: EventStore, ids: IdSource, partition: tuple[int, int]) -> None:
        self.partition = partition
        self._store = store
        self._ids = ids
        self._owner: str | None = None
        self._lease: Lease | None = None
        self._confirmed = 0.0
        self._lock = threading.Lock()
        self._stop: threading.Event | None = None

    def acquire(self) -> Lease | None:
        """Take the lease, or renew it when that is due; None while somebody else holds it."""
        with self._lock:
            if self._lease is None or _now() - self._confirmed >= RENEW_S:
                self._ask()
            return self._lease

    @property
    def held(self) -> bool:
        """Whether the lease is held, as far as is known without asking."""
        return self._lease is not None

    def require(self) -> Lease:
        """The lease; raises `ConcurrencyConflict` while somebody else holds it."""
        lease = self.acquire()
        if lease is None:
            raise ConcurrencyConflict(
                "another scheduler is at work on this database; stop it, or wait until its lease "
                f"of {LEASE_MS // 1000} s has run out"
            )
        return lease

    def still(self, lease: Lease) -> bool:
        """Whether `lease` may still be acted on; asks the database when that is not certain."""
        with self._lock:
            if self._lease == lease and _now() - self._confirmed >= _TRUSTED_S:
                try:
                    self._ask()
                except StoreUnavailable:
                    return False
            return self._lease == lease

    def release(self) -> None:
        """Let others schedule at once, instead of when the lease has run out; while the database is
        away, it has to run out."""
        with self._lock:
            lease, self._lease = self._lease, None
        if lease is None:
            return
        try:
            self._store.release_lease(lease)
        except StoreUnavailable:
            _log.warning("lease_not_released", extra={"partition": self.partition})

    def forget(self) -> None:
        """Rely on nothing that was confirmed before, after the database could not be reached."""
        with self._lock:
            self._lease = None

    def _ask(self) -> None:
        # The owner's name is drawn late, so that engines which never schedule draw none.
        if self._owner is None:
            self._owner = self._ids.command_id()
        # Noted before the question: the answer may take its time, the lease runs from the question.
        asked = _now()
        before, self._lease = self._lease, None
        self._lease = self._store.acquire_lease(self.partition, self._owner, LEASE_MS)
        self._confirmed = asked
        if before is not None and self._lease != before:
            _log.warning("lease_lost", extra={"partition": self.partition, "epoch": before.epoch})

    # --- renewal ----------------------------------------------------------------------------------

    def start_renewing(self) -> None:
        """Renew in the background, so that a long tick does not outlast the lease."""
        stop = self._stop = threading.Event()
        threading.Thread(target=self._renew, args=(stop,), name="dee-lease", daemon=True).start()

    def stop_renewing(self) -> None:
        """End the renewal in the background."""
        if self._stop is not None:
            self._stop.set()
            self._stop = None

    def _renew(self, stop: threading.Event) -> None:
        while not stop.wait(RENEW_S):
            with self._lock:
                held = self._lease
                try:
                    if held is not None:
                        self._ask()
                except StoreUnavailable:
                    # Until the database answers again the lease runs down, and `still` sees it.
                    self._lease = held
                    _log.warning("lease_not_renewed", extra={"partition": self.partition})
