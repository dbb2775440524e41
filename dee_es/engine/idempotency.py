"""Requests that callers may repeat under a key of their own, and what was answered to them.

An answer may hold personal data. It is kept for a day at most, sealed under a key that is made of
the caller's key and of a secret of the key store: the database alone, or a copy of it, gives
nothing away, nor does what the database knows a request by. An erasure lets all answers go;
whoever repeats a request after that has it decided again, under the same command id, by which the
log knows what has been done already.
"""

from __future__ import annotations

import secrets
import threading
import time
from typing import Final

from msgspec import Struct

from dee_es.ports import EventStore, KeyStore

ATTEMPT_MS: Final = 15_000
"""For how long an attempt counts as alive that nobody hears of, in ms of the database's clock."""
RENEW_S: Final = 4.0
KEPT_MS: Final = 24 * 3_600_000
MOST_BYTES: Final = 256 * 1024
"""An answer that is longer is not kept: the request is decided again if it is repeated."""
_PRUNE_EVERY_S: Final = 60.0
_PRUNED_AT_ONCE: Final = 1_000


class Attempt(Struct, frozen=True):
    """An attempt that has its request to itself, and has to be ended or dropped."""

    request_id: str
    name: str
    key: str


class Known(Struct, frozen=True):
    """What stands in the way of an attempt: another request under the same key (`same` is False),
    an attempt that is under way (`answer` is None), or the answer that was given."""

    same: bool
    answer: bytes | None


class Idempotency:
    """Remembers requests in the database; safe to share between threads and processes."""

    def __init__(self, store: EventStore, keys: KeyStore) -> None:
        self._store = store
        self._keys = keys
        self._lock = threading.Lock()
        self._pruned = 0.0

    def begin(self, request_id: str, key: str, digest: bytes) -> Attempt | Known:
        """Take up a request: `key` is the caller's own, `digest` that of all that was asked."""
        self._prune()
        attempt = Attempt(request_id, secrets.token_hex(8), key)
        mine = self._digest(digest)
        known = self._store.begin_request(request_id, mine, attempt.name, ATTEMPT_MS, KEPT_MS)
        if known is None:
            return attempt
        if known.digest != mine or known.answer is None:
            return Known(known.digest == mine, None)
        answer = self._keys.unseal(key, known.answer)
        # One that cannot be read any more, as under another key store, is as good as none.
        return attempt if answer is None else Known(True, answer)

    def same(self, request_id: str, digest: bytes) -> bool:
        """Note what a request asks whose answer is not kept; False if it was another before."""
        self._prune()
        mine = self._digest(digest)
        known = self._store.begin_request(request_id, mine, "", 0, KEPT_MS)
        return known is None or known.digest == mine

    def end(self, attempt: Attempt, answer: bytes | None) -> None:
        """Keep the answer of a request that did something, or might have (None)."""
        sealed = None
        if answer is not None and len(answer) <= MOST_BYTES:
            sealed = self._keys.seal(attempt.key, answer)
        self._store.end_request(attempt.request_id, attempt.name, sealed)

    def drop(self, attempt: Attempt) -> None:
        """Forget a request that did nothing."""
        self._store.drop_request(attempt.request_id, attempt.name)

    def renew(self, attempt: Attempt) -> None:
        """Say that the attempt is alive, every `RENEW_S` seconds."""
        self._store.renew_request(attempt.request_id, attempt.name, ATTEMPT_MS)

    def _digest(self, digest: bytes) -> bytes:
        # Keyed, or an address in a short request could be found by trying addresses. "call" stays,
        # or what is in the table would be of other requests.
        return bytes.fromhex(self._keys.digest("call", digest.hex()))

    def _prune(self) -> None:
        now = time.monotonic()
        with self._lock:
            if self._pruned and now - self._pruned < _PRUNE_EVERY_S:
                return
            self._pruned = now
        if self._store.prune_requests(_PRUNED_AT_ONCE) == _PRUNED_AT_ONCE:
            # More may be left, as where many requests come in: the next one goes on.
            with self._lock:
                self._pruned = 0.0
