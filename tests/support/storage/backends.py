"""The storage backends as the contract tests see them: one name, one place, one way to open."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import Literal

import psycopg

from dee_es.adapters.storage.memory import open_memory
from dee_es.adapters.storage.postgres import open_postgres
from dee_es.adapters.storage.sqlite import open_sqlite
from dee_es.ports import EventStore, Views
from tests.support.system import FixedWallClock

Kind = Literal["memory", "sqlite", "postgres"]
Opened = tuple[EventStore, Views]


def open_at(kind: Kind, address: str, lock_timeout_s: float = 10.0) -> Opened:
    """Open a database that is on disk; also called in processes of their own."""
    opener = open_sqlite if kind == "sqlite" else open_postgres
    return opener(address, lock_timeout_s=lock_timeout_s)


@dataclass
class Backend:
    """One empty database of one kind, at a path or URL, and everything that was opened on it."""

    kind: Kind
    address: str
    _clock: FixedWallClock = field(default_factory=FixedWallClock)
    _opened: list[Opened] = field(default_factory=list)

    @property
    def on_disk(self) -> bool:
        """Whether it can be opened more than once, by others too."""
        return self.kind != "memory"

    def open(self, lock_timeout_s: float = 10.0) -> Opened:
        """Open it, once more if it is on disk; closed when the test ends."""
        if self.on_disk:
            opened = open_at(self.kind, self.address, lock_timeout_s)
        else:
            opened = open_memory(self._clock)
        self._opened.append(opened)
        return opened

    def wait(self, ms: int) -> None:
        """Let time pass on the clock by which leases expire."""
        if self.on_disk:
            time.sleep(ms / 1000)
        else:
            self._clock.advance(ms)

    def raw(self, statement: str) -> None:
        """Run a statement past the adapters, as somebody with a database shell would."""
        if self.kind == "sqlite":
            with closing(sqlite3.connect(self.address)) as connection, connection:
                connection.execute(statement)
        else:
            with psycopg.connect(self.address) as connection:
                connection.execute(statement)

    def close(self) -> None:
        """Close all that was opened."""
        for store, _ in self._opened:
            with suppress(Exception):
                store.close()


RAW_ERRORS = (sqlite3.Error, psycopg.Error)
"""What `Backend.raw` raises when the database refuses."""
