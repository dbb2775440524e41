"""Rotation of the master key: one contract for every kind of key store."""

from __future__ import annotations

import base64
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from dee_es.adapters.keys import (
    FileHolder,
    ManagedKeys,
    MasterKey,
    create_master_key,
    load_master_key,
    new_master_key,
    open_sqlite_keys,
)
from dee_es.adapters.keys.cipher import Wrapper
from dee_es.errors import ConcurrencyConflict, IntegrityViolation, InvalidInput, MasterKeyRotated
from tests.support.storage.events import run
from tests.support.storage.key_care import TEXT, opened_by, opens, sealed_by
from tests.support.storage.keys import KeyPlace
from tests.support.storage.writers import in_threads
from tests.support.system import SeededKeySource


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
