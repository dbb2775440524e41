"""Requests that may be repeated, in memory."""

from __future__ import annotations

from dee_es.adapters.storage.memory.database import KeptRequest, MemoryDatabase
from dee_es.ports import KnownRequest, WallClock


class MemoryIdempotency:
    """Implements `IdempotencyStore`; the database's clock is the injected wall clock."""

    _database: MemoryDatabase
    _clock: WallClock

    def begin_request(
        self, request_id: str, digest: bytes, attempt: str, attempt_ms: int, keep_ms: int
    ) -> KnownRequest | None:
        """See `IdempotencyStore.begin_request`."""
        with self._database.writing():
            now, requests = self._clock.now_ms(), self._database.requests
            row = requests.get(request_id)
            if row is not None and row.known_until > now:
                free = row.answer is None and row.attempt_until <= now
                if not free or row.digest != digest:
                    return KnownRequest(row.digest, row.answer)
            requests[request_id] = KeptRequest(digest, attempt, now + attempt_ms, now + keep_ms)
            return None

    def renew_request(self, request_id: str, attempt: str, attempt_ms: int) -> bool:
        """See `IdempotencyStore.renew_request`."""
        return self._moved(request_id, attempt, self._clock.now_ms() + attempt_ms, None)

    def end_request(self, request_id: str, attempt: str, answer: bytes | None) -> bool:
        """See `IdempotencyStore.end_request`."""
        return self._moved(request_id, attempt, 0, answer)

    def _moved(self, request_id: str, attempt: str, until: int, answer: bytes | None) -> bool:
        with self._database.writing():
            row = self._held(request_id, attempt)
            if row is None:
                return False
            moved = row._replace(attempt_until=until, answer=answer)
            self._database.requests[request_id] = moved
            return True

    def drop_request(self, request_id: str, attempt: str) -> None:
        """See `IdempotencyStore.drop_request`."""
        with self._database.writing():
            if self._held(request_id, attempt) is not None:
                del self._database.requests[request_id]

    def forget_answers(self) -> int:
        """See `IdempotencyStore.forget_answers`."""
        with self._database.writing():
            requests = self._database.requests
            kept = [request_id for request_id, row in requests.items() if row.answer is not None]
            for request_id in kept:
                requests[request_id] = requests[request_id]._replace(answer=None, attempt_until=0)
            return len(kept)

    def prune_requests(self, limit: int) -> int:
        """See `IdempotencyStore.prune_requests`."""
        with self._database.writing():
            now, requests = self._clock.now_ms(), self._database.requests
            old = sorted((row.known_until, request_id) for request_id, row in requests.items())
            gone = [request_id for until, request_id in old if until <= now][:limit]
            for request_id in gone:
                del requests[request_id]
            return len(gone)

    def _held(self, request_id: str, attempt: str) -> KeptRequest | None:
        row = self._database.requests.get(request_id)
        mine = row is not None and row.attempt == attempt and row.answer is None
        return row if mine else None
