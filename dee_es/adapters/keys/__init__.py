"""Keys of contacts: in memory, in an SQLite file, or in PostgreSQL; always apart from the log."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from dee_es.adapters.keys.backup import BackupFile
from dee_es.adapters.keys.care import ManagedKeys
from dee_es.adapters.keys.cipher import KEY_BYTES, Wrapper
from dee_es.adapters.keys.holders import FileHolder, MasterHolder, MemoryHolder, TriedHolder
from dee_es.adapters.keys.key_table import KeyTable
from dee_es.adapters.keys.master import (
    MasterKey,
    create_master_key,
    load_master_key,
    new_master_key,
    parse_master_key,
)
from dee_es.adapters.keys.memory import MemoryKeyTable
from dee_es.adapters.keys.plain import PlainKeys
from dee_es.adapters.keys.source import KeySource
from dee_es.adapters.keys.sqlite import SqliteKeyTable
from dee_es.adapters.keys.vault import KeyVault

__all__ = [
    "open_memory_keys",
    "open_sqlite_keys",
    "open_postgres_keys",
    "secret_in_backup",
    "FileHolder",
    "KeyVault",
    "KeySource",
    "ManagedKeys",
    "MasterHolder",
    "MasterKey",
    "MemoryHolder",
    "NewSecret",
    "PlainKeys",
    "TriedHolder",
    "create_master_key",
    "load_master_key",
    "new_master_key",
    "parse_master_key",
]

NewSecret = Callable[[Wrapper], bytes]
"""Gives the secret of a new key store, wrapped."""


def open_memory_keys(source: KeySource = os.urandom) -> ManagedKeys:
    """A key store that is forgotten with the process, under a master key of its own."""
    holder = MemoryHolder(new_master_key(source), "memory", source)
    return ManagedKeys(MemoryKeyTable(), holder, source, _drawn(source))


def open_sqlite_keys(
    path: str | Path,
    master_key: MasterKey | MasterHolder,
    source: KeySource = os.urandom,
    *,
    create: bool = True,
    new_secret: NewSecret | None = None,
) -> ManagedKeys:
    """The key store in this file, made (mode 0600) if it does not exist and `create` is set.

    Raises `IntegrityViolation` for another master key than it was made with, `MasterKeyRotated` for
    one that was replaced, and `StoreUnavailable` if there is none or the file cannot be used within
    10 s.
    """
    table = SqliteKeyTable(path, create)
    return _open(table, master_key, source, create, new_secret)


def open_postgres_keys(
    url: str,
    master_key: MasterKey | MasterHolder,
    source: KeySource = os.urandom,
    *,
    create: bool = True,
    new_secret: NewSecret | None = None,
) -> ManagedKeys:
    """The key store in the database at this URL, whose tables are made if they do not exist; filled
    for the first time only if `create` is set.

    Raises `IntegrityViolation` for another master key than it was made with, `MasterKeyRotated` for
    one that was replaced, and `StoreUnavailable` if there is none or the server does not answer
    within bounded time.
    """
    # Imported late, since its driver costs more time than all the rest of this package.
    from dee_es.adapters.keys.postgres import PostgresKeyTable

    return _open(PostgresKeyTable(url), master_key, source, create, new_secret)


def secret_in_backup(path: str, master_key_file: str | None) -> NewSecret:
    """The secret of a backup, for the empty key store that it is brought back into."""

    def wrapped(wrapper: Wrapper) -> bytes:
        others = [] if master_key_file is None else [load_master_key(master_key_file)]
        wrappers = [wrapper, *(Wrapper(key.reveal()) for key in others)]
        with closing(BackupFile(Path(path), *wrappers)) as backup:
            return wrapper.wrap_secret(backup.secret)

    return wrapped


def _open(
    table: KeyTable,
    master_key: MasterKey | MasterHolder,
    source: KeySource,
    create: bool,
    new_secret: NewSecret | None,
) -> ManagedKeys:
    holder = master_key
    if isinstance(holder, MasterKey):
        holder = MemoryHolder(holder, "the master key given")
    try:
        return ManagedKeys(
            table, holder, source, (new_secret or _drawn(source)) if create else None
        )
    except BaseException:
        table.close()
        raise


def _drawn(source: KeySource) -> NewSecret:
    return lambda wrapper: wrapper.wrap_secret(source(KEY_BYTES))
