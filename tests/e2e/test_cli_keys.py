"""`dee keys`: status, backup, restore and rotation as people call them, and `--personal-data`."""

from __future__ import annotations

import base64
import shutil
from pathlib import Path

import pytest

from tests.support.cli.commands import PLAN, Dee
from tests.support.storage.postgres import FreshPostgres

NEW_KEY = base64.b64encode(b"n" * 32).decode()


@pytest.fixture
def dee(tmp_path: Path) -> Dee:
    dee = Dee(tmp_path).prepared()
    contacts = dee.contacts("c-1,ada@example.com,Ada", "c-2,bob@example.com,Bob")
    dee("enroll", "plan.yaml", contacts, "--var", "place=Vienna")
    return dee


def variables(dee: Dee, contact: str) -> object:
    return dee.json("runs", "list", "--contact", contact)["runs"][0]["variables"]


def test_backup_erasure_and_restore(dee: Dee) -> None:
    first = dee.json("keys", "status")
    assert (first["ok"], first["contacts"], first["missing"]) == (True, 2, 0)
    assert any("no backup" in each for each in first["advice"])
    said = dee("keys", "backup", "keys.backup").stdout
    assert "read back" in said
    assert "opens only with the master key (file dee.keys.master)" in said
    assert "after an erasure, make a new one and delete this one" in said
    assert (dee.folder / "keys.backup").stat().st_mode & 0o777 == 0o600
    assert dee.json("keys", "status")["advice"] == []
    dee("contact", "erase", "c-1", "--reason", "asked", "--yes")
    found = dee.json("keys", "status")
    assert (found["ok"], found["erased"], found["destroyed"]) == (True, 1, 1)
    assert any("still holds them" in each for each in found["advice"])
    # The key store is lost; the backup is from before the erasure.
    for path in dee.folder.glob("dee.keys.db*"):
        path.unlink()
    assert "dee keys restore" in dee.fault("runs", "list")
    assert not list(dee.folder.glob("dee.keys.db*"))
    done = dee.json("keys", "restore", "keys.backup")
    assert done["restored"] > 0
    assert variables(dee, "c-1") == {}
    assert variables(dee, "c-2") == {"place": "Vienna"}
    assert dee.json("keys", "status")["ok"]
    assert "suppressed" in dee("execute", "plan.yaml", "--contact", "c-9", "--email",
                               "ada@example.com", code=1).stderr  # fmt: skip


def test_what_does_not_fit_is_told(dee: Dee) -> None:
    shutil.copy(dee.folder / "dee.keys.db", dee.folder / "older.db")
    dee("contact", "erase", "c-1", "--reason", "asked", "--yes")
    for path in dee.folder.glob("dee.keys.db*"):
        path.unlink()
    # An older copy put back by hand undoes the erasure; it is noticed, and can be mended.
    shutil.copy(dee.folder / "older.db", dee.folder / "dee.keys.db")
    found = dee.json_of(1, "keys", "status")
    assert found["undestroyedContacts"] == ["c-1"]
    assert "NOT ok" in dee("keys", "status", code=1).stdout
    dee("contact", "erase", "c-1", "--reason", "again", "--yes")
    assert dee.json("keys", "status")["ok"]
    for path in dee.folder.glob("dee.keys.db*"):
        path.unlink()
    dee("keys", "restore", "--without-backup", "--yes")
    found = dee.json_of(1, "keys", "status")
    assert (found["missingContacts"], found["undestroyed"]) == (["c-2"], 0)
    assert "is of another key store" in dee.fault("keys", "restore", "older.db")
    assert "give a FILE" in dee.fault("keys", "restore", code=2)


