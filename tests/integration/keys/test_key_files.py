"""A key store in an SQLite file, and what becomes of the file."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from dee_es.adapters.keys import MasterKey, new_master_key, open_sqlite_keys
from dee_es.errors import StoreUnavailable
from tests.support.files import somebody_else


@pytest.fixture
def master() -> MasterKey:
    return new_master_key()


def test_a_key_store_that_was_moved_away_takes_nothing_more(
    tmp_path: Path, master: MasterKey
) -> None:
    path = tmp_path / "keys.db"
    with closing(open_sqlite_keys(path, master)) as keys:
        known = keys.new_keys(1)
        path.rename(tmp_path / "aside.db")
        with pytest.raises(StoreUnavailable, match="deleted or replaced"):
            keys.new_keys(1_000)
        with pytest.raises(StoreUnavailable, match="deleted or replaced"):
            keys.preload([b"\0" * 16])
        assert not path.exists(), "no other file was made in its place"
        (tmp_path / "aside.db").rename(path)
        keys.new_keys(1_000)
        assert keys.reveal(known[0])


def test_a_damaged_key_store_says_what_to_do(tmp_path: Path, master: MasterKey) -> None:
    path = tmp_path / "keys.db"
    open_sqlite_keys(path, master).close()
    path.write_bytes(b"damaged" + path.read_bytes()[7:])
    told = "not a database; move it aside, and bring a backup back with `dee keys restore`"
    with pytest.raises(StoreUnavailable, match=told):
        open_sqlite_keys(path, master)


@pytest.mark.parametrize("closed", ["the file", "the folder"])
def test_a_key_store_that_cannot_be_written_is_told_with_what_to_do(
    closed: str, master: MasterKey
) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "keys.db"
        open_sqlite_keys(path, master).close()
        path.chmod(0o444 if closed == "the file" else 0o666)
        path.parent.chmod(0o555 if closed == "the folder" else 0o777)
        told = r"^key store .*keys\.db: .*: copy it, with the files beside it, to a folder"
        with somebody_else(), pytest.raises(StoreUnavailable, match=told):
            open_sqlite_keys(path, master)
        path.parent.chmod(0o755)
