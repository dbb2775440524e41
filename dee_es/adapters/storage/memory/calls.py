"""Calls that may be repeated, in memory."""

from __future__ import annotations

from dee_es.adapters.storage.memory.database import KeptCall, MemoryDatabase
from dee_es.ports import KnownCall, WallClock


class MemoryCalls:
    """Implements `CallStore`; the database's clock is the injected wall clock."""

    _database: MemoryDatabase
    _clock: WallClock

    def begin_call(
        self, call_id: str, digest: bytes, attempt: str, attempt_ms: int, keep_ms: int
    ) -> KnownCall | None:
        """See `CallStore.begin_call`."""
        with self._database.writing():
            now, calls = self._clock.now_ms(), self._database.calls
            row = calls.get(call_id)
            if row is not None and row.known_until > now:
                free = row.answer is None and row.attempt_until <= now
                if not free or row.digest != digest:
                    return KnownCall(row.digest, row.answer)
            calls[call_id] = KeptCall(digest, attempt, now + attempt_ms, now + keep_ms)
            return None

    def renew_call(self, call_id: str, attempt: str, attempt_ms: int) -> bool:
        """See `CallStore.renew_call`."""
        return self._moved(call_id, attempt, self._clock.now_ms() + attempt_ms, None)

    def end_call(self, call_id: str, attempt: str, answer: bytes | None) -> bool:
        """See `CallStore.end_call`."""
        return self._moved(call_id, attempt, 0, answer)

    def _moved(self, call_id: str, attempt: str, until: int, answer: bytes | None) -> bool:
        with self._database.writing():
            row = self._held(call_id, attempt)
            if row is None:
                return False
            moved = row._replace(attempt_until=until, answer=answer)
            self._database.calls[call_id] = moved
            return True

    def drop_call(self, call_id: str, attempt: str) -> None:
        """See `CallStore.drop_call`."""
        with self._database.writing():
            if self._held(call_id, attempt) is not None:
                del self._database.calls[call_id]

    def forget_answers(self) -> int:
        """See `CallStore.forget_answers`."""
        with self._database.writing():
            calls = self._database.calls
            kept = [call_id for call_id, row in calls.items() if row.answer is not None]
            for call_id in kept:
                calls[call_id] = calls[call_id]._replace(answer=None, attempt_until=0)
            return len(kept)

    def prune_calls(self, limit: int) -> int:
        """See `CallStore.prune_calls`."""
        with self._database.writing():
            now, calls = self._clock.now_ms(), self._database.calls
            old = sorted((row.known_until, call_id) for call_id, row in calls.items())
            gone = [call_id for until, call_id in old if until <= now][:limit]
            for call_id in gone:
                del calls[call_id]
            return len(gone)

    def _held(self, call_id: str, attempt: str) -> KeptCall | None:
        row = self._database.calls.get(call_id)
        mine = row is not None and row.attempt == attempt and row.answer is None
        return row if mine else None
