"""Where random bytes for keys come from."""

from __future__ import annotations

from typing import Protocol


class KeySource(Protocol):
    """Random bytes: `os.urandom`, or a seeded stand-in in tests."""

    def __call__(self, size: int, /) -> bytes:
        """The next `size` bytes."""
        ...
