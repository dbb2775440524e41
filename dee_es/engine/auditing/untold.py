"""Rows beside the log that the log has yet to tell of."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


class Untold:
    """What stood in a table when it was looked at, until the log tells of it; what comes in
    afterwards is behind that look.

    A digest is kept of each, in some 100 bytes.
    """

    def __init__(self, held: Iterable[object]) -> None:
        self._left = {_digest(each) for each in held}
        self._all_told = True

    def tell(self, value: object) -> None:
        """The log tells of it."""
        self._left.discard(_digest(value))

    def miss_one(self) -> None:
        """An entry cannot be read, so that nobody knows what it tells of."""
        self._all_told = False

    @property
    def any(self) -> bool:
        """Whether anything is left; never if the log could not tell of everything."""
        return bool(self._left) and self._all_told

    def __contains__(self, value: object) -> bool:
        return self.any and _digest(value) in self._left


def _digest(value: object) -> bytes:
    """Stands for what a column holds, whatever that is: no two values share one."""
    return hashlib.blake2b(repr(value).encode(), digest_size=16).digest()
