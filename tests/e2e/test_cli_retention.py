"""Holds, archives and erasure in the shell."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from tests.support.cli.commands import Dee


@pytest.fixture
def dee(tmp_path: Path) -> Dee:
    """A database in which three people have ended a run, and one has not."""
    dee = Dee(tmp_path).prepared()
    dee("plan", "publish", "plan.yaml")
    people = [f"c{n},c{n}@example.com,Name{n}" for n in range(3)]
    dee("enroll", "plan.yaml", dee.contacts(*people), "--var", "place=here")
    dee("run-until", "--for", "10d")
    dee("enroll", "plan.yaml", dee.contacts("late,late@example.com,Late"), "--var", "place=here")
    return dee


def test_a_hold_from_its_beginning_to_its_end(dee: Dee) -> None:
    assert dee("hold", "add", "c1", "--reason", "Smith v. Jones").stdout == "hold_1 holds c1\n"
    run = dee.json("runs", "list", "--contact", "c2")["runs"][0]["id"]
    assert dee.json("hold", "add", run, "--reason", "inquiry")["runId"] == run
    assert [hold["holdId"] for hold in dee.json("hold", "list")] == ["hold_1", "hold_2"]
    shown = dee("hold", "list").stdout
    assert "Smith v. Jones" in shown
    assert dee("hold", "list", "--csv").stdout.count("\n") == 3
    for contact in ("c1", "c2"):
        said = dee.fault("contact", "erase", contact, "--reason", "asked", "--yes")
        assert "under legal hold" in said
    dee("hold", "lift", "hold_1", "--reason", "settled")
    assert "no hold 'hold_1' is in force" in dee.fault("hold", "lift", "hold_1", "--reason", "x")
    dee("contact", "erase", "c1", "--reason", "asked", "--yes")
    assert "reason" in dee("hold", "lift", "hold_2", "--reason", " ", code=2).stderr
    dee("hold", "add", "c0", code=2)
    assert "nothing is known" in dee.fault("hold", "add", "nobody", "--reason", "x")


def test_archives_from_writing_to_reading_again(dee: Dee, tmp_path: Path) -> None:
    dee("hold", "add", "c0", "--reason", "Smith v. Jones")
    run = dee.json("runs", "list", "--contact", "c1")["runs"][0]["id"]
    assert "DEE_ARCHIVES" in dee.fault("archive", "create", "--before", "1d", "--yes")
    said = dee("archive", "create", "--before", "1d", "--dry-run").stdout
    assert "2 runs that ended before" in said
    assert "would leave the log" in said
    assert "HELD: 1 run kept by legal holds: hold_1" in said
    archive = ("archive", "create", "--before", "1d", "--to", "kept")
    assert "say --yes or --dry-run" in dee.fault(*archive, code=2)
    code, shown = dee.on_terminal(*archive, keys="n\n")
    assert (code, "nothing was archived" in shown) == (1, True)
    done = dee.json("archive", "create", "--before", "1d", "--to", "kept", "--yes")
    assert (done["runs"], done["held"], done["holds"]) == (2, 1, ["hold_1"])
    assert "0 runs" in dee("archive", "create", "--before", "1d", "--to", "kept", "--yes").stdout
    (archive,) = dee.json("archive", "list")
    assert archive["runs"] == 2
    assert dee("archive", "list").stdout.count("\n") == 2
    assert dee("archive", "verify").stdout == "archive 1 is valid: 2 runs\n"
    assert "the log is valid" in dee("audit", "verify").stdout
    assert "has left the log for archive 1" in dee.fault("runs", "show", run)
    assert dee.json("runs", "list")["total"] == 2
    dee("--actor", "ann", "archive", "export", run, "run.json")
    content = (dee.folder / "run.json").read_bytes()
    (told,) = dee.json("audit", "log", "--by", "ann")["entries"]
    assert told["input"]["target"] == str(dee.folder / "run.json")
    assert told["output"]["digest"] == hashlib.sha256(content).hexdigest()
    assert "is there already; --force" in dee.fault("archive", "export", run, "run.json")
    scratch = Dee(tmp_path / "scratch")
    scratch.folder.mkdir()
    scratch("init", "--clock", "manual", "--epoch", "2025-03-03T08:00Z")
    scratch("runs", "import", tmp_path / "run.json")
    assert scratch.json("runs", "show", run)["status"] == "completed"
    scratch("replay", run)
    file = tmp_path / "kept" / archive["name"]
    file.write_bytes(file.read_bytes()[:-5])
    assert "archive 1 is NOT valid" in dee("archive", "verify", code=1).stdout
    assert dee.json_of(1, "archive", "verify")[0]["valid"] is False
    file.unlink()
    unread = dee("archive", "verify", code=1).stdout
    assert unread.startswith(f"archive 1 could NOT be read: {archive['name']} in ")
    assert dee.json_of(1, "archive", "verify")[0]["valid"] is None


def test_an_erasure_with_its_certificate(dee: Dee, tmp_path: Path) -> None:
    dee("audit", "log")
    said = dee("contact", "erase", "c1", "--reason", "asked in writing", "--yes").stdout
    assert "certificate: certificates/erasure-c1.txt" in said
    path = tmp_path / "certificates" / "erasure-c1.txt"
    text, _, signature = path.read_text().partition("\n\n")
    assert signature.startswith("\u2014 dee-es/")
    told = json.loads(text)
    (message,) = told["left"]["messages"]
    (file,) = message["files"]
    assert "Name1" in (tmp_path / file).read_text()
    assert (told["contact"], told["reason"]) == ("c1", "asked in writing")
    assert "example.com" not in text.replace(message["messageId"], "")
    before = path.read_bytes()
    dee("contact", "erase", "c1", "--reason", "again", "--yes", "--certificate", "elsewhere")
    assert (tmp_path / "elsewhere" / "erasure-c1.txt").read_bytes() == before
    assert "say --yes" in dee.fault("contact", "erase", "c2", "--reason", "asked", code=2)
    code, shown = dee.on_terminal("contact", "erase", "c2", "--reason", "asked", keys="n\n")
    assert (code, "nothing was erased" in shown) == (1, True)
    assert "already" not in dee("contact", "show", "c2").stdout
