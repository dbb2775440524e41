"""`KeyStore`: one contract for keys in memory, in a file and in PostgreSQL."""

from __future__ import annotations

import hashlib
import random
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

from dee_es.adapters.keys import (
    KeySource,
    KeyVault,
    new_master_key,
    open_memory_keys,
    open_postgres_keys,
    open_sqlite_keys,
)
from dee_es.core.ids import length_prefixed
from dee_es.errors import IntegrityViolation, StoreUnavailable
from tests.support.storage.backends import Backend
from tests.support.storage.events import run
from tests.support.storage.keys import KeyPlace
from tests.support.storage.postgres import FreshPostgres
from tests.support.storage.writers import in_threads
from tests.support.system import SeededKeySource

TEXT = b'{"email":"jane@example.com"}'


@pytest.fixture
def keys(place: KeyPlace) -> KeyVault:
    """A new key store."""
    return place.open()


# --- making keys --------------------------------------------------------------------------------


def test_key_ids_are_16_bytes_and_never_the_same(keys: KeyVault) -> None:
    ids = [key for count in (0, 1, 3, 300, 1, 10_000) for key in keys.new_keys(count)]
    assert len(ids) == len(set(ids)) == 10_305
    assert {len(key) for key in ids} == {16}


def test_the_same_source_gives_the_same_keys_in_any_portions(place: KeyPlace) -> None:
    first = place.open(SeededKeySource(5))
    # A store in memory draws a master key of its own first, which on disk is given.
    skipped = place.backend.on_disk
    other = open_memory_keys(_after_zeros(SeededKeySource(5)) if skipped else SeededKeySource(5))
    ids = first.new_keys(700)
    assert [key for _ in range(70) for key in other.new_keys(10)] == ids
    sealed = [first.encrypt(key, run(), 1, TEXT) for key in ids[::50]]
    assert [other.encrypt(key, run(), 1, TEXT) for key in ids[::50]] == sealed


def _after_zeros(source: KeySource) -> KeySource:
    """Zeros for the first value, then the source from its beginning."""
    values = iter([bytes(32)])
    return lambda size: next(values, b"") or source(size)


def test_keys_are_durable_when_they_are_handed_out(disk_place: KeyPlace) -> None:
    keys, other = disk_place.open(), disk_place.open()
    for key in keys.new_keys(50):
        assert other.decrypt(key, run(), 1, keys.encrypt(key, run(), 1, TEXT)) == TEXT


def test_a_source_that_begins_anew_never_gives_a_key_again(disk_place: KeyPlace) -> None:
    first = disk_place.open(SeededKeySource(1)).new_keys(500)
    again = disk_place.open(SeededKeySource(1))
    later = again.new_keys(500)
    assert not set(first) & set(later)
    for key in (first[0], later[0], later[-1]):
        assert again.decrypt(key, run(), 1, again.encrypt(key, run(), 1, TEXT)) == TEXT


@pytest.mark.parametrize("count", [127, 128, 129, 300])
def test_as_many_keys_are_kept_as_are_drawn_at_once(disk_place: KeyPlace, count: int) -> None:
    keys = disk_place.open()
    drawn = keys.new_keys(count)
    assert len(set(drawn)) == count
    other = disk_place.open()
    kept = {other.reveal(key_id) for key_id in drawn}
    assert kept == {keys.reveal(key_id) for key_id in drawn}
    assert len(kept) == count


def test_a_source_that_only_repeats_itself_is_refused(place: KeyPlace) -> None:
    keys = place.open(lambda size: bytes(size))
    with pytest.raises(IntegrityViolation, match="repeats itself"):
        keys.new_keys(2)


def test_many_threads_get_different_keys(keys: KeyVault) -> None:
    def draw(number: int) -> list[bytes]:
        return [key for size in (1, 40, 7) * 10 for key in keys.new_keys(size + number)]

    every = [key for drawn in in_threads(draw, range(6)) for key in drawn]
    assert len(set(every)) == len(every)


# --- encryption ---------------------------------------------------------------------------------


def test_what_was_encrypted_is_decrypted(keys: KeyVault) -> None:
    key = keys.new_keys(1)[0]
    chance = random.Random(3)
    for version, size in enumerate([0, 1, 15, 16, 17, 1_000, 250_000], 1):
        text = chance.randbytes(size)
        sealed = keys.encrypt(key, "run_ü", version, text)
        assert len(sealed) == size + 16
        assert keys.decrypt(key, "run_ü", version, sealed) == text


def test_the_same_input_gives_the_same_bytes(disk_place: KeyPlace) -> None:
    keys, other = disk_place.open(), disk_place.open()
    key = keys.new_keys(1)[0]
    sealed = keys.encrypt(key, run(), 1, TEXT)
    assert keys.encrypt(key, run(), 1, TEXT) == sealed == other.encrypt(key, run(), 1, TEXT)
    assert keys.encrypt(key, run(), 2, TEXT) != sealed
    assert keys.encrypt(key, run(2), 1, TEXT) != sealed