def test_an_erasure_that_an_older_copy_of_the_log_does_not_know_is_told(dee: Dee) -> None:
    shutil.copy(dee.folder / "dee.db", dee.folder / "older.db")
    dee("contact", "erase", "c-1", "--reason", "asked", "--yes")
    for path in dee.folder.glob("dee.db*"):
        path.unlink()
    shutil.copy(dee.folder / "older.db", dee.folder / "dee.db")
    found = dee.json_of(1, "keys", "status")
    assert (found["unrecorded"], found["unrecordedContacts"]) == (1, ["c-1"])
    assert (found["missing"], found["undestroyed"], found["erased"]) == (0, 0, 0)
    said = dee("keys", "status", code=1).stdout
    assert "key destroyed, not erased  1: c-1" in said
    assert "repeat `dee contact erase`" in said
    dee("contact", "erase", "c-1", "--reason", "again", "--yes")
    found = dee.json("keys", "status")
    assert (found["ok"], found["erased"], found["unrecorded"]) == (True, 1, 0)


def test_a_rotation_in_the_file(dee: Dee) -> None:
    master = dee.folder / "dee.keys.master"
    before = master.read_text().strip()
    said = dee("keys", "rotate").stdout
    assert "the former one opens nothing any more" in said
    assert "restart every process" in said
    assert master.read_text().strip() != before
    assert master.stat().st_mode & 0o777 == 0o600
    assert variables(dee, "c-1") == {"place": "Vienna"}
    assert "the master key was rotated; restart with the new one" in dee.fault(
        "tick", DEE_MASTER_KEY=before
    )
    assert "was the master key before" in dee.fault("keys", "rotate", DEE_NEW_MASTER_KEY=before)
    dee("keys", "rotate", DEE_NEW_MASTER_KEY=NEW_KEY)
    assert master.read_text().strip() == NEW_KEY
    assert dee.json("keys", "status")["rotations"] == 2
    every = b"".join(path.read_bytes() for path in dee.folder.iterdir() if path.is_file())
    assert before.encode() not in every


def test_a_rotation_of_a_key_in_the_environment(dee: Dee) -> None:
    old = {"DEE_MASTER_KEY": (dee.folder / "dee.keys.master").read_text().strip()}
    (dee.folder / "dee.keys.master").unlink()
    assert "name a file" in dee.fault("keys", "rotate", **old)
    said = dee("keys", "rotate", "--new-key-file", "new.key", **old).stdout
    assert "name it in DEE_MASTER_KEY_FILE" in said
    assert "was rotated" in dee.fault("runs", "list", **old)
    dee("runs", "list", DEE_MASTER_KEY_FILE="new.key")
    # The same command again, with the settings as they were, finds that all is done.
    said = dee("keys", "rotate", "--new-key-file", "new.key", **old).stdout
    assert "finished a rotation" in said
    given = {"DEE_MASTER_KEY_FILE": "", "DEE_MASTER_KEY": (dee.folder / "new.key").read_text()}
    assert "put it into DEE_MASTER_KEY" in dee(
        "keys", "rotate", DEE_NEW_MASTER_KEY=NEW_KEY, **given
    ).stdout  # fmt: skip
    assert "finished a rotation" in dee(
        "keys", "rotate", DEE_NEW_MASTER_KEY=NEW_KEY, **given
    ).stdout  # fmt: skip
    dee("runs", "list", DEE_MASTER_KEY=NEW_KEY)


def test_a_rotation_to_a_given_key_in_a_file_to_be_made(dee: Dee) -> None:
    dee("keys", "rotate", "--new-key-file", "new.master", DEE_NEW_MASTER_KEY=NEW_KEY)
    path = dee.folder / "new.master"
    assert (path.read_text().strip(), path.stat().st_mode & 0o777) == (NEW_KEY, 0o600)
    assert "rotations" in dee("keys", "status", DEE_MASTER_KEY_FILE="new.master").stdout
    again = dee("keys", "rotate", "--new-key-file", "new.master", DEE_NEW_MASTER_KEY=NEW_KEY)
    assert "finished a rotation" in again.stdout


def test_a_rotation_to_the_master_key_itself_is_none(dee: Dee) -> None:
    """Whoever believes to have rotated may hand the former key out."""
    current = (dee.folder / "dee.keys.master").read_text().strip()
    for settings in ({}, {"DEE_MASTER_KEY": current}):
        said = dee.fault("keys", "rotate", DEE_NEW_MASTER_KEY=current, **settings)
        assert "is the master key already" in said
    assert dee.json("keys", "status")["rotations"] == 0


