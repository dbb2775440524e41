"""Requests that may be repeated, in shared SQL: small transactions apart from the append lock."""

from __future__ import annotations

from typing import Final

from dee_es.adapters.storage.relational.session import Database
from dee_es.ports import KnownRequest

# One statement, so that of two attempts at once the database itself lets one through.
_BEGIN: Final = """
INSERT INTO kept_calls (call_id, digest, attempt, attempt_until, known_until, answer)
VALUES (?, ?, ?, {now_ms} + ?, {now_ms} + ?, NULL)
ON CONFLICT (call_id) DO UPDATE SET
    digest = excluded.digest, attempt = excluded.attempt, attempt_until = excluded.attempt_until,
    known_until = excluded.known_until, answer = NULL
WHERE kept_calls.known_until <= {now_ms} OR (
    kept_calls.answer IS NULL AND kept_calls.attempt_until <= {now_ms}
    AND kept_calls.digest = excluded.digest
)
RETURNING 1
"""
_READ: Final = "SELECT digest, answer FROM kept_calls WHERE call_id = ?"
_RENEW: Final = """
UPDATE kept_calls SET attempt_until = {now_ms} + ?
WHERE call_id = ? AND attempt = ? AND answer IS NULL
RETURNING 1
"""
_END: Final = """
UPDATE kept_calls SET answer = ?, attempt_until = 0
WHERE call_id = ? AND attempt = ? AND answer IS NULL
RETURNING 1
"""
_DROP: Final = "DELETE FROM kept_calls WHERE call_id = ? AND attempt = ? AND answer IS NULL"
_FORGET: Final = """
UPDATE kept_calls SET answer = NULL, attempt_until = 0 WHERE answer IS NOT NULL RETURNING 1
"""
_PRUNE: Final = """
DELETE FROM kept_calls WHERE call_id IN (
    SELECT call_id FROM kept_calls WHERE known_until <= {now_ms} ORDER BY known_until LIMIT ?
)
RETURNING 1
"""


class RelationalIdempotency:
    """Implements `IdempotencyStore` over a `Database`."""

    database: Database

    def begin_request(
        self, request_id: str, digest: bytes, attempt: str, attempt_ms: int, keep_ms: int
    ) -> KnownRequest | None:
        """See `IdempotencyStore.begin_request`."""
        begin = _BEGIN.format(now_ms=self.database.now_ms)
        with self.database.lasting() as session:
            if session.ask(begin, (request_id, digest, attempt, attempt_ms, keep_ms)).fetchall():
                return None
            rows = session.ask(_READ, (request_id,)).fetchall()
        if not rows:
            # What stood in the way was dropped in between: whoever asks once more has it.
            return KnownRequest(digest)
        known, answer = rows[0]
        return KnownRequest(bytes(known), None if answer is None else bytes(answer))

    def renew_request(self, request_id: str, attempt: str, attempt_ms: int) -> bool:
        """See `IdempotencyStore.renew_request`."""
        return self._changed(_RENEW, (attempt_ms, request_id, attempt)) == 1

    def end_request(self, request_id: str, attempt: str, answer: bytes | None) -> bool:
        """See `IdempotencyStore.end_request`."""
        return self._changed(_END, (answer, request_id, attempt)) == 1

    def drop_request(self, request_id: str, attempt: str) -> None:
        """See `IdempotencyStore.drop_request`."""
        with self.database.lasting() as session:
            session.ask(_DROP, (request_id, attempt))

    def forget_answers(self) -> int:
        """See `IdempotencyStore.forget_answers`."""
        # Whoever has them forgotten certifies it next.
        return self._changed(_FORGET, (), kept=True)

    def prune_requests(self, limit: int) -> int:
        """See `IdempotencyStore.prune_requests`."""
        return self._changed(_PRUNE, (limit,))

    def _changed(self, statement: str, params: tuple[object, ...], *, kept: bool = False) -> int:
        with self.database.lasting(kept) as session:
            asked = session.ask(statement.format(now_ms=self.database.now_ms), params)
            return len(asked.fetchall())
