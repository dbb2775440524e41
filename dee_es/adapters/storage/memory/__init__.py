"""The backend that keeps everything in memory and forgets it with the process."""

from __future__ import annotations

from dee_es.adapters.storage.memory.database import MemoryDatabase
from dee_es.adapters.storage.memory.store import MemoryStore
from dee_es.adapters.storage.memory.views import MemoryViews
from dee_es.adapters.system import SystemWallClock
from dee_es.ports import WallClock

__all__ = ["open_memory", "MemoryStore", "MemoryViews"]


def open_memory(clock: WallClock | None = None) -> tuple[MemoryStore, MemoryViews]:
    """A new, empty event store and the views that belong to it; leases expire by `clock`."""
    database = MemoryDatabase()
    return MemoryStore(database, clock or SystemWallClock()), MemoryViews(database)
