"""Key stores of each kind, and what the log would say of them."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field

from dee_es.adapters.keys import (
    KeySource,
    ManagedKeys,
    MasterHolder,
    MasterKey,
    new_master_key,
    open_memory_keys,
    open_postgres_keys,
    open_sqlite_keys,
)
from tests.support.storage.backends import Backend
from tests.support.system import SeededKeySource


@dataclass
class KeyPlace:
    """Where keys are kept, and all that was opened there."""

    backend: Backend
    master: MasterKey | MasterHolder = field(default_factory=new_master_key)
    _opened: list[ManagedKeys] = field(default_factory=list)

    def open(
        self, source: KeySource | None = None, master: MasterKey | MasterHolder | None = None
    ) -> ManagedKeys:
        """Open it, once more if it is on disk."""
        source, master = source or SeededKeySource(len(self._opened)), master or self.master
        if self.backend.kind == "sqlite":
            keys = open_sqlite_keys(self.backend.address, master, source)
        elif self.backend.kind == "postgres":
            keys = open_postgres_keys(self.backend.address, master, source)
        else:
            keys = open_memory_keys(source)
        self._opened.append(keys)
        return keys

    def close(self) -> None:
        """Close all that were opened."""
        for keys in self._opened:
            with suppress(Exception):
                keys.close()