def test_the_format_is_what_it_says(place: KeyPlace) -> None:
    drawn: list[bytes] = []

    def record(size: int, /) -> bytes:
        drawn.append(random.Random(len(drawn)).randbytes(size))
        return drawn[-1]

    keys = place.open(record)
    key_id = keys.new_keys(1)[0]
    key = b"".join(drawn).partition(key_id[4:])[2][:32]
    associated = length_prefixed((b"run_x", (7).to_bytes(8, "big")))
    nonce = hashlib.sha256(associated).digest()[:12]
    expected = AESGCMSIV(key).encrypt(nonce, TEXT, associated)
    assert keys.encrypt(key_id, "run_x", 7, TEXT) == expected


@pytest.mark.parametrize("change", ["stream", "version", "key", "bit", "cut", "longer", "empty"])
def test_what_is_not_what_was_encrypted_there_is_a_violation(keys: KeyVault, change: str) -> None:
    key, other = keys.new_keys(2)
    sealed = keys.encrypt(key, run(), 7, TEXT)
    stream = run(2) if change == "stream" else run()
    version = 8 if change == "version" else 7
    sealed = {
        "bit": sealed[:-1] + bytes([sealed[-1] ^ 1]),
        "cut": sealed[:-1],
        "longer": sealed + b"\0",
        "empty": b"",
    }.get(change, sealed)
    with pytest.raises(IntegrityViolation) as caught:
        keys.decrypt(other if change == "key" else key, stream, version, sealed)
    assert stream in str(caught.value)
    assert str(version) in str(caught.value)
    assert "jane" not in str(caught.value)


def test_an_unknown_key_is_a_violation(keys: KeyVault) -> None:
    with pytest.raises(IntegrityViolation, match="version 4"):
        keys.decrypt(b"?" * 16, run(), 4, bytes(40))
    with pytest.raises(IntegrityViolation, match="unknown"):
        keys.encrypt(b"?" * 16, run(), 4, TEXT)
    with pytest.raises(IntegrityViolation, match="unknown"):
        keys.destroy(b"?" * 16)


def test_preloading_fetches_what_there_is(disk_place: KeyPlace) -> None:
    keys, other = disk_place.open(), disk_place.open()
    ids = keys.new_keys(2_500)
    keys.destroy(ids[3])
    other.preload(iter([*ids, b"?" * 16, ids[0]]))
    other.preload([])
    sealed = [keys.encrypt(key, run(), 1, TEXT) for key in ids[4:]]
    assert {other.decrypt(k, run(), 1, s) for k, s in zip(ids[4:], sealed, strict=True)} == {TEXT}
    assert other.decrypt(ids[3], run(), 1, sealed[0]) is None


# --- destruction --------------------------------------------------------------------------------


def test_a_destroyed_key_decrypts_nothing(keys: KeyVault) -> None:
    key, kept = keys.new_keys(2)
    sealed, other = keys.encrypt(key, run(), 1, TEXT), keys.encrypt(kept, run(), 1, TEXT)
    keys.destroy(key)
    assert keys.decrypt(key, run(), 1, sealed) is None
    assert keys.decrypt(key, run(), 1, b"anything") is None
    assert keys.decrypt(kept, run(), 1, other) == TEXT
    keys.destroy(key)
    with pytest.raises(IntegrityViolation, match="destroyed"):
        keys.encrypt(key, run(), 2, TEXT)


