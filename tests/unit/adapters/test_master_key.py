"""The master key's file and text: private, complete, and never shown."""

from __future__ import annotations

import base64
import os
import traceback
from pathlib import Path

import pytest

from dee_es import Engine, EngineConfig
from dee_es.adapters.keys import (
    FileHolder,
    MasterKey,
    MemoryHolder,
    create_master_key,
    load_master_key,
    open_postgres_keys,
    open_sqlite_keys,
    parse_master_key,
)
from dee_es.errors import InvalidInput, StoreUnavailable
from tests.support.system import SeededKeySource


def test_a_created_key_is_private_and_can_be_loaded(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    key = create_master_key(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_master_key(path).reveal() == key.reveal()
    assert parse_master_key(path.read_text()).reveal() == key.reveal()
    assert [p.name for p in tmp_path.iterdir()] == ["master.key"]


def test_a_key_comes_from_the_source_it_is_given(tmp_path: Path) -> None:
    key = create_master_key(tmp_path / "key", SeededKeySource(1))
    assert key.reveal() == SeededKeySource(1)(32)


def test_an_existing_file_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    create_master_key(path)
    before = path.read_bytes()
    with pytest.raises(InvalidInput, match="exists"):
        create_master_key(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["master.key"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o610])
def test_a_file_that_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "master.key"
    create_master_key(path)
    path.chmod(mode)
    with pytest.raises(InvalidInput, match=f"{mode:04o}"):
        load_master_key(path)


def test_a_file_only_its_owner_may_read_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    create_master_key(path)
    path.chmod(0o400)
    load_master_key(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path, tmp_path / "none" / "key"):
        with pytest.raises(InvalidInput, match="master key file"):
            load_master_key(path)
    with pytest.raises(InvalidInput, match="cannot be written"):
        create_master_key(tmp_path / "none" / "key")


@pytest.mark.parametrize(
    "text",
    ["", "secret-but-no-key", base64.b64encode(bytes(31)).decode(), "A" * 43 + "!", "ü" * 44],
)
def test_text_that_is_no_key_is_refused_and_not_shown(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidInput, match="DEE_MASTER_KEY") as caught:
        parse_master_key(text)
    shown = "".join(traceback.format_exception_only(caught.value)) + repr(caught.value)
    assert not text or text not in shown
    path = tmp_path / "key"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(InvalidInput):
        load_master_key(path)


def test_a_key_does_not_show_itself() -> None:
    key = MasterKey(b"secretsecretsecretsecretsecret!!")
    assert "secret" not in f"{key} {key!r} {[key]}"
    with pytest.raises(InvalidInput):
        MasterKey(b"short")


def test_a_key_store_that_cannot_be_opened_names_itself_without_its_password(
    tmp_path: Path,
) -> None:
    key = MasterKey(os.urandom(32))
    with pytest.raises(StoreUnavailable, match=str(tmp_path)):
        open_sqlite_keys(tmp_path, key)
    other = tmp_path / "other"
    other.write_text("this is not a database, but long enough to be looked at as one" * 20)
    with pytest.raises(StoreUnavailable, match="other"):
        open_sqlite_keys(other, key)
    for url, error in [
        ("postgresql://me:hunter2@127.0.0.1:1/keys", StoreUnavailable),
        ("postgresql//me:hunter2@host/keys", InvalidInput),
        ("postgresql://me:hunter2@host:port:x/keys?what=hunter2", InvalidInput),
    ]:
        with pytest.raises(error) as caught:
            open_postgres_keys(url, key)
        assert "hunter2" not in "".join(traceback.format_exception(caught.value))


# --- where it is kept, and how the next one takes its place ------------------------------------


def test_the_next_key_lies_beside_until_it_is_settled(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    first = create_master_key(path)
    holder = FileHolder(path, SeededKeySource(1))
    following = holder.successor(None)
    assert [key.reveal() for key in holder.candidates()] == [first.reveal(), following.reveal()]
    assert (tmp_path / "master.key.next").stat().st_mode & 0o777 == 0o600
    assert holder.successor(None).reveal() == following.reveal()
    with pytest.raises(InvalidInput, match="not finished"):
        holder.successor(MasterKey(b"x" * 32))
    holder.settle(first)
    assert load_master_key(path).reveal() == first.reveal()
    holder.settle(following)
    holder.settle(following)
    assert load_master_key(path).reveal() == following.reveal()
    assert [p.name for p in tmp_path.iterdir()] == ["master.key"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    create_master_key(tmp_path / "real" / "key")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "real" / "key")
    holder = FileHolder(link)
    key = holder.successor(MasterKey(b"x" * 32))
    holder.settle(key)
    assert link.is_symlink()
    assert load_master_key(link).reveal() == b"x" * 32


def test_a_key_that_is_given_has_no_file_to_be_replaced_in() -> None:
    holder = MemoryHolder(MasterKey(b"a" * 32), "DEE_MASTER_KEY")
    with pytest.raises(InvalidInput, match="DEE_MASTER_KEY is not a file"):
        holder.successor(None)
    key = holder.successor(MasterKey(b"b" * 32))
    holder.settle(key)
    assert [each.reveal() for each in holder.candidates()] == [b"b" * 32]


@pytest.mark.parametrize("keys", ["sqlite:///:memory:", "sqlite:///", ":memory:", "keys.db"])
def test_a_place_that_can_hold_no_keys_leaves_no_master_key_behind(
    keys: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInput, match="keys: must be sqlite:///FILE"):
        Engine(EngineConfig(":memory:", keys=keys))
    assert list(tmp_path.iterdir()) == []
