"""Where random bytes for keys come from, and how a key store keeps what is made of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol


class KeySource(Protocol):
    """Random bytes: `os.urandom`, or a seeded stand-in in tests."""

    def __call__(self, size: int, /) -> bytes:
        """The next `size` bytes."""
        ...


class KeyTable(Protocol):
    """The rows of a key store; all they hold is wrapped, and a destroyed key is an empty row.

    All methods raise `StoreUnavailable` when the store does not answer within bounded time.
    """

    @property
    def where(self) -> str:
        """What the store is called in error messages; without passwords."""
        ...

    def secret(self, make: Callable[[], bytes]) -> bytes:
        """The store's own wrapped secret; `make` gives it when the store is new."""
        ...

    def insert(self, rows: Sequence[tuple[bytes, bytes]]) -> bool:
        """Add key ids with their wrapped keys, durably; False if one of them is there already, and
        then none is added."""
        ...

    def fetch(self, key_ids: Sequence[bytes]) -> Mapping[bytes, bytes | None]:
        """The wrapped keys of those ids that are known; None for a destroyed one."""
        ...

    def destroy(self, key_id: bytes) -> bool:
        """Empty the row, durably, and count it; False if the id is unknown."""
        ...

    def destroyed(self) -> int:
        """How many keys have been destroyed: it grows, so a change shows."""
        ...

    def close(self) -> None:
        """Release the store."""
        ...
