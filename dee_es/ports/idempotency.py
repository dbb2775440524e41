"""Requests that callers may repeat under a key of their own, and what was answered to them."""

from __future__ import annotations

from typing import Protocol

import msgspec


class KnownRequest(msgspec.Struct, frozen=True):
    """A request that was begun before: a digest of what was asked, and the answer as it was kept;
    None while an attempt at it is under way."""

    digest: bytes
    answer: bytes | None = None


class IdempotencyStore(Protocol):
    """Remembers requests beside the log, so that repeating one after a crash does not do it twice.

    Nothing here is part of the log, and losing it loses convenience only: events carry the id of
    the command that they came of. Times are those of the database's clock, in ms.
    """

    def begin_request(
        self, request_id: str, digest: bytes, attempt: str, attempt_ms: int, keep_ms: int
    ) -> KnownRequest | None:
        """Take a request up; None if this attempt has it now, else what stands in its way.

        An attempt that was neither renewed for `attempt_ms` nor ended counts as dead, and another
        one at the same request, by `digest`, takes it up. A request is known for `keep_ms`.
        """
        ...

    def renew_request(self, request_id: str, attempt: str, attempt_ms: int) -> bool:
        """Say that the attempt is alive; False if it has lost the request to another one."""
        ...

    def end_request(self, request_id: str, attempt: str, answer: bytes | None) -> bool:
        """Keep the answer; without one the same request may be taken up again at once. False if
        the attempt has lost the request."""
        ...

    def drop_request(self, request_id: str, attempt: str) -> None:
        """Know nothing of a request that did nothing, if the attempt still has it."""
        ...

    def forget_answers(self) -> int:
        """Let all kept answers go, on the disk, too, when this returns; the requests stay known,
        and may be taken up again. How many."""
        ...

    def prune_requests(self, limit: int) -> int:
        """Forget up to `limit` requests that are no longer to be known; how many they were."""
        ...
