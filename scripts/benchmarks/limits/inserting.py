"""The limit of writing to SQLite: `executemany` of exactly the rows that the engine wrote.

The rows of every table of the engine's database are written again into a new file with the same
tables and indexes and the same settings (write-ahead log, `synchronous` FULL), in as many
transactions. Only the inserts and the commits are timed. The key store, a file of its own, is
not written.
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any


def insert_again(source: Path, target: Path, commits: int) -> float:
    """Write all rows of the database `source` into the new file `target`; returns seconds."""
    with closing(sqlite3.connect(source)) as engine, closing(_made(engine, target)) as own:
        parts = []
        for (table,) in engine.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        ).fetchall():
            rows: list[tuple[Any, ...]] = engine.execute(f'SELECT * FROM "{table}"').fetchall()
            if rows:
                holes = ", ".join("?" * len(rows[0]))
                parts.append((f'INSERT INTO "{table}" VALUES ({holes})', rows))
        start = time.perf_counter()
        for n in range(commits):
            own.execute("BEGIN IMMEDIATE")
            for statement, rows in parts:
                some = rows[n * len(rows) // commits : (n + 1) * len(rows) // commits]
                if some:
                    own.executemany(statement, some)
            own.execute("COMMIT")
        return time.perf_counter() - start


def _made(engine: sqlite3.Connection, target: Path) -> sqlite3.Connection:
    own = sqlite3.connect(target, isolation_level=None)
    own.execute("PRAGMA journal_mode = WAL")
    own.execute("PRAGMA synchronous = FULL")
    own.execute(f"PRAGMA page_size = {engine.execute('PRAGMA page_size').fetchone()[0]}")
    for (statement,) in engine.execute(
        "SELECT sql FROM sqlite_master WHERE type IN ('table', 'index') AND sql IS NOT NULL "
        "AND name NOT LIKE 'sqlite_%' ORDER BY type DESC"
    ).fetchall():
        own.execute(statement)
    return own
