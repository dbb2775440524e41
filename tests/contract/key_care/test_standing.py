"""What a key store says of its keys, and of being empty."""

from __future__ import annotations

from contextlib import suppress

import pytest

from dee_es.adapters.keys import ManagedKeys, open_sqlite_keys
from dee_es.errors import StoreUnavailable
from tests.support.processes.keys import small_pages
from tests.support.storage.keys import KeyPlace


def test_it_is_told_which_keys_are_held(keys: ManagedKeys) -> None:
    ids = keys.new_keys(3)
    keys.destroy(ids[1])
    assert keys.standing([*ids, b"?" * 16]) == {ids[0]: True, ids[1]: False, ids[2]: True}
    assert keys.standing([]) == {}
    state = keys.describe()
    assert (state.keys, state.destroyed, state.rotations) == (31, 1, 0)
    assert state.last_backup is None


def test_an_empty_store_is_not_taken_for_the_one_that_was_used(disk_place: KeyPlace) -> None:
    from dee_es.adapters.keys import open_postgres_keys

    opener = open_sqlite_keys if disk_place.backend.kind == "sqlite" else open_postgres_keys
    with pytest.raises(StoreUnavailable, match="dee keys restore"):
        opener(disk_place.backend.address, disk_place.master, create=False)
    disk_place.open()
    opener(disk_place.backend.address, disk_place.master, create=False).close()


def test_small_pages_are_small() -> None:
    """The tests of this folder, and those that kill, rest on it."""
    from dee_es.adapters.keys import sqlite

    before = sqlite.PAGE
    try:
        small_pages()
        assert sqlite.PAGE == 3
    finally:
        sqlite.PAGE = before  # type: ignore[misc]


def test_a_key_that_comes_without_its_bytes_is_never_a_key_for_a_moment(
    keys: ManagedKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is stopped while taking in a run without personal data can do it again."""
    key_id = bytes(range(16))

    def stopped(_: bytes) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, suppress(KeyboardInterrupt):
        patch.setattr(keys._table, "destroy", stopped)
        keys.adopt(key_id, None)
    assert keys.adopt(key_id, None)
    assert keys.reveal(key_id) is None
    assert not keys.adopt(key_id, bytes(32)), "what is destroyed does not come back"
