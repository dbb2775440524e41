"""Wall time, command ids and the user from the operating system."""

from __future__ import annotations

import getpass
import os
import time
from typing import Final

_ID_CHARACTERS: Final = 26
_BASE32: Final = b"abcdefghijklmnopqrstuvwxyz234567" * 8
"""For each value of a byte a character; each of the 32 stands for as many values."""


class SystemWallClock:
    """Wall time as the operating system tells it; it may jump, and no decision reads it."""

    def now_ms(self) -> int:
        """Milliseconds since 1970 UTC."""
        return time.time_ns() // 1_000_000


class RandomIds:
    """Command ids that nobody has to coordinate: `cmd_` and 26 random base32 characters."""

    def command_id(self) -> str:
        """A new command id."""
        return "cmd_" + os.urandom(_ID_CHARACTERS).translate(_BASE32).decode()


def current_user() -> str:
    """The operating system's name of the user, or the number of one without a name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A container may run under a number that has no name.
        return f"uid {os.getuid()}"
