"""Wrapped keys in an SQLite file of their own, which several processes may open."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import Final

from dee_es.adapters.sqlite_files import write_ahead
from dee_es.errors import StoreUnavailable

BUSY_TIMEOUT_S: Final = 10.0
_VARIABLES: Final = 900
"""SQLite builds allow at least 999 parameters in a statement."""

# secure_delete: a destroyed key is overwritten, not merely unlinked.
_PRAGMAS: Final = """
PRAGMA synchronous = FULL;
PRAGMA secure_delete = ON;
"""

_SCHEMA: Final = """
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS keys (
    key_id BLOB PRIMARY KEY,
    wrapped BLOB
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS key_meta (
    name TEXT PRIMARY KEY,
    value NOT NULL
) WITHOUT ROWID;
INSERT OR IGNORE INTO key_meta (name, value) VALUES ('destroyed', 0);
COMMIT;
"""

_SECRET: Final = "SELECT value FROM key_meta WHERE name = 'secret'"  # noqa: S105 -- a query
_SET_SECRET: Final = "INSERT INTO key_meta (name, value) VALUES ('secret', ?)"  # noqa: S105
_INSERT: Final = "INSERT INTO keys (key_id, wrapped) VALUES (?, ?)"
_FETCH: Final = "SELECT key_id, wrapped FROM keys WHERE key_id IN ({})"
_DESTROY: Final = "UPDATE keys SET wrapped = NULL WHERE key_id = ?"
_COUNT: Final = "UPDATE key_meta SET value = value + 1 WHERE name = 'destroyed'"
_DESTROYED: Final = "SELECT value FROM key_meta WHERE name = 'destroyed'"


class SqliteKeyTable:
    """A `KeyTable` in a file; one connection, used by one thread at a time."""

    def __init__(self, path: str | Path) -> None:
        self.where = f"key store {path}"
        self._lock = Lock()
        with self._bounded():
            # Made before SQLite opens it: the file, and those beside it, are for the owner only.
            with suppress(FileExistsError):
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            self._connection = sqlite3.connect(
                path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
            try:
                write_ahead(self._connection, BUSY_TIMEOUT_S)
                self._connection.executescript(_PRAGMAS)
                self._connection.executescript(_SCHEMA)
            except BaseException:
                self._connection.close()
                raise

    def secret(self, make: Callable[[], bytes]) -> bytes:
        """See `KeyTable.secret`; of several processes that open a new store, one makes it."""
        with self._transaction() as connection:
            row = connection.execute(_SECRET).fetchone()
            if row is None:
                connection.execute(_SET_SECRET, (make(),))
                row = connection.execute(_SECRET).fetchone()
            return bytes(row[0])

    def insert(self, rows: Sequence[tuple[bytes, bytes]]) -> bool:
        """See `KeyTable.insert`."""
        try:
            with self._transaction() as connection:
                connection.executemany(_INSERT, rows)
        except sqlite3.IntegrityError:
            return False
        return True

    def fetch(self, key_ids: Sequence[bytes]) -> Mapping[bytes, bytes | None]:
        """See `KeyTable.fetch`."""
        found: dict[bytes, bytes | None] = {}
        with self._lock, self._bounded():
            for start in range(0, len(key_ids), _VARIABLES):
                part = key_ids[start : start + _VARIABLES]
                query = _FETCH.format(",".join("?" * len(part)))
                found.update(self._connection.execute(query, part).fetchall())
        return found

    def destroy(self, key_id: bytes) -> bool:
        """See `KeyTable.destroy`. `StoreUnavailable` may also mean that the key is gone but its
        old row is still in the write-ahead log; destroying it again clears that too."""
        with self._transaction() as connection:
            if connection.execute(_DESTROY, (key_id,)).rowcount == 0:
                return False
            connection.execute(_COUNT)
        with self._lock, self._bounded():
            # The write-ahead log still holds the row as it was before.
            busy, *_ = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise StoreUnavailable(
                f"{self.where}: the key was destroyed, but others kept reading and its wrapped "
                "form could not be cleared from the write-ahead log; destroy it again"
            )
        return True

    def destroyed(self) -> int:
        """See `KeyTable.destroyed`."""
        with self._lock, self._bounded():
            return int(self._connection.execute(_DESTROYED).fetchone()[0])

    def close(self) -> None:
        """See `KeyTable.close`."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        connection = self._connection
        with self._lock, self._bounded():
            # IMMEDIATE: a deferred transaction that reads and then writes fails at once when
            # another process has committed between the two, whatever the timeout.
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _bounded(self) -> Iterator[None]:
        """Turn what SQLite and the file system refuse into `StoreUnavailable`."""
        try:
            yield
        except sqlite3.IntegrityError:
            raise
        except sqlite3.Error as error:
            raise StoreUnavailable(f"{self.where}: {error}") from error
        except OSError as error:
            raise StoreUnavailable(f"{self.where}: {error.strerror}") from error
