"""Which call at Twilio belongs to which attempt: the channel's own table, outside of the log.

Twilio's names for calls live here and nowhere else. Beside them it keeps, until a call is over,
what the log does not know yet: whether a machine answered, and which digits were pressed.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from dee_es.adapters.channels.twilio.tokens import CallRef
from dee_es.adapters.sqlite_files import told_of_file, write_ahead
from dee_es.errors import StoreUnavailable

_BUSY_S: Final = 5.0
_KEPT_S: Final = 2 * 24 * 3600
"""How long digits are kept if the end of their call is never told."""

# secure_delete: digits that are forgotten are overwritten, not merely unlinked.
_SCHEMA: Final = """
PRAGMA secure_delete = ON;
CREATE TABLE IF NOT EXISTS calls (
    sid TEXT PRIMARY KEY,
    key TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    run_id TEXT NOT NULL,
    step_id TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS calls_by_key ON calls (key, attempt);
CREATE INDEX IF NOT EXISTS calls_by_run ON calls (run_id);
CREATE TABLE IF NOT EXISTS machines (
    key TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    PRIMARY KEY (key, attempt)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS digits (
    key TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    since INTEGER NOT NULL,
    PRIMARY KEY (key, attempt, name)
) WITHOUT ROWID;
"""
_BIND: Final = "INSERT OR IGNORE INTO calls (sid, key, attempt, run_id, step_id) VALUES (?,?,?,?,?)"
_FIND: Final = "SELECT run_id, step_id, key, attempt FROM calls WHERE sid = ?"
_SIDS: Final = "SELECT sid FROM calls WHERE key = ? AND attempt = ? ORDER BY sid"
_MACHINE: Final = "INSERT OR IGNORE INTO machines (key, attempt) VALUES (?, ?)"
_IS_MACHINE: Final = "SELECT 1 FROM machines WHERE key = ? AND attempt = ?"
_GATHER: Final = (
    "INSERT OR REPLACE INTO digits (key, attempt, name, value, since) VALUES (?,?,?,?,?)"
)
_GATHERED: Final = "SELECT name, value FROM digits WHERE key = ? AND attempt = ? ORDER BY name"
_SETTLE: Final = "DELETE FROM digits WHERE key = ? AND attempt = ?"
_EXPIRE: Final = "DELETE FROM digits WHERE since < ?"
_ERASE: Final = (
    "DELETE FROM digits WHERE key IN (SELECT key FROM calls WHERE run_id = ?)",
    "DELETE FROM machines WHERE key IN (SELECT key FROM calls WHERE run_id = ?)",
    "DELETE FROM calls WHERE run_id = ?",
)


class ProviderCalls:
    """The table in an SQLite file, readable by its owner only; made when it is not there.

    Safe to share between threads, and several processes may open one file. All methods raise
    `StoreUnavailable` if the file does not answer within 5 seconds.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._lock = threading.Lock()
        with self._bounded():
            # Made before SQLite opens it: the file, and those beside it, are for the owner only.
            with suppress(FileExistsError):
                os.close(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            self._connection = sqlite3.connect(
                self._path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
            )
            try:
                write_ahead(self._connection, _BUSY_S)
                self._connection.executescript(_SCHEMA)
                self._connection.execute(_EXPIRE, (int(time.time()) - _KEPT_S,))
            except BaseException:
                self._connection.close()
                raise

    def __repr__(self) -> str:
        return f"ProviderCalls({str(self._path)!r})"

    def bind(self, call: CallRef, sid: str) -> bool:
        """Note that `sid` is Twilio's name for `call`; False if it is that of another call."""
        with self._bounded():
            self._connection.execute(
                _BIND, (sid, call.key, call.attempt, call.run_id, call.step_id)
            )
            row = self._connection.execute(_FIND, (sid,)).fetchone()
            return row is not None and CallRef(*row) == call

    def find(self, sid: str) -> CallRef | None:
        """The attempt whose call has this name."""
        with self._bounded():
            row = self._connection.execute(_FIND, (sid,)).fetchone()
            return None if row is None else CallRef(*row)

    def sids(self, key: str, attempt: int) -> list[str]:
        """Twilio's names for the call of an attempt: none before it is known, and never two unless
        something between us and Twilio repeated a request."""
        with self._bounded():
            return [sid for (sid,) in self._connection.execute(_SIDS, (key, attempt))]

    def note_machine(self, call: CallRef) -> None:
        """Note that a machine answered."""
        with self._bounded():
            self._connection.execute(_MACHINE, (call.key, call.attempt))

    def is_machine(self, call: CallRef) -> bool:
        """Whether a machine answered."""
        with self._bounded():
            row = self._connection.execute(_IS_MACHINE, (call.key, call.attempt)).fetchone()
            return row is not None

    def gather(self, call: CallRef, name: str, digits: str) -> None:
        """Keep what was pressed, in the place of what was pressed for that name before; what is
        left of calls whose end was never told is forgotten on the way."""
        with self._bounded():
            now = int(time.time())
            self._connection.execute(_EXPIRE, (now - _KEPT_S,))
            self._connection.execute(_GATHER, (call.key, call.attempt, name, digits, now))

    def gathered(self, call: CallRef) -> dict[str, str]:
        """What was pressed so far, by name."""
        with self._bounded():
            return dict(self._connection.execute(_GATHERED, (call.key, call.attempt)))

    def settle(self, key: str, attempt: int) -> None:
        """Forget what was pressed: the log has it now."""
        with self._bounded():
            self._connection.execute(_SETTLE, (key, attempt))

    def erase(self, run_ids: Sequence[str]) -> None:
        """Forget everything about the calls of these runs, in the write-ahead log, too, as soon as
        nobody else reads the file."""
        with self._bounded():
            for run_id in run_ids:
                for statement in _ERASE:
                    self._connection.execute(statement, (run_id,))
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Release the file; a second time changes nothing."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def _bounded(self) -> Iterator[None]:
        """One thread at a time, and errors by their name in this house."""
        with self._lock:
            try:
                yield
            except (sqlite3.Error, OSError) as error:
                told = told_of_file(self._path, error)
                problem = f"the table of calls {self._path} cannot be used: {told}"
                raise StoreUnavailable(problem) from None
