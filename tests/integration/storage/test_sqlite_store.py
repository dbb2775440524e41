"""SQLite alone: durability settings, other processes, files that are none."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import sqlite3
import stat
import time
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from dee_es import Engine, EngineConfig
from dee_es.adapters.storage.sqlite import SqliteStore, database, open_sqlite
from dee_es.errors import InvalidInput, StoreUnavailable
from dee_es.ports import Committed, Conflict
from tests.support.engines import open_engine, outreach, people, publish_basics
from tests.support.files import files_open, somebody_else
from tests.support.storage.events import committed_at, run, unit

COMMITS = 30


def _pragma(store: SqliteStore, name: str) -> object:
    return store.database.query(f"PRAGMA {name}")[0][0]


def test_every_connection_waits_for_the_disk(tmp_path: Path) -> None:
    store, _ = open_sqlite(str(tmp_path / "dee.db"), lock_timeout_s=3)
    with store.database.snapshot() as first, store.database.snapshot() as second:
        for session in (first, second):
            assert session.ask("PRAGMA synchronous").fetchall() == [(2,)]
            assert session.ask("PRAGMA busy_timeout").fetchall() == [(3_000,)]
    assert _pragma(store, "journal_mode") == "wal"
    store.close()


def _write(path: str, writer: int) -> None:
    """Read, then write, many times over: what a deferred transaction could not do."""
    store, _ = open_sqlite(path)
    for number in range(COMMITS):
        (outcome,) = store.commit([unit(run(writer * 1_000 + number))])
        assert isinstance(outcome, Committed)
        (outcome,) = store.commit([unit("plan:shared", number, 1)])
        assert isinstance(outcome, Committed | Conflict)
    store.close()


def test_two_processes_write_one_database(tmp_path: Path) -> None:
    path = str(tmp_path / "dee.db")
    spawned = multiprocessing.get_context("spawn")
    processes = [spawned.Process(target=_write, args=(path, writer)) for writer in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    store, _ = open_sqlite(path)
    assert store.log_head().ordinal == 2 * COMMITS
    positions = [row.position for row in store.read_log(0, 10_000)]
    assert positions == list(range(1, store.log_head().position + 1))
    store.close()


def test_waiting_for_another_process_is_bounded(tmp_path: Path) -> None:
    path = str(tmp_path / "dee.db")
    store, _ = open_sqlite(path, lock_timeout_s=0.3)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        begun = time.monotonic()
        with pytest.raises(StoreUnavailable, match=r"locked by another process.*or end it"):
            store.commit([unit(run())])
        assert time.monotonic() - begun < 5
        assert store.log_head().position == 0
    assert store.commit([unit(run())]) == [committed_at(1)]
    store.close()


def test_a_run_is_looked_at_while_another_process_is_stopped_in_a_commit(tmp_path: Path) -> None:
    # This is how a worker leaves it that hangs: whoever is to find out why can read all the same.
    path = str(tmp_path / "dee.db")
    with Engine(f"sqlite:///{path}") as engine:
        publish_basics(engine)
        begun = engine.execute(outreach(), people(1)[0])
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        asked = time.monotonic()
        with Engine(f"sqlite:///{path}") as engine:
            assert engine.get_run(begun.id).id == begun.id
            assert engine.list_runs().total == 1
            assert engine.explain(begun.id).about == begun.id
            assert engine.health().runs == 1
        assert time.monotonic() - asked < 5


def test_waiting_for_another_thread_is_bounded(tmp_path: Path) -> None:
    store, views = open_sqlite(str(tmp_path / "dee.db"), lock_timeout_s=0.2)
    with (
        views.transaction(),
        pytest.raises(StoreUnavailable, match="another thread"),
    ):
        store.commit([unit(run())])
    assert store.commit([unit(run())]) == [committed_at(1)]
    store.close()


class _Interrupting:
    """A cursor whose thread is interrupted as soon as a transaction has begun."""

    def __init__(self, cursor: sqlite3.Cursor) -> None:
        self._cursor = cursor

    def execute(self, sql: str, *params: Any) -> sqlite3.Cursor:
        self._cursor.execute(sql, *params)
        if sql.startswith("BEGIN"):
            raise KeyboardInterrupt
        return self._cursor


@pytest.mark.parametrize("what", ["appending", "snapshot"])
def test_who_is_interrupted_as_a_transaction_begins_leaves_none(
    tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where another process has the lock, an interruption comes when beginning has waited for it:
    at this very moment."""
    store, _ = open_sqlite(str(tmp_path / "dee.db"), lock_timeout_s=1)
    store.commit([unit(run())])
    plain = database._cursor
    with monkeypatch.context() as patch:
        patch.setattr(database, "_cursor", lambda each: _Interrupting(plain(each)))
        with pytest.raises(KeyboardInterrupt), getattr(store.database, what)():
            pass
    with store.database.snapshot() as session:
        assert store.commit([unit(run(2))]) == [committed_at(2)]
        assert len(session.ask("SELECT 1 FROM stored_events").fetchall()) == 2
    store.close()


def test_readers_go_on_while_writers_queue(tmp_path: Path) -> None:
    store, views = open_sqlite(str(tmp_path / "dee.db"))
    store.commit([unit(run())])
    with views.transaction():
        assert store.log_head().position == 1
        assert len(store.read_stream(run())) == 1
    store.close()


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "dee.db"
    path.write_bytes(b"hello, this is some text " * 100)
    with pytest.raises(StoreUnavailable, match="not a database") as refused:
        open_sqlite(str(path))
    assert str(path) not in files_open(), "it was let go of, although the error is still at hand"
    assert refused.value.__traceback__ is not None