def test_others_notice_the_destruction(
    disk_place: KeyPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys, preloading, waiting = disk_place.open(), disk_place.open(), disk_place.open()
    key = keys.new_keys(1)[0]
    sealed = keys.encrypt(key, run(), 1, TEXT)
    assert preloading.decrypt(key, run(), 1, sealed) == TEXT
    assert waiting.decrypt(key, run(), 1, sealed) == TEXT
    keys.destroy(key)
    preloading.preload([key])
    assert preloading.decrypt(key, run(), 1, sealed) is None
    # Without a preload it takes a second at most; here that second is over at once.
    monkeypatch.setattr("dee_es.adapters.keys.vault.STALE_AFTER_S", -1.0)
    assert waiting.decrypt(key, run(), 1, sealed) is None
    assert disk_place.open().decrypt(key, run(), 1, sealed) is None


def test_nothing_of_a_destroyed_key_stays_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "keys.db"
    keys = open_sqlite_keys(path, new_master_key(), SeededKeySource(1))
    doomed = keys.new_keys(40)[7]
    wrapped = keys._table.fetch([doomed])[doomed]
    assert wrapped is not None

    def held() -> bool:
        return any(wrapped in file.read_bytes() for file in tmp_path.iterdir())

    assert held()
    keys.destroy(doomed)
    assert not held()
    keys.close()
    assert not held()


# --- digests ------------------------------------------------------------------------------------


def test_digests_are_equal_for_equal_addresses_only(keys: KeyVault) -> None:
    digest = keys.digest("email", "jane@example.com")
    assert digest == keys.digest("email", "jane@example.com")
    assert len(bytes.fromhex(digest)) == 32
    others = [("phone", "jane@example.com"), ("email", "john@example.com")]
    others += [("emailj", "ane@example.com"), ("", "emailjane@example.com")]
    assert digest not in {keys.digest(*other) for other in others}


def test_digests_need_the_key_and_outlive_the_process(disk_place: KeyPlace) -> None:
    digest = disk_place.open().digest("email", "ü")
    assert disk_place.open(SeededKeySource(99)).digest("email", "ü") == digest
    other = open_memory_keys(SeededKeySource(77))
    assert other.digest("email", "ü") != digest
    message = length_prefixed((b"email", "ü".encode()))
    secret = SeededKeySource(0)(32)
    assert digest == hashlib.blake2b(message, key=secret, digest_size=32).hexdigest()


# --- the master key -----------------------------------------------------------------------------


def test_another_master_key_is_refused_at_the_door(disk_place: KeyPlace) -> None:
    keys = disk_place.open()
    key = keys.new_keys(1)[0]
    sealed = keys.encrypt(key, run(), 1, TEXT)
    with pytest.raises(IntegrityViolation, match="master key"):
        disk_place.open(master=new_master_key())
    assert disk_place.open().decrypt(key, run(), 1, sealed) == TEXT


def test_no_key_is_stored_in_the_clear(tmp_path: Path) -> None:
    drawn: list[bytes] = []
    source = SeededKeySource(4)

    def record(size: int, /) -> bytes:
        drawn.append(source(size))
        return drawn[-1]

    keys = open_sqlite_keys(tmp_path / "keys.db", new_master_key(), record)
    secrets = [keys.reveal(key_id) for key_id in keys.new_keys(10)]
    keys.close()
    stored = (tmp_path / "keys.db").read_bytes()
    # The store's own one, from which digests are made, is drawn by itself.
    secrets += [value for value in drawn if len(value) == 32]
    assert len(secrets) == 11
    assert all(secret and secret not in stored for secret in secrets)


def test_a_changed_row_is_a_violation(disk_place: KeyPlace) -> None:
    first, second = disk_place.open().new_keys(2)
    literal = "X'{}'" if disk_place.backend.kind == "sqlite" else "'\\x{}'::bytea"
    one, two = literal.format(first.hex()), literal.format(second.hex())
    disk_place.backend.raw(
        f"UPDATE keys SET wrapped = (SELECT wrapped FROM keys WHERE key_id = {two}) "
        f"WHERE key_id = {one}"
    )
    with pytest.raises(IntegrityViolation, match=first.hex()):
        disk_place.open().decrypt(first, run(), 1, bytes(40))


# --- availability -------------------------------------------------------------------------------


def test_several_open_a_new_store_at_once(disk_place: KeyPlace) -> None:
    opened = in_threads(lambda _: disk_place.open(), range(6))
    assert len({keys.digest("email", "jane") for keys in opened}) == 1


def test_a_closed_store_makes_and_finds_no_keys(place: KeyPlace) -> None:
    keys = place.open()
    key = keys.new_keys(1)[0]
    keys.close()
    with pytest.raises(StoreUnavailable):
        keys.new_keys(1)
    with pytest.raises(StoreUnavailable):
        keys.encrypt(key, run(), 1, TEXT)
    keys.close()


def test_a_lost_connection_is_opened_again(fresh_postgres: FreshPostgres) -> None:
    backend = Backend("postgres", fresh_postgres())
    keys = open_postgres_keys(backend.address, new_master_key())
    key = keys.new_keys(1)[0]
    sealed = keys.encrypt(key, run(), 1, TEXT)
    backend.raw(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    assert len(keys.new_keys(10_000)) == 10_000
    keys.preload([b"?" * 16])
    assert keys.decrypt(key, run(), 1, sealed) == TEXT
    keys.close()


def test_waiting_for_a_locked_file_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dee_es.adapters.keys.sqlite.BUSY_TIMEOUT_S", 0.2)
    keys = open_sqlite_keys(tmp_path / "keys.db", new_master_key())
    with closing(sqlite3.connect(tmp_path / "keys.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match=r"keys\.db"):
            keys.new_keys(1)
        other.execute("ROLLBACK")
    assert len(keys.new_keys(1)) == 1
    keys.close()


class _Interrupting:
    """A connection whose thread is interrupted as soon as a transaction has begun."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    @property
    def in_transaction(self) -> bool:
        return self._connection.in_transaction

    def execute(self, sql: str, *params: Any) -> sqlite3.Cursor:
        cursor = self._connection.execute(sql, *params)
        if sql.startswith("BEGIN"):
            raise KeyboardInterrupt
        return cursor


def test_who_is_interrupted_as_a_transaction_begins_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = open_sqlite_keys(tmp_path / "keys.db", new_master_key())
    table: Any = keys._table
    with monkeypatch.context() as patch:
        patch.setattr(table, "_connection", _Interrupting(table._connection))
        with pytest.raises(KeyboardInterrupt):
            keys.new_keys(1)
    assert len(keys.new_keys(1)) == 1
    keys.close()
