"""`dee` in surroundings that are not as one would like: streams that are closed or are not UTF-8,
folders and files in the way, texts that are none, times that there is no date for."""

from __future__ import annotations

import json
import os
import re
import resource
import shlex
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dee_es.cli import main
from dee_es.cli.progress import Progress
from dee_es.config import without_password
from dee_es.errors import StoreUnavailable
from tests.support.cli.commands import Dee, environment


@pytest.fixture
def dee(tmp_path: Path) -> Dee:
    return Dee(tmp_path).prepared()


def in_shell(
    dee: Dee, arguments: list[str], redirected: str, **settings: str
) -> subprocess.CompletedProcess[bytes]:
    """Run a command as a shell does that redirects its streams."""
    return subprocess.run(
        ["/bin/sh", "-c", f"exec {shlex.join(Dee.command(*arguments))} {redirected}"],
        cwd=dee.folder,
        env=environment(**settings),
        capture_output=True,
        check=False,
    )


# --- streams --------------------------------------------------------------------------------------


def test_without_stderr_contacts_are_enrolled_all_the_same(dee: Dee) -> None:
    dee.contacts("c-1,a@example.com,A", "bad id,b@example.com,B")
    done = in_shell(dee, ["enroll", "plan.yaml", "contacts.csv"], "2>&-")
    assert (done.returncode, done.stdout) == (
        0, b"2 rows of contacts.csv: 1 created, 0 skipped, 1 error\n"
    )  # fmt: skip
    assert dee.json("runs", "list")["total"] == 1


def test_without_stdout_a_command_does_its_work(dee: Dee) -> None:
    done = in_shell(dee, ["execute", "plan.yaml", "--contact", "c-1"], ">&-")
    assert (done.returncode, done.stderr) == (0, b"")
    assert dee.json("runs", "list")["total"] == 1


@pytest.mark.parametrize(
    "arguments, code, told",
    [
        (["enroll", "plan.yaml", "-"], 1, "is empty"),
        (["events", "ingest", "-"], 0, ""),
        (["contact", "suppress", "--from", "-"], 0, ""),
        (["runs", "import", "-"], 1, "is not JSON"),
        (["runs", "bulk-cancel", "--plan", "welcome", "--reason", "x"], 2, "no terminal to ask at"),
    ],
)
def test_a_closed_stdin_is_an_empty_one(
    dee: Dee, arguments: list[str], code: int, told: str
) -> None:
    done = in_shell(dee, arguments, "<&-")
    assert (done.returncode, told in done.stderr.decode()) == (code, True), done.stderr


@pytest.mark.parametrize("coding", ["ascii", "latin-1"])
def test_json_is_json_in_every_coding(dee: Dee, coding: str) -> None:
    place = 'é\U0001f600€"\\'
    dee("execute", "plan.yaml", "--contact", "c-1", "--var", f"place={json.dumps(place)}")
    done = in_shell(dee, ["runs", "list", "--json"], "", PYTHONIOENCODING=coding)
    assert json.loads(done.stdout.decode(coding))["runs"][0]["variables"] == {"place": place}


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has a device that is full")
@pytest.mark.parametrize("option", ["--help", "--version"])
def test_a_full_disk_is_told_by_every_option(dee: Dee, option: str) -> None:
    done = in_shell(dee, [option], ">/dev/full")
    assert (done.returncode, done.stderr) == (1, b"dee: No space left on device\n")


def test_a_run_goes_through_a_pipe(dee: Dee, tmp_path: Path) -> None:
    run = dee.json("execute", "plan.yaml", "--contact", "c-1")["id"]
    written = in_shell(dee, ["runs", "export", run, "-"], "")
    assert written.returncode == 0
    assert json.loads(written.stdout)["format"] == "dee-run/1"
    assert b"personal data" in written.stderr
    assert not (dee.folder / "-").exists()
    (tmp_path / "other").mkdir()
    other = Dee(tmp_path / "other").prepared()
    assert run in other("runs", "import", "-", given=written.stdout.decode()).stdout


def test_lines_that_are_no_text_are_refused(dee: Dee) -> None:
    run = dee.json("execute", "plan.yaml", "--contact", "c-1")["id"]
    (dee.folder / "lines").write_bytes(
        b"what-if set place \xff\n\xfe\nnext " + b"9" * 5000 + b"\ngoto 1\n"
    )
    done = in_shell(dee, ["debug", run], "<lines")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.endswith(b"at version 1 of 1\n")
    (dee.folder / "lines").write_bytes(b"long enough for a password \xff\n")
    done = in_shell(dee, ["serve", "user", "add", "robin", "--role", "viewer"], "<lines")
    assert (done.returncode, done.stderr.startswith(b"dee: password: ")) == (1, True), done.stderr


