"""SQLite: one file beside the program, several threads and processes, one writer at a time."""

from dee_es.adapters.storage.sqlite.store import SqliteStore, SqliteViews, open_sqlite

__all__ = ["SqliteStore", "SqliteViews", "open_sqlite"]
