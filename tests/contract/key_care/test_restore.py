"""What a restore brings back, and what it refuses: one contract for every kind of key store."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from dee_es.adapters.keys import (
    FileHolder,
    ManagedKeys,
    MasterKey,
    create_master_key,
    new_master_key,
    open_memory_keys,
    open_sqlite_keys,
    secret_in_backup,
)
from dee_es.errors import IntegrityViolation, InvalidInput
from tests.support.files import files_open
from tests.support.storage.events import run
from tests.support.storage.key_care import (
    NOBODY,
    TEXT,
    open_from,
    opened_by,
    opens,
    put_back,
    sealed_by,
)
from tests.support.storage.keys import KeyPlace


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
    put_back(keys, place, ids[3], row)
    assert keys.decrypt(ids[3], run(), 1, sealed[3]) == TEXT
    done = keys.restore(str(path), list)
    assert (done.restored, done.destroyed) == (0, 1)
    assert keys.decrypt(ids[3], run(), 1, sealed[3]) is None


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
