"""`kill -9` at each step of a rotation, a backup and a restore of a key store."""

from __future__ import annotations

import base64
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from dee_es.adapters.keys import (
    FileHolder,
    ManagedKeys,
    MasterHolder,
    create_master_key,
    load_master_key,
    new_master_key,
    open_postgres_keys,
    open_sqlite_keys,
    secret_in_backup,
)
from dee_es.errors import IntegrityViolation, MasterKeyRotated
from tests.support.cli.commands import ROOT
from tests.support.counts import count
from tests.support.processes.keys import holder_of, open_at
from tests.support.storage.events import run

KEYS = 8
TEXT = b"personal"
STRIDE = {"sqlite": 1, "postgres": count(5, 1)}
"""A process that connects to a server anew for each step takes long."""


class Store:
    """A key store with keys that something was encrypted with, and its master key in a file."""

    def __init__(self, kind: str, address: str, folder: Path) -> None:
        self.kind, self.address, self.folder = kind, address, folder
        self.master = folder / "master"
        create_master_key(self.master)
        opener = open_sqlite_keys if kind == "sqlite" else open_postgres_keys
        with closing(opener(address, FileHolder(self.master))) as keys:
            keys._chunk = KEYS
            self.ids = sorted(keys.new_keys(KEYS))
            self.sealed = [keys.encrypt(key, run(), 1, TEXT) for key in self.ids]
            keys.destroy(self.ids[2])

    def check(self, given: str | MasterHolder, gone: tuple[int, ...] = (2,)) -> int:
        """Everything can be read but what is gone; returns how often it was rotated."""
        holder = holder_of(given) if isinstance(given, str) else given
        with closing(open_at(self.kind, self.address, holder)) as keys:
            self.read(keys, gone)
            return keys.describe().rotations

    def read(self, keys: ManagedKeys, gone: tuple[int, ...] = (2,)) -> None:
        expected = [None if n in gone else TEXT for n in range(KEYS)]
        pairs = zip(self.ids, self.sealed, strict=True)
        assert [keys.decrypt(key, run(), 1, text) for key, text in pairs] == expected


@pytest.fixture(params=["sqlite", "postgres"])
def store(
    request: pytest.FixtureRequest, tmp_path: Path, fresh_postgres: Callable[[], str]
) -> Store:
    address = str(tmp_path / "keys.db") if request.param == "sqlite" else fresh_postgres()
    return Store(request.param, address, tmp_path)