def test_a_path_that_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    with pytest.raises(StoreUnavailable, match=f"unable to open .* no folder {missing}: make it"):
        open_sqlite(str(missing / "dee.db"))
    with pytest.raises(StoreUnavailable, match=r"unable to open .* it is a folder: name a file"):
        open_sqlite(str(tmp_path))


def _commit_another(path: Path) -> None:
    store, _ = open_sqlite(str(path))
    try:
        store.commit([unit(run(2))])
    finally:
        store.close()


@pytest.mark.parametrize("closed", ["the file", "the folder"])
def test_what_cannot_be_written_is_told_with_what_to_do(closed: str) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "dee.db"
        store, _ = open_sqlite(str(path))
        store.commit([unit(run())])
        store.close()
        path.chmod(0o444 if closed == "the file" else 0o666)
        path.parent.chmod(0o555 if closed == "the folder" else 0o777)
        told = "cannot be written, which SQLite needs to read it, too: copy it, with the files"
        with somebody_else(), pytest.raises(StoreUnavailable, match=told):
            _commit_another(path)
        path.parent.chmod(0o755)


def test_memory_belongs_to_another_backend() -> None:
    with pytest.raises(ValueError, match="another backend"):
        open_sqlite(":memory:")


@pytest.mark.parametrize("replaced", [False, True])
def test_a_file_that_was_moved_away_takes_nothing_more(tmp_path: Path, replaced: bool) -> None:
    path, aside = tmp_path / "dee.db", tmp_path / "aside.db"
    store, _ = open_sqlite(str(path))
    store.commit([unit(run())])
    path.rename(aside)
    if replaced:
        shutil.copy(aside, path)
    with pytest.raises(StoreUnavailable, match="deleted or replaced"):
        store.commit([unit(run(2))])
    with pytest.raises(StoreUnavailable, match="deleted or replaced"):
        store.read_stream(run())
    assert path.exists() == replaced, "no other file was made in its place"
    aside.rename(path)
    assert store.commit([unit(run(2))]) == [committed_at(2)]
    store.close()


@pytest.mark.parametrize(
    "name", ["file:dee.db", "mode=memory.db", ":memory:.db", "a b?mode=ro#1%20ü漢.db"]
)
def test_any_name_is_that_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    store, _ = open_sqlite(name)
    store.commit([unit(run())])
    # Later connections open the same file, wherever the process has gone to.
    monkeypatch.chdir("/")
    with store.database.snapshot():
        assert store.log_head().position == 1
    store.close()
    assert [each.name for each in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("relative", [False, True])
def test_two_dots_behind_a_link_lead_out_of_the_folder_that_it_links_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, relative: bool
) -> None:
    for folder in ("releases/1", "releases/shared", "shared"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "current").symlink_to("releases/1")
    monkeypatch.chdir(tmp_path)
    begin = "" if relative else f"{tmp_path}/"
    with open_engine(f"sqlite:///{begin}current/../shared/dee.db") as engine:
        engine.suppress(email="jane@example.com")
        engine.keys.backup(f"{begin}current/../shared/keys.backup")
    assert not list((tmp_path / "shared").iterdir())
    found = {each.name for each in (tmp_path / "releases" / "shared").iterdir()}
    assert {"dee.db", "keys.backup"} <= found


def test_a_claim_that_cannot_be_laid_beside_the_database_is_told(tmp_path: Path) -> None:
    store, _ = open_sqlite(str(tmp_path / "dee.db"))
    (tmp_path / "dee.db.run_list.claim").mkdir()
    with pytest.raises(StoreUnavailable, match="unable to open"), store.database.claim("run_list"):
        pass
    store.close()


def test_a_url_that_looks_like_memory_means_neither_memory_nor_a_file(tmp_path: Path) -> None:
    for config in (
        EngineConfig("sqlite:///:memory:"),
        EngineConfig(f"sqlite:///{tmp_path / 'dee.db'}", keys="sqlite:///:memory:"),
    ):
        with pytest.raises(InvalidInput, match="must be"):
            Engine(config)
    assert not Path(":memory:").exists()


def _modes(folder: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


@pytest.mark.parametrize("linked", [False, True])
def test_a_new_database_is_its_owners_alone(tmp_path: Path, linked: bool) -> None:
    """Whatever the umask leaves to others: personal data may stand in it in plain."""
    former = os.umask(0o022)
    try:
        path = tmp_path / "dee.db"
        (tmp_path / "inside").mkdir()
        if linked:
            path.symlink_to(tmp_path / "inside" / "real.db")
        with (
            Engine(EngineConfig(f"sqlite:///{path}", personal_data="off")) as engine,
            engine._parts.store.database.claim("audit_trail"),  # type: ignore[attr-defined]
        ):
            engine.suppress(contact_id="c1")
            folder = tmp_path / "inside" if linked else tmp_path
            found = {name: mode for name, mode in _modes(folder).items() if ".db" in name}
        assert {"real.db" if linked else "dee.db"} < set(found)
        assert any(name.endswith("-wal") for name in found)
        assert any(name.endswith(".claim") for name in found)
        assert set(found.values()) == {0o600}
    finally:
        os.umask(former)


def test_a_database_that_is_there_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "dee.db"
    Engine(f"sqlite:///{path}").close()
    path.chmod(0o640)
    with Engine(f"sqlite:///{path}") as engine:
        engine.suppress(contact_id="c1")
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
