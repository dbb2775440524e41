"""`dee audit export` as people call it."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.cli.commands import Dee, environment
from tests.support.evidence.exports import verify


@pytest.fixture(scope="module")
def dee(tmp_path_factory: pytest.TempPathFactory) -> Dee:
    """Two contacts whose mails went out, under a checkpoint."""
    folder = tmp_path_factory.mktemp("export")
    dee = Dee(folder, {"DEE_CHECKPOINTS": str(folder / "places")}).prepared()
    path = dee.contacts("c-1,ada@example.com,Ada", "c-2,bob@example.com,Bob")
    dee("enroll", "plan.yaml", path, "--var", "place=Example Town")
    dee("run-until", "--for", "1d")
    dee("audit", "checkpoint")
    return dee


def run_of(dee: Dee, contact: str) -> str:
    return str(dee.json("runs", "list", "--contact", contact)["runs"][0]["id"])


def key(dee: Dee) -> str:
    (path,) = dee.folder.glob("*.audit.key.pub")
    return path.read_text().strip()


def test_a_run_as_evidence_in_a_file(dee: Dee) -> None:
    run, path = run_of(dee, "c-1"), dee.folder / "run.jsonl"
    done = dee("--actor", "ann", "audit", "export", run, "--format", "jsonl", "--output", path,
               "--reason", "a complaint")  # fmt: skip
    assert done.stdout.startswith(f"{path}: ")
    assert "SHA-256" in done.stdout
    assert "personal data" in done.stderr
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    code, said = verify(path, "--key", key(dee))
    assert code == 0, said
    entry = dee.json("audit", "log", "--run", run, "--action", "log.exported")["entries"][-1]
    assert (entry["actor"], entry["reason"]) == ("ann", "a complaint")
    assert entry["input"]["target"] == str(path)


def test_to_a_pipe_without_a_word(dee: Dee) -> None:
    done = dee("audit", "export", "--contact", "c-2", "--no-personal-data")
    told = json.loads(done.stdout)
    assert told["export"]["scope"]["contactId"] == "c-2"
    assert "bob@example.com" not in done.stdout
    assert done.stderr == ""
    rows = dee("audit", "export", "--since", "7d", "--format", "csv", "--output", "-").stdout
    assert rows.startswith("id,position,stream,version,name,tick,timestamp,action,runId")
    page = subprocess.run(
        dee.command("audit", "export", run_of(dee, "c-2"), "--format", "pdf"),
        cwd=dee.folder, env=environment(), capture_output=True, check=True,
    ).stdout  # fmt: skip
    assert page.startswith(b"%PDF-")


def test_a_bundle_that_verifies_itself(dee: Dee, tmp_path: Path) -> None:
    path = tmp_path / "evidence.zip"
    # Unless nobody took any of it out before, the log says so of it, and that has to be signed.
    dee("audit", "checkpoint")
    dee("audit", "export", run_of(dee, "c-1"), "--bundle", path)
    with zipfile.ZipFile(path) as bundle:
        script = tmp_path / "verify_export.py"
        script.write_bytes(bundle.read("verify_export.py"))
    done = subprocess.run(
        [sys.executable, "-I", str(script), str(path), "--key", key(dee)],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("VALID: ")


def test_a_proof_is_verified_by_the_same_program(dee: Dee) -> None:
    path = dee.folder / "proof.json"
    dee("audit", "prove", run_of(dee, "c-2"), "--entry", "2", "--output", path)
    assert verify(path, "--key", key(dee))[0] == 0


def test_calls_that_make_no_sense(dee: Dee) -> None:
    assert "name a RUN, --contact ID" in dee.fault("audit", "export", code=2)
    assert "there is no run" in dee.fault("audit", "export", "run_" + "a" * 26)
    assert "choose one of" in dee.fault(
        "audit", "export", "--contact", "c-1", "--output", "x", "--bundle", "y", code=2
    )
    assert "is a folder" in dee.fault("audit", "export", "--contact", "c-1", "--output", ".")
    code, shown = dee.on_terminal("audit", "export", "--contact", "c-1", "--format", "pdf")
    assert code == 2
    assert "nothing for a terminal" in shown


def test_a_question_to_the_whole_log_is_in_the_log(dee: Dee) -> None:
    before = dee.json("audit", "log", "--action", "log.exported", "--contact", "c-1")["total"]
    dee("--actor", "eve", "audit", "log", "--plan", "welcome")
    found = dee.json("audit", "log", "--by", "eve")["entries"]
    assert [(entry["action"], entry["input"]["format"]) for entry in found] == [
        ("log.exported", "page")
    ]
    assert (
        dee.json("audit", "log", "--action", "log.exported", "--contact", "c-1")["total"] == before
    )


def test_a_run_file_is_in_the_log_and_none_is_written_over(dee: Dee) -> None:
    run, path = run_of(dee, "c-2"), dee.folder / "run.json"
    dee("runs", "export", run, path)
    entries = dee.json("audit", "log", "--run", run, "--action", "log.exported")["entries"]
    assert entries[-1]["output"]["kind"] == "run_file"
    assert "is there already" in dee.fault("runs", "export", run, path)
    assert len(
        dee.json("audit", "log", "--run", run, "--action", "log.exported")["entries"]
    ) == len(entries)


OUT = {
    "export": ("audit", "export", "--contact", "c-1", "--output"),
    "bundle": ("audit", "export", "--contact", "c-1", "--bundle"),
    "prove": ("audit", "prove", "contact:c-1", "--entry", "1", "--output"),
    "report": ("report", "--from", "2025-03-03T00:00Z", "--to", "2025-04-01T00:00Z", "--output"),
    "run": ("runs", "export", "RUN"),
}
"""Commands that write a file which somebody names, without its name."""


@pytest.fixture(params=OUT)
def writes(request: pytest.FixtureRequest, dee: Dee) -> list[str]:
    run = run_of(dee, "c-1")
    return [run if word in ("RUN", "contact:c-1") else word for word in OUT[request.param]]


def test_a_file_that_is_there_is_written_over_only_if_told_so(
    dee: Dee, writes: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "out"
    path.write_text("somebody else's")
    before = dee.json("audit", "log", "--action", "log.exported", "--contact", "c-1")["total"]
    assert "is there already; --force writes over it" in dee.fault(*writes, path)
    assert path.read_text() == "somebody else's"
    after = dee.json("audit", "log", "--action", "log.exported", "--contact", "c-1")["total"]
    assert after == before, "what is not given out is not recorded"
    dee(*writes, path, "--force")
    assert path.read_text(errors="replace") != "somebody else's"


def test_what_the_settings_name_is_never_written_over(dee: Dee, writes: list[str]) -> None:
    master = (dee.folder / "dee.keys.master").read_bytes()
    for name in (
        "dee.db", "dee.db-wal", "dee.keys.db", "dee.keys.db-shm", "dee.keys.master",
        "dee.audit.key", "dee.audit.key.pub", "dee.calls.db", "dee.toml", "kept.users",
    ):  # fmt: skip
        said = dee.fault(*writes, dee.folder / "places" / ".." / name, "--force",
                         DEE_USERS="kept.users")  # fmt: skip
        assert "the settings name this file for something else" in said
        assert master == (dee.folder / "dee.keys.master").read_bytes()
    for name in ("kept.users", "dee.toml", "dee.calls.db"):
        assert not (dee.folder / name).exists()
    assert "valid" in dee("audit", "verify").stdout
