"""Rotation, backup and restore of a key store: one contract for every kind."""

from __future__ import annotations

import base64
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from dee_es.adapters.keys import (
    FileHolder,
    ManagedKeys,
    MasterKey,
    create_master_key,
    load_master_key,
    new_master_key,
    open_memory_keys,
    open_sqlite_keys,
    postgres_sql,
    secret_in_backup,
)
from dee_es.adapters.keys.cipher import Wrapper
from dee_es.adapters.keys.postgres import PostgresKeyTable
from dee_es.errors import (
    ConcurrencyConflict,
    IntegrityViolation,
    InvalidInput,
    MasterKeyRotated,
    StoreUnavailable,
)
from tests.support.files import files_open
from tests.support.processes.keys import small_pages
from tests.support.storage.events import run
from tests.support.storage.keys import KeyPlace
from tests.support.storage.postgres import FreshPostgres
from tests.support.storage.writers import in_threads
from tests.support.system import SeededKeySource

TEXT = b'{"email":"jane@example.com"}'
NOBODY: Sequence[bytes] = ()


@pytest.fixture(autouse=True)
def _pages_of_three(monkeypatch: pytest.MonkeyPatch) -> None:
    from dee_es.adapters.keys import memory, postgres, rotation, sqlite

    for module in (memory, postgres, rotation, sqlite):
        monkeypatch.setattr(module, "PAGE", 3)
    for module in (postgres, sqlite):
        monkeypatch.setattr(module, "CATCH_UP", 5)


@pytest.fixture
def holder(tmp_path: Path) -> FileHolder:
    """A master key in a file."""
    create_master_key(tmp_path / "master")
    return FileHolder(tmp_path / "master")


@pytest.fixture
def keys(place: KeyPlace, holder: FileHolder) -> ManagedKeys:
    """A new key store; on disk under a master key in a file."""
    place.master = holder
    return place.open()


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


# --- rotation -----------------------------------------------------------------------------------


def test_a_rotation_changes_the_master_key_and_nothing_else(
    keys: ManagedKeys, place: KeyPlace, holder: FileHolder
) -> None:
    ids = keys.new_keys(20)
    sealed = sealed_by(keys, ids)
    digest = keys.digest("email", "jane@example.com")
    keys.destroy(ids[3])
    old = keys._era.wrapper
    told: list[tuple[int, int]] = []
    done = keys.rotate(on_progress=lambda n, total: told.append((n, total)))
    assert (done.finished_only, done.keys) == (False, keys.describe().keys)
    assert told
    assert told == sorted(told)
    assert told[-1][0] == told[-1][1] == done.keys + 1
    assert opens(keys, ids, old) == 0
    assert opens(keys, ids, keys._era.wrapper) == 19
    keys._cache.clear()
    expected = [None if n == 3 else TEXT for n in range(20)]
    assert opened_by(keys, ids, sealed) == expected
    assert keys.digest("email", "jane@example.com") == digest
    later = keys.new_keys(100)
    assert opens(keys, later, keys._era.wrapper) == 100
    state = keys.describe()
    assert (state.rotations, state.rotating) == (1, False)
    if place.backend.on_disk:
        assert not done.moved
        other = place.open()
        assert opened_by(other, ids, sealed) == expected
        assert other.digest("email", "jane@example.com") == digest
        assert holder.candidates()[0].reveal() not in (old, b"")
        keys.rotate()
        assert keys.describe().rotations == 2


