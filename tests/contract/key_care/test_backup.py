"""Backups of a key store: one contract for every kind."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from dee_es.adapters.keys import (
    FileHolder,
    ManagedKeys,
    new_master_key,
    open_sqlite_keys,
    postgres_sql,
)
from dee_es.adapters.keys.cipher import Wrapper
from dee_es.adapters.keys.postgres import PostgresKeyTable
from dee_es.errors import ConcurrencyConflict, IntegrityViolation, InvalidInput
from tests.support.storage.key_care import NOBODY
from tests.support.storage.keys import KeyPlace
from tests.support.storage.postgres import FreshPostgres


def test_a_backup_is_the_store_as_of_one_moment(
    keys: ManagedKeys, place: KeyPlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = keys.new_keys(20)
    keys.destroy(ids[2])
    path = tmp_path / "keys.backup"
    before = keys.describe()
    later: list[bytes] = []

    def meddle(done: int, total: int) -> None:
        if place.backend.on_disk and not later:
            later.extend(place.open().new_keys(5))
            keys.destroy(ids[19])

    table = type(keys._table)
    if place.backend.kind == "sqlite":
        # A destruction waits for readers of the file until its old row is gone from the log.
        monkeypatch.setattr(table, "_truncate", lambda *_: None)
    made = keys.backup(str(path), 1_700_000_000_000, meddle)
    assert (made.keys, made.destroyed) == (before.keys, 1)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in tmp_path.iterdir() if "backup" in file.name] == [path.name]
    with closing(sqlite3.connect(path)) as connection:
        rows = dict(connection.execute("SELECT key_id, wrapped FROM keys").fetchall())
    assert len(rows) == before.keys + 1
    assert rows[ids[2]] is None
    assert not set(later) & set(rows)
    wrapper = keys._era.wrapper
    assert all(wrapper.unwrap(k, w) is not None for k, w in rows.items() if w is not None)
    assert keys.describe().last_backup == made


def test_a_backup_replaces_only_a_backup(keys: ManagedKeys, tmp_path: Path) -> None:
    keys.new_keys(5)
    path = tmp_path / "keys.backup"
    first = keys.backup(str(path), 1)
    keys.new_keys(60)
    second = keys.backup(str(path), 2)
    assert second.keys > first.keys
    for name, content in (("text", b"precious"), ("empty", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InvalidInput, match="is no backup"):
            keys.backup(str(tmp_path / name), 3)
        assert (tmp_path / name).read_bytes() == content
    live = tmp_path / "live.db"
    with closing(open_sqlite_keys(live, new_master_key())) as other, pytest.raises(InvalidInput):
        other.backup(str(live), 3)
    with pytest.raises(InvalidInput, match="cannot be written"):
        keys.backup(str(tmp_path / "none" / "x"), 3)
    with pytest.raises(InvalidInput, match="dee keys restore"):
        open_sqlite_keys(path, new_master_key())


def test_a_link_in_the_way_of_a_backup_leads_nowhere(keys: ManagedKeys, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"of somebody else")
    (tmp_path / ".keys.backup.part").symlink_to(victim)
    with pytest.raises(InvalidInput, match="cannot be written"):
        keys.backup(str(tmp_path / "keys.backup"), 1)
    assert victim.read_bytes() == b"of somebody else"
    assert not (tmp_path / "keys.backup").exists()


def test_a_backup_that_does_not_read_back_does_not_count(
    keys: ManagedKeys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dee_es.adapters.keys import backup

    ids = keys.new_keys(10)
    path = tmp_path / "keys.backup"
    keys.backup(str(path), 1)
    before = path.read_bytes()
    read_back = backup._read_back

    def broken(row: tuple[bytes | None, bytes]) -> Callable[..., None]:
        def damaged(part: Path, wrapper: Wrapper, written: bytes) -> None:
            with closing(sqlite3.connect(part)) as connection, connection:
                connection.execute("UPDATE keys SET wrapped = ? WHERE key_id = ?", row)
            read_back(part, wrapper, written)

        return damaged

    for row in ((b"x" * 48, ids[0]), (None, ids[1])):
        monkeypatch.setattr(backup, "_read_back", broken(row))
        with pytest.raises(IntegrityViolation):
            keys.backup(str(path), 2)
        assert path.read_bytes() == before
        assert not list(tmp_path.glob(".*.part"))


def test_one_backup_of_a_name_at_a_time(keys: ManagedKeys, tmp_path: Path) -> None:
    keys.new_keys(5)
    path = tmp_path / "keys.backup"
    seen: list[str] = []

    def second(done: int, total: int) -> None:
        if not seen:
            with pytest.raises(ConcurrencyConflict, match="another backup") as caught:
                keys.backup(str(path), 1)
            seen.append(str(caught.value))
            keys.backup(str(tmp_path / "other"), 1)

    keys.backup(str(path), 1, second)
    assert seen


def test_a_rotation_during_a_backup_makes_it_void(
    disk_place: KeyPlace, holder: FileHolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dee_es.adapters.keys import backup

    disk_place.master = holder
    keys, other = disk_place.open(), disk_place.open()
    keys.new_keys(10)
    read_back = backup._read_back

    def rotated(*args: Any) -> None:
        other.rotate()
        read_back(*args)

    monkeypatch.setattr(backup, "_read_back", rotated)
    with pytest.raises(ConcurrencyConflict, match="rotated meanwhile"):
        keys.backup(str(tmp_path / "keys.backup"), 1)
    assert not (tmp_path / "keys.backup").exists()


def test_a_disk_that_takes_its_time_does_not_end_a_backup(
    fresh_postgres: FreshPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two pages, and behind the last one, what was read goes to a file."""
    hasty = "SET idle_in_transaction_session_timeout = '200ms'"
    monkeypatch.setattr(postgres_sql, "SETTINGS", f"{postgres_sql.SETTINGS}; {hasty}")
    table = PostgresKeyTable(fresh_postgres())
    assert table.insert([(b"k" * 16, b"wrapped")], 0)
    with table.snapshot() as snapshot:
        time.sleep(0.6)
        assert [*snapshot.pages] == [[(b"k" * 16, b"wrapped")]]
        time.sleep(0.6)
    table.close()


def test_a_backup_has_any_name_that_a_file_may_have(keys: ManagedKeys, tmp_path: Path) -> None:
    ids = keys.new_keys(4)
    for path in (f"{tmp_path}/a b?mode=rwc#1%41 ü漢", f"/{tmp_path}/keys.backup"):
        assert keys.backup(path, 1).keys >= len(ids)
        assert keys.restore(path, lambda: [NOBODY]).present >= len(ids)
    with pytest.raises(InvalidInput, match="cannot be written"):
        keys.backup(str(tmp_path / ("x" * 300)), 1)
    with pytest.raises(InvalidInput, match="there is no"):
        keys.restore(str(tmp_path / ("x" * 300)), lambda: [NOBODY])
