"""What others do to a key store between two looks at it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from dee_es.adapters.keys import FileHolder, KeyVault, MemoryHolder, holders, new_master_key
from dee_es.adapters.keys.cipher import KEY_BYTES
from dee_es.adapters.keys.memory import MemoryKeyTable
from tests.support.storage.events import run

TEXT = b'{"email":"jane@example.com"}'


class WatchedTable(MemoryKeyTable):
    """Does something right after rows were read, before the reader has them."""

    meanwhile: Callable[[], object] | None = None

    def fetch(self, key_ids: Sequence[bytes]) -> Mapping[bytes, bytes | None]:
        found = super().fetch(key_ids)
        act, self.meanwhile = self.meanwhile, None
        if act is not None:
            act()
        return found


def test_a_key_that_was_read_before_its_destruction_is_not_kept() -> None:
    table = WatchedTable()
    holder = MemoryHolder(new_master_key(), "memory")
    vault = KeyVault(table, holder, os.urandom, lambda w: w.wrap_secret(os.urandom(KEY_BYTES)))
    key, other = vault.new_keys(2)
    sealed = vault.encrypt(key, run(), 1, TEXT)
    vault._cache.clear()

    def destroyed_elsewhere() -> None:
        table.destroy(key)
        vault.preload([other])  # another thread, which notices and forgets

    table.meanwhile = destroyed_elsewhere
    vault.preload([key])
    assert vault.decrypt(key, run(), 1, sealed) is None
    assert vault._cache.get(other)


def test_a_rotation_that_ends_at_another_place_meanwhile_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    holders.create_master_key(tmp_path / "key")
    holder = FileHolder(tmp_path / "key")
    staged = holder.successor(None)
    load = holders.load_master_key

    def settled_meanwhile(path: str | Path) -> object:
        if Path(path).name == "key.next" and Path(path).exists():
            os.replace(path, tmp_path / "key")
        return load(path)

    monkeypatch.setattr(holders, "load_master_key", settled_meanwhile)
    assert holder.pending() is None
    (tmp_path / "key.next").write_bytes((tmp_path / "key").read_bytes())
    os.chmod(tmp_path / "key.next", 0o600)
    holder.settle(staged)
    (now,) = holder.candidates()
    assert now.reveal() == staged.reveal()
