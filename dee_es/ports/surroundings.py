"""What the engine takes from the machine it runs on: wall time, ids, time zones."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    # Whoever only reads the log has no use for the gate, and should not wait for it to be loaded.
    from dee_es.core.gate.zone import ZoneRules


class WallClock(Protocol):
    """Wall time, for `recorded_at` and for the system clock; no decision reads it directly."""

    def now_ms(self) -> int:
        """Milliseconds since 1970 UTC."""
        ...


class ServerClock(WallClock, Protocol):
    """Wall time as the server of a database tells it: one clock for all who have that open,
    whatever their own machines say. Between two looks at it, time goes on as it does here."""

    def sync(self, unless_within_s: float = 0.0) -> None:
        """Look at it, unless that was done within these seconds; raises `StoreUnavailable`."""
        ...


ZoneSource: TypeAlias = "Callable[[str, int, int], ZoneRules | None]"
"""The rules of a named time zone for a span of ms since 1970 UTC; None for an unknown zone."""


class IdSource(Protocol):
    """Where command ids come from; seeded in tests."""

    def command_id(self) -> str:
        """A new command id."""
        ...