def test_who_holds_the_former_master_key_is_told_so(
    disk_place: KeyPlace, holder: FileHolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk_place.master = former = holder.candidates()[0]
    old, fresh, stale = disk_place.open(), disk_place.open(), disk_place.open()
    ids = old.new_keys(3)
    sealed = sealed_by(old, ids)
    assert opened_by(stale, ids, sealed) == [TEXT] * 3
    disk_place.open(master=holder).rotate()
    with pytest.raises(MasterKeyRotated, match="restart with the new one"):
        old.new_keys(1_000)
    for _ in range(2):
        with pytest.raises(MasterKeyRotated):
            fresh.decrypt(ids[0], run(), 1, sealed[0])
        with pytest.raises(MasterKeyRotated):
            fresh.reveal(ids[0])
        with pytest.raises(MasterKeyRotated):
            fresh.preload(ids)
    monkeypatch.setattr("dee_es.adapters.keys.vault.STALE_AFTER_S", -1.0)
    with pytest.raises(MasterKeyRotated):
        stale.decrypt(ids[0], run(), 1, sealed[0])
    with pytest.raises(MasterKeyRotated):
        disk_place.open(master=former)
    with pytest.raises(IntegrityViolation, match="not the one"):
        disk_place.open(master=new_master_key())
    # Destroying needs no master key, and is never refused.
    old.destroy(ids[1])
    new = disk_place.open(master=holder)
    assert opened_by(new, ids, sealed) == [TEXT, None, TEXT]
    held, _ = new._table.counts()
    with new._table.snapshot() as snapshot:
        rows = [row for page in snapshot.pages for row in page]
    assert sum(w is not None and new._era.wrapper.unwrap(k, w) is not None for k, w in rows) == held


def test_what_is_made_and_destroyed_meanwhile_is_not_lost(
    disk_place: KeyPlace, holder: FileHolder
) -> None:
    disk_place.master = holder
    keys, other = disk_place.open(), disk_place.open()
    ids = sorted(keys.new_keys(30))
    sealed = sealed_by(keys, ids)
    made: list[bytes] = []
    doomed = [ids[0], ids[-1], ids[15]]
    left = list(doomed)

    def meddle(done: int, total: int) -> None:
        if left:
            made.extend(other.new_keys(40))
            other.destroy(left.pop(0))

    keys.rotate(on_progress=meddle)
    assert not left
    keys._cache.clear()
    assert opened_by(keys, ids, sealed) == [None if k in doomed else TEXT for k in ids]
    assert opens(keys, made, keys._era.wrapper) == len(made) > 100
    assert keys.describe().destroyed == 3


def test_a_rotation_while_threads_and_others_work(disk_place: KeyPlace, holder: FileHolder) -> None:
    disk_place.master = holder
    keys, other = disk_place.open(), disk_place.open()

    def work(who: int) -> list[tuple[bytes, bytes]]:
        kept: list[tuple[bytes, bytes]] = []
        if who == 0:
            for _ in range(3):
                keys.rotate()
            return kept
        mine = other if who == 3 else keys
        for _ in range(60):
            try:
                mine._chunk = 4
                (key,) = mine.new_keys(1)
                mine._cache.clear()
                kept.append((key, mine.encrypt(key, run(), 1, TEXT)))
            except MasterKeyRotated:
                assert who == 3
                break
        return kept

    found = [pair for each in in_threads(work, range(4)) for pair in each]
    assert len(found) >= 120
    again = disk_place.open()
    assert {again.decrypt(key, run(), 1, text) for key, text in found} == {TEXT}
    assert again.describe().rotations == 3


def test_a_key_of_ones_own_and_a_file_of_ones_own(
    keys: ManagedKeys, place: KeyPlace, tmp_path: Path
) -> None:
    given = base64.b64encode(bytes(range(32))).decode()
    keys.rotate(given)
    assert keys._era.wrapper.fingerprint == Wrapper(bytes(range(32))).fingerprint
    with pytest.raises(InvalidInput, match="already"):
        keys.rotate(given)
    path = tmp_path / "other.key"
    done = keys.rotate(None, str(path))
    assert done.moved
    assert str(path) in done.master
    assert path.stat().st_mode & 0o777 == 0o600
    assert keys.rotate(None, str(path)).finished_only
    with pytest.raises(InvalidInput, match="was the master key before"):
        keys.rotate(given)
    with pytest.raises(InvalidInput, match="is not the one that is in"):
        keys.rotate(base64.b64encode(b"n" * 32).decode(), str(path))
    assert not list(tmp_path.glob("*.next"))
    with pytest.raises(InvalidInput, match="new master key"):
        keys.rotate("no key")
    assert keys.describe().rotations == 2
    if place.backend.on_disk:
        place.open(master=load_master_key(path))


def test_a_given_master_key_cannot_be_replaced_where_it_is(disk_place: KeyPlace) -> None:
    keys = disk_place.open()
    with pytest.raises(InvalidInput, match="name a file"):
        keys.rotate()
    assert keys.describe().rotations == 0


def test_two_rotations_to_different_keys_do_not_mix(disk_place: KeyPlace) -> None:
    one, two = disk_place.open(), disk_place.open()
    ids = one.new_keys(20)
    texts = [base64.b64encode(bytes([n]) * 32).decode() for n in (1, 2)]

    def rival(done: int, total: int) -> None:
        if done == 6:
            two._table.begin(Wrapper(b"\2" * 32).fingerprint, 0)

    with pytest.raises(ConcurrencyConflict, match="another rotation"):
        one.rotate(texts[0], on_progress=rival)
    two.rotate(texts[1])
    assert opens(two, ids, Wrapper(b"\2" * 32)) == 20
    with pytest.raises(MasterKeyRotated):
        one.rotate(texts[0])


def test_two_who_rotate_to_the_same_key_help_each_other(
    disk_place: KeyPlace, holder: FileHolder
) -> None:
    disk_place.master = holder
    one, two = disk_place.open(), disk_place.open()
    ids = one.new_keys(20)
    helped = False

    def helper(done: int, total: int) -> None:
        nonlocal helped
        if not helped:
            helped = True
            two.rotate()

    one.rotate(on_progress=helper)
    assert one.describe().rotations == two.describe().rotations == 1
    assert opens(one, ids, one._era.wrapper) == 20
    assert len(holder.candidates()) == 1


def test_two_who_begin_a_rotation_at_one_moment_do_the_same_one(tmp_path: Path) -> None:
    """Who came second was told that the next master key is in the way, as if it had to go."""
    path = tmp_path / "master"
    create_master_key(path)
    first: list[MasterKey] = []

    def source(size: int) -> bytes:
        first.append(FileHolder(path).successor(None))
        return os.urandom(size)

    second = FileHolder(path, source).successor(None)
    assert [key.reveal() for key in first] == [second.reveal()]


def test_a_changed_row_stops_a_rotation_and_nothing_is_lost(
    disk_place: KeyPlace, holder: FileHolder
) -> None:
    disk_place.master = holder
    keys = disk_place.open()
    ids = keys.new_keys(10)
    sealed = sealed_by(keys, ids)
    literal = "X'{}'" if disk_place.backend.kind == "sqlite" else "'\\x{}'::bytea"
    row = literal.format(ids[4].hex())
    disk_place.backend.raw(f"UPDATE keys SET wrapped = {row} WHERE key_id = {row}")
    with pytest.raises(IntegrityViolation, match=ids[4].hex()):
        keys.rotate()
    again = disk_place.open()
    assert again.describe().rotating
    assert again.decrypt(ids[0], run(), 1, sealed[0]) == TEXT
    again.destroy(ids[4])
    again.rotate()
    assert again.describe().rotations == 1
    assert not again.describe().rotating


def test_no_old_wrapping_is_left_in_any_file(tmp_path: Path, holder: FileHolder) -> None:
    keys = open_sqlite_keys(tmp_path / "keys.db", holder, SeededKeySource(1))
    other = open_sqlite_keys(tmp_path / "keys.db", holder, SeededKeySource(2))
    ids = keys.new_keys(400)
    wrapped = [w for w in keys._table.fetch(ids).values() if w is not None]
    wrapped.append(keys._table.opening(None).secret or b"?")
    master = holder.candidates()[0].reveal()

    def held() -> int:
        files = [file.read_bytes() for file in tmp_path.iterdir() if file.is_file()]
        secrets = [*wrapped, base64.b64encode(master)]
        return sum(any(each in file for file in files) for each in secrets)

    assert held() == 402
    keys.rotate()
    assert held() == 0
    other.close()
    keys.close()
    assert held() == 0


# --- backup -------------------------------------------------------------------------------------


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


# --- restore ------------------------------------------------------------------------------------


@pytest.fixture
def another(disk_place: KeyPlace, tmp_path: Path, fresh_postgres: FreshPostgres) -> KeyPlace:
    """Another, empty place of the same kind, under the same master key."""
    from dataclasses import replace

    kind = disk_place.backend.kind
    address = str(tmp_path / "again.db") if kind == "sqlite" else fresh_postgres()
    return KeyPlace(replace(disk_place.backend, address=address), disk_place.master)


def open_from(place: KeyPlace, backup: Path, old: str | None = None) -> ManagedKeys:
    """An empty store that takes the backup's secret."""
    from dee_es.adapters.keys import open_postgres_keys

    opener = open_sqlite_keys if place.backend.kind == "sqlite" else open_postgres_keys
    keys = opener(
        place.backend.address, place.master, new_secret=secret_in_backup(str(backup), old)
    )
    place._opened.append(keys)
    return keys


def test_a_restore_into_nothing_brings_everything_back_but_the_erased(
    disk_place: KeyPlace, another: KeyPlace, tmp_path: Path
) -> None:
    keys = disk_place.open()
    ids = keys.new_keys(20)
    sealed = sealed_by(keys, ids)
    keys.destroy(ids[0])
    path = tmp_path / "keys.backup"
    held = keys.backup(str(path), 1).keys
    # Erased after the backup: the log says so, and whoever has the backup still has the key.
    erased = [ids[5], ids[6], b"never here......"]
    new = open_from(another, path)
    told: list[tuple[int, int]] = []
    done = new.restore(
        str(path), lambda: [erased[:2], erased[2:], []], None, lambda *p: told.append(p)
    )
    # Those that were erased are destroyed here, which is not to be here.
    assert (done.restored, done.present, done.destroyed) == (held - 2, 0, 4)
    assert told[-1][0] == told[-1][1]
    gone = {ids[0], ids[5], ids[6]}
    assert opened_by(new, ids, sealed) == [None if key in gone else TEXT for key in ids]
    assert new.digest("email", "jane") == keys.digest("email", "jane")
    again = new.restore(str(path), lambda: [erased])
    assert (again.restored, again.destroyed) == (0, 0)
    assert another.open().decrypt(ids[7], run(), 1, sealed[7]) == TEXT
    another.close()


def test_a_restore_overwrites_and_resurrects_nothing(keys: ManagedKeys, tmp_path: Path) -> None:
    ids = keys.new_keys(10)
    sealed = sealed_by(keys, ids)
    path = tmp_path / "keys.backup"
    keys.backup(str(path), 1)
    keys.destroy(ids[1])
    later = keys.new_keys(40)
    before = keys._table.fetch([*ids, *later])
    done = keys.restore(str(path), lambda: [[ids[1]], [ids[2]]])
    assert (done.restored, done.destroyed) == (0, 1)
    after = keys._table.fetch([*ids, *later])
    assert after == {**before, ids[2]: None}
    assert opened_by(keys, ids[:4], sealed[:4]) == [TEXT, None, None, TEXT]


def test_what_the_backup_says_was_destroyed_is_destroyed(
    keys: ManagedKeys, tmp_path: Path, place: KeyPlace
) -> None:
    """An older copy of the store was put back; its backup knows of a later destruction."""
    ids = keys.new_keys(10)
    sealed = sealed_by(keys, ids)
    path = tmp_path / "keys.backup"
    row = keys._table.fetch([ids[3]])[ids[3]]
    keys.destroy(ids[3])
    keys.backup(str(path), 1)
    _put_back(keys, place, ids[3], row)
    assert keys.decrypt(ids[3], run(), 1, sealed[3]) == TEXT
    done = keys.restore(str(path), list)
    assert (done.restored, done.destroyed) == (0, 1)
    assert keys.decrypt(ids[3], run(), 1, sealed[3]) is None


def _put_back(keys: ManagedKeys, place: KeyPlace, key_id: bytes, row: bytes | None) -> None:
    assert row is not None
    if place.backend.kind == "memory":
        keys._table._rows[key_id] = row  # type: ignore[attr-defined]
    else:
        literal = "X'{}'" if place.backend.kind == "sqlite" else "'\\x{}'::bytea"
        one, two = literal.format(row.hex()), literal.format(key_id.hex())
        place.backend.raw(f"UPDATE keys SET wrapped = {one} WHERE key_id = {two}")
    keys._cache.clear()


def test_an_erasure_during_a_restore_counts(
    disk_place: KeyPlace, another: KeyPlace, tmp_path: Path
) -> None:
    keys = disk_place.open()
    ids = keys.new_keys(10)
    sealed = sealed_by(keys, ids)
    path = tmp_path / "keys.backup"
    keys.backup(str(path), 1)
    new = open_from(another, path)
    looks: list[int] = []

    def erased() -> Iterator[list[bytes]]:
        looks.append(1)
        yield [] if len(looks) == 1 else [ids[4]]

    new.restore(str(path), erased)
    assert opened_by(new, ids[3:6], sealed[3:6]) == [TEXT, None, TEXT]
    another.close()


def test_what_is_no_backup_of_this_store_is_refused(
    keys: ManagedKeys, place: KeyPlace, tmp_path: Path
) -> None:
    ids = keys.new_keys(5)
    path = tmp_path / "keys.backup"
    keys.backup(str(path), 1)
    before = keys._table.fetch(ids)

    def refused(file: Path, match: str, old: str | None = None) -> None:
        with pytest.raises(InvalidInput, match=match):
            keys.restore(str(file), lambda: [ids], old)
        assert keys._table.fetch(ids) == before

    refused(tmp_path / "none", "there is no")
    (tmp_path / "text").write_text("this is not a database" * 100)
    refused(tmp_path / "text", "no backup")
    with closing(open_memory_keys()) as other:
        other.backup(str(tmp_path / "other"), 1)
    refused(tmp_path / "other", "another master key")
    create_master_key(tmp_path / "old", key=MasterKey(b"o" * 32))
    refused(tmp_path / "other", "another master key", str(tmp_path / "old"))
    theirs = open_sqlite_keys(tmp_path / "theirs.db", keys._holder.candidates()[0])
    with closing(theirs):
        theirs.backup(str(tmp_path / "theirs"), 1)
    refused(tmp_path / "theirs", "of another key store")


def test_a_damaged_backup_changes_nothing(keys: ManagedKeys, tmp_path: Path) -> None:
    ids = keys.new_keys(10)
    path = tmp_path / "keys.backup"
    keys.backup(str(path), 1)
    before = keys._table.fetch(ids)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE keys SET wrapped = ? WHERE key_id = ?", (b"x" * 48, max(ids)))
    with pytest.raises(IntegrityViolation, match=max(ids).hex()):
        keys.restore(str(path), lambda: [ids])
    assert keys._table.fetch(ids) == before


def test_a_backup_from_before_a_rotation_needs_the_master_key_of_then(
    disk_place: KeyPlace, holder: FileHolder, another: KeyPlace, tmp_path: Path
) -> None:
    disk_place.master = holder
    keys = disk_place.open()
    ids = keys.new_keys(10)
    sealed = sealed_by(keys, ids)
    path, old = tmp_path / "keys.backup", tmp_path / "old"
    keys.backup(str(path), 1)
    shutil.copy(tmp_path / "master", old)
    keys.rotate()
    with pytest.raises(InvalidInput, match="another master key"):
        keys.restore(str(path), list)
    another.master = holder
    new = open_from(another, path, str(old))
    assert new.restore(str(path), lambda: [[ids[0]]], str(old)).restored > 5
    assert opened_by(new, ids, sealed) == [None, *[TEXT] * 9]
    assert opens(new, ids, keys._era.wrapper) == 9
    another.close()


def test_a_plain_copy_of_the_file_will_do(tmp_path: Path) -> None:
    master = new_master_key()
    keys = open_sqlite_keys(tmp_path / "keys.db", master)
    ids = keys.new_keys(5)
    sealed = sealed_by(keys, ids)
    keys.close()
    shutil.copy(tmp_path / "keys.db", tmp_path / "copy.db")
    (tmp_path / "keys.db").unlink()
    seed = secret_in_backup(str(tmp_path / "copy.db"), None)
    new = open_sqlite_keys(tmp_path / "keys.db", master, new_secret=seed)
    new.restore(str(tmp_path / "copy.db"), list)
    assert opened_by(new, ids, sealed) == [TEXT] * 5
    new.close()


# --- what is known ------------------------------------------------------------------------------


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
    """The tests of this file and of those that kill rest on it."""
    from dee_es.adapters.keys import sqlite

    before = sqlite.PAGE
    try:
        small_pages()
        assert sqlite.PAGE == 3
    finally:
        sqlite.PAGE = before  # type: ignore[misc]


def test_a_store_from_before_there_were_rotations_opens_and_rotates(
    tmp_path: Path, holder: FileHolder
) -> None:
    path = tmp_path / "keys.db"
    keys = open_sqlite_keys(path, holder)
    ids = keys.new_keys(5)
    sealed = sealed_by(keys, ids)
    keys.close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DROP TABLE key_stage")
        connection.execute("DELETE FROM key_meta WHERE name = 'generation'")
    again = open_sqlite_keys(path, holder, create=False)
    again.rotate()
    assert opened_by(again, ids, sealed) == [TEXT] * 5
    again.close()


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


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM keys WHERE key_id = (SELECT max(key_id) FROM keys)",
        "UPDATE keys SET wrapped = NULL WHERE key_id = (SELECT max(key_id) FROM keys)",
        "UPDATE keys SET wrapped = 7 WHERE key_id = (SELECT max(key_id) FROM keys)",
        "INSERT INTO keys VALUES (7, NULL)",
        "INSERT INTO keys VALUES (x'00', NULL)",
        "INSERT INTO keys VALUES (CAST(x'ff00' AS TEXT), NULL)",
        "UPDATE key_meta SET value = x'00' WHERE name = 'backup'",
        "UPDATE key_meta SET value = 1000000000000 WHERE name = 'secret'",
        "UPDATE key_meta SET value = 'x' WHERE name = 'generation'",
        "UPDATE key_meta SET value = 9e999 WHERE name = 'generation'",
        "DROP TABLE keys",
        "DROP TABLE keys; CREATE VIEW keys AS SELECT randomblob(16) AS key_id, NULL AS wrapped",
    ],
)
def test_a_backup_that_lost_or_changed_rows_brings_nothing_back(
    keys: ManagedKeys, tmp_path: Path, damage: str
) -> None:
    ids = keys.new_keys(10)
    path = tmp_path / "keys.backup"
    keys.backup(str(path), 1)
    before = keys._table.fetch(ids)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(damage)
    with pytest.raises((IntegrityViolation, InvalidInput)) as refused:
        keys.restore(str(path), lambda: [ids[:1]])
    assert str(path) in str(refused.value)
    assert str(path) not in files_open(), "it was let go of, although the error is still at hand"
    assert keys._table.fetch(ids) == before


