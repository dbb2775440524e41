"""Time and ids that a test controls."""

from __future__ import annotations

import base64
import random


class FixedWallClock:
    """A wall clock that stands still until it is moved."""

    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self._now_ms = now_ms

    def now_ms(self) -> int:
        """Milliseconds since 1970 UTC."""
        return self._now_ms

    def advance(self, ms: int) -> None:
        """Let time pass; a negative `ms` sets the clock back."""
        self._now_ms += ms


class SeededIds:
    """Command ids that are the same in each run of a test."""

    def __init__(self, seed: int | str = 0) -> None:
        self._random = random.Random(f"command ids {seed}")

    def command_id(self) -> str:
        """A new command id, of the form that the real source gives."""
        return "cmd_" + base64.b32encode(self._random.randbytes(20)).decode()[:26].lower()


class SeededKeySource:
    """Random bytes that are the same in each run of a test, however they are asked for."""

    def __init__(self, seed: int | str = 0) -> None:
        self._random = random.Random(f"keys {seed}")

    def __call__(self, size: int, /) -> bytes:
        """The next `size` bytes."""
        # Byte by byte, since `randbytes` drops what is left of a 32-bit word.
        return bytes(self._random.getrandbits(8) for _ in range(size))
