"""Whatever is done to a backup of keys, it brings all of them back, or it is refused with a word
about what is wrong, and then none."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dee_es.adapters.keys import ManagedKeys, MasterKey, open_sqlite_keys
from dee_es.errors import DeeError
from tests.support.counts import count

MASTER = MasterKey(b"m" * 32)
PAGE = 4096
ROWS = "SELECT key_id, wrapped FROM keys"
Held = dict[bytes, bytes | None]


class Store:
    """A store that has lost its keys, what it had, and the files that may bring them back."""

    def __init__(self, folder: Path, number: int) -> None:
        self._path, self.file = folder / "keys.db", folder / "given.backup"
        with closing(open_sqlite_keys(self._path, MASTER)) as keys:
            first, *_ = keys.new_keys(number)
            keys.destroy(first)
            keys.backup(str(self.file), 1)
        self.backup = self.file.read_bytes()
        copy = folder / "copy.db"
        with closing(sqlite3.connect(self._path)) as held, closing(sqlite3.connect(copy)) as other:
            self.had: Held = dict(held.execute(ROWS))
            held.backup(other)
        self.copy = copy.read_bytes()
        self._lose()
        self.keys: ManagedKeys = open_sqlite_keys(self._path, MASTER)

    def _lose(self) -> None:
        with closing(sqlite3.connect(self._path)) as connection, connection:
            connection.execute("DELETE FROM keys")

    def has(self) -> Held:
        """What is there, which is lost again then."""
        with closing(sqlite3.connect(self._path)) as connection:
            found: Held = dict(connection.execute(ROWS))
        if found:
            self._lose()
        return found

    def restored(self, content: bytes) -> bool:
        """Whether the file is taken; it says so with its name where it is not."""
        self.file.write_bytes(content)
        try:
            self.keys.restore(str(self.file), list)
        except DeeError as error:
            told = str(error)
        else:
            return True
        assert str(self.file) in told
        assert told.isprintable()
        return False


@pytest.fixture(scope="module", params=[1, 900], ids=["a page", "many pages"])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder), request.param)
        yield store
        store.keys.close()


def hit(content: bytes, at: float, length: float, put: bytes) -> bytes:
    """Put something in the place of a part, which often is short."""
    place = int(at * len(content))
    end = place + int(length**8 * (len(content) - place))
    return content[:place] + put + content[end:]


def swapped(content: bytes, one: float, other: float) -> bytes:
    """The file with one of its pages in the place of another as well."""
    pages = [content[at : at + PAGE] for at in range(0, len(content), PAGE)]
    pages[int(one * len(pages))] = pages[int(other * len(pages))]
    return b"".join(pages)


SHARE = st.floats(0, 0.9999)
HITS = st.lists(st.tuples(SHARE, SHARE, st.binary(max_size=4)), min_size=1, max_size=3)
FLIPS = st.lists(st.tuples(SHARE, st.integers(0, 255)), min_size=1, max_size=4)


def damaged(
    content: bytes,
    flips: list[tuple[float, int]],
    hits: list[tuple[float, float, bytes]],
    pages: tuple[float, float] | None,
) -> bytes:
    """Bytes that became others, parts that are missing or too much, a page that was lost."""
    changed = bytearray(content)
    for at, byte in flips:
        changed[int(at * len(changed))] = byte
    content = bytes(changed)
    if pages is not None:
        content = swapped(content, *pages)
    for each in hits:
        content = hit(content, *each)
    return content


@given(FLIPS, HITS | st.just([]), st.none() | st.tuples(SHARE, SHARE))
@settings(max_examples=count(100, 5_000))
def test_a_backup_brings_all_back_or_nothing(
    store: Store,
    flips: list[tuple[float, int]],
    hits: list[tuple[float, float, bytes]],
    pages: tuple[float, float] | None,
) -> None:
    taken = store.restored(damaged(store.backup, flips, hits, pages))
    assert store.has() == (store.had if taken else {})


@given(FLIPS, HITS | st.just([]), st.none() | st.tuples(SHARE, SHARE))
@settings(max_examples=count(100, 5_000))
def test_a_plain_copy_brings_back_no_key_that_was_not_there(
    store: Store,
    flips: list[tuple[float, int]],
    hits: list[tuple[float, float, bytes]],
    pages: tuple[float, float] | None,
) -> None:
    """It has no digest of its rows, so that less may come back than there was."""
    taken = store.restored(damaged(store.copy, flips, hits, pages))
    found = store.has()
    assert found == {} or taken
    assert {key for key in found.values() if key is not None} <= {*store.had.values()}
