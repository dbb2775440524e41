"""Keys of contacts: in memory, in an SQLite file, or in PostgreSQL; always apart from the log."""

from __future__ import annotations

import os
from pathlib import Path

from dee_es.adapters.keys.master import (
    MasterKey,
    create_master_key,
    load_master_key,
    new_master_key,
    parse_master_key,
)
from dee_es.adapters.keys.memory import MemoryKeyTable
from dee_es.adapters.keys.source import KeySource, KeyTable
from dee_es.adapters.keys.sqlite import SqliteKeyTable
from dee_es.adapters.keys.vault import KeyVault

__all__ = [
    "open_memory_keys",
    "open_sqlite_keys",
    "open_postgres_keys",
    "KeyVault",
    "KeySource",
    "MasterKey",
    "create_master_key",
    "load_master_key",
    "new_master_key",
    "parse_master_key",
]


def open_memory_keys(source: KeySource = os.urandom) -> KeyVault:
    """A key store that is forgotten with the process, under a master key of its own."""
    return KeyVault(MemoryKeyTable(), new_master_key(source), source)


def open_sqlite_keys(
    path: str | Path, master_key: MasterKey, source: KeySource = os.urandom
) -> KeyVault:
    """The key store in this file, made (mode 0600) if it does not exist.

    Raises `IntegrityViolation` for another master key than it was made with, and
    `StoreUnavailable` if the file cannot be used within 10 s.
    """
    return _open(SqliteKeyTable(path), master_key, source)


def open_postgres_keys(url: str, master_key: MasterKey, source: KeySource = os.urandom) -> KeyVault:
    """The key store in the database at this URL, whose tables are made if they do not exist.

    Raises `IntegrityViolation` for another master key than it was made with, and
    `StoreUnavailable` if the server does not answer within bounded time.
    """
    # Imported late, since its driver costs more time than all the rest of this package.
    from dee_es.adapters.keys.postgres import PostgresKeyTable

    return _open(PostgresKeyTable(url), master_key, source)


def _open(table: KeyTable, master_key: MasterKey, source: KeySource) -> KeyVault:
    try:
        return KeyVault(table, master_key, source)
    except BaseException:
        table.close()
        raise