@contextmanager
def killed_at_each_step(
    store: Store, given: str, action: str, file: Path | str = ""
) -> Iterator[Iterator[int]]:
    """Gives the number of each step that a process died at, until one came to the end."""
    command = [sys.executable, "-m", "tests.support.processes.keys"]
    with subprocess.Popen(
        [*command, str(STRIDE[store.kind]), store.kind, store.address, given, action, str(file)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        out, to = process.stdout, process.stdin
        assert out is not None
        assert to is not None

        def deaths() -> Iterator[int]:
            for line in out:
                word, step = line.split()
                assert word != "failed"
                if word == "done":
                    return
                yield int(step)
                to.write("\n")
                to.flush()

        yield deaths()
    assert process.returncode == 0


def test_a_rotation_killed_at_any_step(store: Store) -> None:
    """The keys can be read after each death, under the key in the file or the one beside it; the
    same call again finishes that rotation, and the next child begins one of its own."""
    first = load_master_key(store.master).reveal()
    before, after, steps = 0, 0, 0
    rotations = 0
    with killed_at_each_step(store, str(store.master), "rotate") as deaths:
        for steps in deaths:  # noqa: B007 -- the last one is looked at below
            then = store.check(str(store.master))
            with closing(open_at(store.kind, store.address, FileHolder(store.master))) as keys:
                if keys.describe().rotating:
                    assert keys.rotate().finished_only == (then > rotations)
                store.read(keys)
            before += then == rotations
            after += then == rotations + 1
            rotations = store.check(str(store.master))
            assert rotations - then in (0, 1)
            assert not (store.folder / "master.next").exists()
    assert steps > 30
    assert before > 5 // STRIDE[store.kind]
    assert after > 5 // STRIDE[store.kind]
    assert store.check(str(store.master)) == rotations + 1
    assert store.master.stat().st_mode & 0o777 == 0o600
    old = base64.b64encode(first).decode()
    with pytest.raises(MasterKeyRotated):
        store.check(f"text:{old}")


@pytest.mark.parametrize("action", ["rotate-into", "rotate-to"])
def test_a_rotation_from_the_settings_killed_at_any_step(store: Store, action: str) -> None:
    """The former key is given as text, the new one goes into a file or is given as text, too; the
    same call again ends in the same state."""
    text = f"text:{base64.b64encode(load_master_key(store.master).reveal()).decode()}"
    file = store.folder / "new.key"
    if action == "rotate-to":
        file = Path(f"text:{base64.b64encode(b'n' * 32).decode()}")
    steps = 0
    with killed_at_each_step(store, text, action, file) as deaths:
        for steps in deaths:  # noqa: B007
            assert store.check(holder_of(text, str(file))) <= 1
    assert steps > 10
    assert store.check(str(file)) == 1
    with pytest.raises(MasterKeyRotated):
        store.check(text)
    with pytest.raises(IntegrityViolation):
        store.check(f"text:{base64.b64encode(new_master_key().reveal()).decode()}")


def test_a_backup_killed_at_any_step(store: Store) -> None:
    """At any moment the file is the former backup or the new one, whole; the store is as it was."""
    file = store.folder / "keys.backup"
    states: set[int] = set()
    with killed_at_each_step(store, str(store.master), "backup", file) as deaths:
        for steps in deaths:  # noqa: B007
            store.check(str(store.master))
            if file.exists():
                with closing(sqlite3.connect(file)) as connection:
                    (rows,) = connection.execute("SELECT count(*) FROM keys").fetchone()
                states.add(rows)
    assert steps > 4
    assert len(states) == 1
    assert [path.name for path in store.folder.glob(".*")] == []
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_restore_killed_at_any_step(store: Store, fresh_postgres: Callable[[], str]) -> None:
    """Into an empty store, with two contacts that were erased after the backup: their keys are
    never back, not for a moment."""
    file = store.folder / "keys.backup"
    with closing(open_at(store.kind, store.address, FileHolder(store.master))) as keys:
        keys.backup(str(file), 1)
    _empty(store, fresh_postgres)
    seed = secret_in_backup(str(file), None)
    opener = open_sqlite_keys if store.kind == "sqlite" else open_postgres_keys
    opener(store.address, FileHolder(store.master), new_secret=seed).close()
    erased = f"restore:{store.ids[4].hex()},{store.ids[6].hex()}"
    counts: list[int] = []
    with killed_at_each_step(store, str(store.master), erased, file) as deaths:
        for steps in deaths:  # noqa: B007
            with closing(open_at(store.kind, store.address, FileHolder(store.master))) as keys:
                standing = keys.standing(store.ids)
                assert not any(standing.get(store.ids[n]) for n in (2, 4, 6))
                counts.append(sum(standing.values()))
    assert steps > 6
    assert counts == sorted(counts)
    assert counts[0] < KEYS - 3
    store.check(str(store.master), gone=(2, 4, 6))


def _empty(store: Store, fresh_postgres: Callable[[], str]) -> None:
    if store.kind == "postgres":
        store.address = fresh_postgres()
        return
    for path in store.folder.glob("keys.db*"):
        path.unlink()


def test_a_copy_of_the_folder_at_any_moment_can_be_read(store: Store, tmp_path: Path) -> None:
    """What a snapshot of the disk would hold after each death, opened apart from the rest."""
    if store.kind != "sqlite":
        # A server's files are its own; what it has committed is what the other tests read.
        assert store.check(str(store.master)) == 0
        return
    with killed_at_each_step(store, str(store.master), "rotate") as deaths:
        for step in deaths:
            copy = tmp_path / f"copy{step}"
            copy.mkdir()
            for path in store.folder.iterdir():
                if path.is_file():
                    shutil.copy(path, copy)
            moved = Store.__new__(Store)
            moved.__dict__.update(store.__dict__, address=str(copy / "keys.db"), folder=copy)
            moved.check(str(copy / "master"))
