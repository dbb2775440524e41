"""What every SQLite file of ours has in common, beside the database that holds the log."""

from __future__ import annotations

import sqlite3
import time
from typing import Final

_PAUSE_S: Final = 0.01


def write_ahead(connection: sqlite3.Connection, timeout_s: float) -> None:
    """Switch the file to a write-ahead log, waiting for others that open it as well.

    SQLite itself gives up at once, whatever its busy timeout, when several connections switch
    a new file at the same moment. Raises `sqlite3.OperationalError` after `timeout_s` seconds.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE_S)
