"""What tests of rotation, backup and restore do with a key store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dee_es.adapters.keys import ManagedKeys, open_postgres_keys, open_sqlite_keys, secret_in_backup
from dee_es.adapters.keys.cipher import Wrapper
from tests.support.storage.events import run
from tests.support.storage.keys import KeyPlace

TEXT = b'{"email":"jane@example.com"}'
NOBODY: Sequence[bytes] = ()


def sealed_by(keys: ManagedKeys, ids: Sequence[bytes]) -> list[bytes]:
    return [keys.encrypt(key, run(), 1, TEXT) for key in ids]


def opened_by(
    keys: ManagedKeys, ids: Sequence[bytes], sealed: Sequence[bytes]
) -> list[bytes | None]:
    return [keys.decrypt(key, run(), 1, text) for key, text in zip(ids, sealed, strict=True)]


def opens(keys: ManagedKeys, ids: Sequence[bytes], wrapper: Wrapper) -> int:
    """How many stored rows the wrapper opens."""
    rows = keys._table.fetch(ids)
    return sum(w is not None and wrapper.unwrap(k, w) is not None for k, w in rows.items())


def open_from(place: KeyPlace, backup: Path, old: str | None = None) -> ManagedKeys:
    """An empty store that takes the backup's secret."""
    opener = open_sqlite_keys if place.backend.kind == "sqlite" else open_postgres_keys
    keys = opener(
        place.backend.address, place.master, new_secret=secret_in_backup(str(backup), old)
    )
    place._opened.append(keys)
    return keys


def put_back(keys: ManagedKeys, place: KeyPlace, key_id: bytes, row: bytes | None) -> None:
    """Write a stored row over the one that is there, past the key store."""
    assert row is not None
    if place.backend.kind == "memory":
        keys._table._rows[key_id] = row  # type: ignore[attr-defined]
    else:
        literal = "X'{}'" if place.backend.kind == "sqlite" else "'\\x{}'::bytea"
        one, two = literal.format(row.hex()), literal.format(key_id.hex())
        place.backend.raw(f"UPDATE keys SET wrapped = {one} WHERE key_id = {two}")
    keys._cache.clear()