def test_a_server_with_the_former_master_key_stops_with_a_clear_error(dee: Dee) -> None:
    """Also one that nobody asks for anything: whoever looks after it starts it anew."""
    with dee.start("serve", "--port", "0") as server:
        try:
            assert server.stdout is not None
            assert server.stdout.readline().startswith("serving on ")
            dee("keys", "rotate")
            _, said = server.communicate(timeout=30)
        finally:
            server.kill()
    assert server.returncode == 1
    assert "the master key was rotated; restart with the new one" in said
    assert "Traceback" not in said


def test_a_worker_with_the_former_master_key_stops_with_a_clear_error(dee: Dee) -> None:
    contacts = dee.contacts(*(f"w-{n},w{n}@example.com,W" for n in range(30)))
    dee("enroll", "plan.yaml", contacts, "--var", "place=Vienna")
    with dee.start("worker") as worker:
        try:
            assert worker.stdout is not None
            assert worker.stdout.readline()
            dee("keys", "rotate")
            # Work that needs keys: the gate is asked and messages are rendered at the next tick.
            dee("enroll", "plan.yaml", dee.contacts("x-1,x@example.com,X"), "--var", "place=here")
            _, said = worker.communicate(timeout=30)
        finally:
            worker.kill()
    assert worker.returncode == 1
    assert "the master key was rotated; restart with the new one" in said
    assert "Traceback" not in said
    assert dee.json("keys", "status")["ok"]


def test_keys_in_postgres(tmp_path: Path, fresh_postgres: FreshPostgres) -> None:
    (tmp_path / "plan.yaml").write_text(PLAN, encoding="utf-8")
    settings = {
        "DEE_DATABASE": fresh_postgres(),
        "DEE_KEYS": fresh_postgres(),
        "DEE_MASTER_KEY_FILE": "master",
    }
    dee = Dee(tmp_path, settings)
    dee("init", "--clock", "manual")
    dee("enroll", "plan.yaml", dee.contacts("c-1,ada@example.com,Ada"), "--var", "place=here")
    dee("keys", "backup", "keys.backup")
    shutil.copy(tmp_path / "master", tmp_path / "former")
    dee("keys", "rotate")
    assert variables(dee, "c-1") == {"place": "here"}
    # Into an empty key store in an SQLite file, under the master key of then.
    dee.settings["DEE_KEYS"] = "sqlite:///again.db"
    assert "another master key" in dee.fault("keys", "restore", "keys.backup")
    assert "is empty" in dee.fault("runs", "list")
    dee("keys", "restore", "keys.backup", "--master-key-file", "former")
    assert variables(dee, "c-1") == {"place": "here"}


def test_personal_data_off_is_chosen_once_and_told(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(PLAN, encoding="utf-8")
    dee = Dee(tmp_path)
    done = dee("init", "--clock", "manual", "--personal-data", "off")
    assert "OFF: stored in plain" in done.stdout
    assert done.stderr.startswith("dee: warning: personal data is off")
    dee("enroll", "plan.yaml", dee.contacts("c-1,ada@example.com,Ada"), "--var", "place=here")
    for settings in ({}, {"DEE_PERSONAL_DATA": "encrypted"}):
        fault = dee.fault("contact", "erase", "c-1", "--reason", "asked", "--yes", **settings)
        assert "cannot be erased; nothing was done" in fault
    health = dee.json("health")
    assert health["ok"]
    assert any("personal data is off" in each for each in health["advice"])
    assert b"ada@example.com" in (tmp_path / "dee.db").read_bytes()
    status = dee.json("keys", "status")
    assert (status["ok"], status["personalData"], status["contacts"]) == (True, "off", 0)
    run = dee.json("runs", "list")["runs"][0]["id"]
    assert "cannot be left out" in dee.fault("runs", "export", run, "r.json", "--no-personal-data")
    dee("runs", "export", run, "r.json")
    (tmp_path / "other").mkdir()
    other = Dee(tmp_path / "other")
    epoch = dee.json("health")["time"]
    other("init", "--clock", "manual", "--epoch", epoch)
    assert "personal data" in other.fault("runs", "import", "../r.json")