def test_a_backup_with_a_page_that_cannot_be_read_is_refused(
    keys: ManagedKeys, tmp_path: Path
) -> None:
    ids = keys.new_keys(500)
    path = tmp_path / "keys.backup"
    keys.backup(str(path), 1)
    content = bytearray(path.read_bytes())
    # The table's root stays, and what it leads to is nonsense.
    at = content.index(max(ids)) // 4096 * 4096
    content[at : at + 8] = b"\xff" * 8
    path.write_bytes(content)
    with pytest.raises((IntegrityViolation, InvalidInput), match=r"damaged|no backup"):
        keys.restore(str(path), lambda: [NOBODY])


def test_a_backup_of_a_former_version_has_no_digest_and_will_do(
    keys: ManagedKeys, tmp_path: Path
) -> None:
    ids = keys.new_keys(4)
    path = tmp_path / "keys.backup"
    keys.backup(str(path), 1)
    with closing(sqlite3.connect(path)) as connection, connection:
        label = b'{"format":"dee-keys/1","taken_ms":1,"of":"x"}'
        connection.execute("UPDATE key_meta SET value = ? WHERE name = 'backup'", (label,))
    assert keys.restore(str(path), lambda: [NOBODY]).present >= len(ids)


def test_a_plain_copy_that_lost_a_row_is_refused(tmp_path: Path) -> None:
    """It has no digest of its rows; that its pages do not add up is seen all the same."""
    master = new_master_key()
    copy = tmp_path / "copy.db"
    with closing(open_sqlite_keys(tmp_path / "keys.db", master)) as keys:
        ids = keys.new_keys(10)
        with (
            closing(sqlite3.connect(tmp_path / "keys.db")) as connection,
            closing(sqlite3.connect(copy)) as other,
        ):
            connection.backup(other)
        content = bytearray(copy.read_bytes())
        page = content.index(max(ids)) // 4096 * 4096
        # Two bytes of a page's head say how many rows it has.
        content[page + 4] -= 1
        copy.write_bytes(content)
        before = keys._table.fetch(ids)
        with pytest.raises(IntegrityViolation, match="is damaged"):
            keys.restore(str(copy), lambda: [ids[:1]])
        assert keys._table.fetch(ids) == before