def test_whoever_interrupts_a_bulk_change_is_told_that_some_of_it_stays(
    dee: Dee, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    dee.contacts(*(f"c-{n},c{n}@example.com,A" for n in range(3)))
    dee("enroll", "plan.yaml", "contacts.csv")

    def pressed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.chdir(dee.folder)
    monkeypatch.setattr(Progress, "update", pressed)
    with pytest.raises(SystemExit) as ended:
        main(["runs", "bulk-pause", "--plan", "welcome", "--reason", "x", "--yes"])
    assert ended.value.code == 130
    told = capsys.readouterr().err.split("\n")
    assert told[0] == "dee: what was paused so far stays; the same command again does the rest"
    assert dee.json("runs", "list", "--status", "paused")["total"] == 3


@pytest.mark.parametrize(
    "command",
    [
        "enroll plan.yaml contacts.csv",
        "events ingest events.jsonl",
        "contact suppress --from list.csv",
        "runs bulk-pause --plan welcome --reason x --yes",
    ],
)
def test_whoever_loses_the_database_is_told_that_some_of_it_stays(
    command: str, dee: Dee, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    dee.contacts("c-1,c1@example.com,A")
    dee("enroll", "plan.yaml", "contacts.csv")
    event = {"type": "email.replied", "contactId": "c-1", "eventId": "e1"}
    (dee.folder / "events.jsonl").write_text(json.dumps(event) + "\n")
    (dee.folder / "list.csv").write_text("email\nc2@example.com\n")

    def full(*_: object) -> None:
        raise StoreUnavailable("dee.db: database or disk is full")

    monkeypatch.chdir(dee.folder)
    monkeypatch.setattr(Progress, "update", full)
    with pytest.raises(SystemExit) as ended:
        main(command.split())
    assert ended.value.code == 1
    stays, fault = capsys.readouterr().err.splitlines()
    assert "the same" in stays
    assert fault == "dee: dee.db: database or disk is full"


# --- files and folders in the way -----------------------------------------------------------------


def test_a_folder_of_the_same_name_does_not_hide_a_published_plan(dee: Dee) -> None:
    dee("plan", "publish", "plan.yaml")
    (dee.folder / "welcome").mkdir()
    assert "is active" in dee("execute", "welcome", "--contact", "c-1").stdout
    assert "Is a directory" in dee.fault("execute", "welcome/", "--contact", "c-2")


def test_refused_rows_do_not_overwrite_what_the_rows_come_from(dee: Dee) -> None:
    contacts = dee.contacts("c-1,a@example.com,A", "bad id,b@example.com,B")
    before = contacts.read_bytes()
    done = in_shell(dee, ["enroll", "plan.yaml", "-", "--errors", "contacts.csv"], "<contacts.csv")
    assert done.returncode == 2
    assert b"would overwrite" in done.stderr
    assert contacts.read_bytes() == before
    plan = dee.folder / "plan.yaml"
    before = plan.read_bytes()
    told = dee.fault("enroll", "plan.yaml", "contacts.csv", "--errors", "./plan.yaml", code=2)
    assert "would overwrite" in told
    assert plan.read_bytes() == before
    assert dee.json("runs", "list")["total"] == 0


# --- texts that are none --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["--plan", "--contact"])
def test_a_filter_that_is_no_text_is_refused(dee: Dee, name: str) -> None:
    told = dee.fault("runs", "list", name, "\udcff", code=2)
    assert told.startswith(f"Invalid value for '{name}': must be 1 to 128 characters")


def test_a_version_that_no_database_can_hold_is_refused(dee: Dee) -> None:
    run = dee.json("execute", "plan.yaml", "--contact", "c-1")["id"]
    for option in (["--plan-version", "9" * 30], ["--plan-version", "9" * 19]):
        assert dee.fault("replay", run, *option).startswith("plan_version: must be")


# --- passwords ------------------------------------------------------------------------------------


WRONG_URLS = (
    "postgresql://u:hid/den@127.0.0.1:1/x",
    "postgresql://u:hidden@127.0.0.1:1/x",
    "postgresql://u:hid@den@127.0.0.1:1/x",
    "postgresql://127.0.0.1:1/x?password=hidden",
    "postgresql://u:hidden@127.0.0.1:port/x",
    "postgresql://u:hidden@[::1/x",
    "postgresql://u:hid%den@127.0.0.1:1/x",
    "postgresql:///u:hidden@127.0.0.1",
)


def test_a_password_in_a_wrong_url_is_not_shown(dee: Dee) -> None:
    def shown(given: tuple[str, str]) -> subprocess.CompletedProcess[bytes]:
        command = ["--debug", *given, "health"]
        return in_shell(dee, command, "2>&1", DEE_MASTER_KEY_FILE="dee.keys.master")

    # A good URL of a server that does not answer takes its time: they wait side by side.
    asked = [("--database", url) for url in WRONG_URLS]
    asked += [("--keys", url) for url in WRONG_URLS if url.count("@") == 2 or "hid/" in url]
    with ThreadPoolExecutor(4) as pool:
        for given, done in zip(asked, pool.map(shown, asked), strict=True):
            assert done.returncode == 1, given
            assert "hid" not in done.stdout.decode(), given
            assert "den@" not in done.stdout.decode(), given


@pytest.mark.parametrize(
    "url, shown",
    [
        ("postgresql://u:hidden@db/x", "postgresql://u:***@db/x"),
        ("postgresql://u@db/x?password=hidden&sslmode=require",
         "postgresql://u@db/x?password=***&sslmode=require"),
        ("postgresql:///x?user=u&password=hid&sslpassword=den",
         "postgresql:///x?user=u&password=***&sslpassword=***"),
        ("postgresql:///x?scram_client_key=hid&scram_server_key=den&oauth_client_secret=hid",
         "postgresql:///x?scram_client_key=***&scram_server_key=***&oauth_client_secret=***"),
        ("postgresql:///x?host=/run/pg&sslkey=/etc/k", "postgresql:///x?host=/run/pg&sslkey=/etc/k"),
        ("postgresql://u:hid/den@db/x", "postgresql://***"),
        ("postgresql://u:hid#den@db/x", "postgresql://***"),
        ("postgresql://u:hid?den@db/x", "postgresql://***"),
        ("postgresql://u:hidden@[::1/x", "postgresql://***"),
        ("postgresql://u:hidden@a,b/x", "postgresql://u:***@a,b/x"),
        ("sqlite:///a@b?password=c.db", "sqlite:///a@b?password=c.db"),
        ("sqlite:////var/lib/dee.db", "sqlite:////var/lib/dee.db"),
        ("s3://ID:hid/den@bucket/log", "s3://***@bucket/log"),
        ("dee@home/log", "dee@home/log"),
    ],
)  # fmt: skip
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert without_password(url) == shown


# --- times that there is no date for --------------------------------------------------------------


@pytest.mark.parametrize("tick", ["300000000000", "9" * 18, "9" * 30])
def test_a_manual_clock_is_not_moved_to_where_there_are_no_dates(dee: Dee, tick: str) -> None:
    dee("execute", "plan.yaml", "--contact", "c-1")
    assert dee.fault("run-until", "--tick", tick).startswith("tick: ")
    assert "9999" in dee.fault("run-until", "--tick", tick)
    assert dee.json("health")["tick"] == 0


def test_a_wait_beyond_all_dates_is_in_nobodys_way(dee: Dee) -> None:
    (dee.folder / "long.yaml").write_text(
        "id: long\nname: Long\nsteps:\n"
        "  - {id: w, type: wait, duration: {days: 9999999}}\n"
        "  - {id: e, type: end, outcome: done}\n"
    )
    run = dee.json("execute", "long.yaml", "--contact", "c-1")["id"]
    dee("tick")
    for arguments in (
        ["health"], ["runs", "show", run], ["explain", run], ["history", run],
        ["history", run, "--tz", "Pacific/Kiritimati"], ["contact", "show", "c-1"],
    ):  # fmt: skip
        dee(*arguments)
    dee("run-until", "--idle")
    assert dee.json("runs", "show", run)["status"] == "waiting"
    assert dee.json("execute", "plan.yaml", "--contact", "c-2")["status"] == "active"


def test_a_mistyped_variable_is_told_beside_the_answer(dee: Dee) -> None:
    done = dee("runs", "list", "--json", DEE_DATABSE="sqlite:///secret.db", DEE_OTHER="1")
    assert json.loads(done.stdout)["total"] == 0
    told = "dee: DEE_DATABSE is no setting and was not read; is DEE_DATABASE meant?\n"
    assert done.stderr == told
    failed = dee("runs", "show", "nobody", code=1, DEE_DATABSE="x").stderr.splitlines()
    assert failed[0] == told.strip()
    assert len(failed) == 2


@pytest.mark.parametrize(
    "command", ["projections status", "runs list", "health", "contact suppress c-1"]
)
def test_what_the_disk_refuses_is_told_with_the_file_and_what_to_do(command: str, dee: Dee) -> None:
    def bounded() -> None:
        # Not even what SQLite lays beside a database to read it fits, as on a disk that is full.
        resource.setrlimit(resource.RLIMIT_FSIZE, (16 * 1024, 16 * 1024))

    process = dee.start(*command.split(), preexec_fn=bounded)
    _, told = process.communicate()
    assert process.returncode == 1
    assert re.fullmatch(
        r"dee: dee\.db: disk I/O error, with [0-9.,]+ [KMGT]iB free on its disk: make room if that "
        r"is too little, since SQLite writes beside a file even to read it; else see what the "
        r"system says of the disk; nothing was written\n",
        told,
    ), told
