"""Calls that callers may repeat under a key of their own, and what was answered to them."""

from __future__ import annotations

from typing import Protocol

import msgspec


class KnownCall(msgspec.Struct, frozen=True):
    """A call that was begun before: a digest of what was asked, and the answer as it was kept;
    None while an attempt at it is under way."""

    digest: bytes
    answer: bytes | None = None


class CallStore(Protocol):
    """Remembers calls beside the log, so that repeating one after a crash does not do it twice.

    Nothing here is part of the log, and losing it loses convenience only: events carry the id of
    the command that they came of. Times are those of the database's clock, in ms.
    """

    def begin_call(
        self, call_id: str, digest: bytes, attempt: str, attempt_ms: int, keep_ms: int
    ) -> KnownCall | None:
        """Take a call up; None if this attempt has it now, else what stands in its way.

        An attempt that was neither renewed for `attempt_ms` nor ended counts as dead, and another
        one at the same call, by `digest`, takes it up. A call is known for `keep_ms`.
        """
        ...

    def renew_call(self, call_id: str, attempt: str, attempt_ms: int) -> bool:
        """Say that the attempt is alive; False if it has lost the call to another one."""
        ...

    def end_call(self, call_id: str, attempt: str, answer: bytes | None) -> bool:
        """Keep the answer; without one the same call may be taken up again at once. False if the
        attempt has lost the call."""
        ...

    def drop_call(self, call_id: str, attempt: str) -> None:
        """Know nothing of a call that did nothing, if the attempt still has it."""
        ...

    def forget_answers(self) -> int:
        """Let all kept answers go, on the disk, too, when this returns; the calls stay known, and
        may be taken up again. How many."""
        ...

    def prune_calls(self, limit: int) -> int:
        """Forget up to `limit` calls that are no longer to be known; how many they were."""
        ...