def test_a_plain_copy_has_tables_and_nothing_that_looks_like_them(tmp_path: Path) -> None:
    """What is read twice has to be the same both times."""
    with closing(open_sqlite_keys(tmp_path / "keys.db", new_master_key())) as keys:
        ids = keys.new_keys(10)
        copy = tmp_path / "copy.db"
        with (
            closing(sqlite3.connect(tmp_path / "keys.db")) as connection,
            closing(sqlite3.connect(copy)) as other,
        ):
            connection.backup(other)
            other.executescript(
                "ALTER TABLE keys RENAME TO held;"
                "CREATE VIEW keys AS SELECT key_id, CASE WHEN random() % 2 THEN wrapped END AS "
                "wrapped FROM held"
            )
        with pytest.raises(InvalidInput, match="is no backup of keys"):
            keys.restore(str(copy), list)
        assert None not in keys._table.fetch(ids).values()


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


def test_a_backup_has_any_name_that_a_file_may_have(keys: ManagedKeys, tmp_path: Path) -> None:
    ids = keys.new_keys(4)
    for path in (f"{tmp_path}/a b?mode=rwc#1%41 ü漢", f"/{tmp_path}/keys.backup"):
        assert keys.backup(path, 1).keys >= len(ids)
        assert keys.restore(path, lambda: [NOBODY]).present >= len(ids)
    with pytest.raises(InvalidInput, match="cannot be written"):
        keys.backup(str(tmp_path / ("x" * 300)), 1)
    with pytest.raises(InvalidInput, match="there is no"):
        keys.restore(str(tmp_path / ("x" * 300)), lambda: [NOBODY])
