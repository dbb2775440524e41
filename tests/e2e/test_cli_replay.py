"""`dee replay`, as somebody on call would use it."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest

from tests.support.cli.commands import PLAN, Dee


@pytest.fixture(scope="module")
def dee(tmp_path_factory: pytest.TempPathFactory) -> Dee:
    """Three contacts whose runs are over. Tests change files beside the database, but not it."""
    dee = Dee(tmp_path_factory.mktemp("replay")).prepared()
    contacts = dee.contacts("c-1,ada@example.com,Ada", "c-2,bob@example.com,Bob", "c-3,,Cy")
    dee("enroll", "plan.yaml", contacts, "--var", "place=Example Town")
    dee("run-until", "--for", "5d")
    return dee


def run_of(dee: Dee, contact: str) -> str:
    (run,) = dee.json("runs", "list", "--contact", contact)["runs"]
    return str(run["id"])


def test_a_run_is_identical_and_says_its_steps(dee: Dee) -> None:
    run = run_of(dee, "c-1")
    said = dee("replay", run).stdout
    assert f"{run} is identical: 3 steps" in said
    assert ["pause", "waited", "waited", "yes"] in [line.split() for line in said.splitlines()]
    result = dee.json("replay", run)
    assert result["identical"] is True
    assert (result["diffs"], result["verdict"]) == ([], "identical")
    assert result["steps"][0] == {
        "id": "hello", "originalResult": "delivered", "replayedResult": "delivered",
        "identical": True,
    }  # fmt: skip


def test_another_plan_or_template_is_held_against_it(dee: Dee) -> None:
    run = run_of(dee, "c-1")
    (dee.folder / "other.yaml").write_text(PLAN.replace("days: 3", "days: 2"), encoding="utf-8")
    said = dee("replay", run, "--plan-file", "other.yaml", code=1).stdout
    assert "is DIFFERENT under another plan" in said
    assert "entry 7 step pause: tick was 259200, is now 172800" in said
    folder = dee.folder / "templates"
    folder.mkdir()
    (folder / "hello.txt").write_text("Welcome, {{contact.firstName}}", encoding="utf-8")
    said = dee("replay", run, "--templates", folder, code=1).stdout
    assert "step hello: message.text was 'Hello Ada, " in said
    assert "is now 'Welcome, Ada'" in said
    assert "is identical under plan version 1" in dee("replay", run, "--plan-version", "1").stdout


def test_a_fleet_is_summed_up(dee: Dee) -> None:
    said = dee("replay", "--all").stdout
    assert said == ("runs 3, events 22, identical 3, different 0, erased 0, unreadable 0\n")
    assert dee.json("replay", "--all", "--status", "failed")["runs"] == 1
    assert dee.json_of(1, "replay", "--all", "--plan", "nobody", "--workers", "1")["runs"] == 0
    said = dee("replay", "--all", "--plan", "nobody", code=1).stderr
    assert said == "dee: no run matches the filters; nothing was replayed\n"


def test_a_log_that_was_changed_is_told_and_the_rest_goes_on(dee: Dee, tmp_path: Path) -> None:
    run = run_of(dee, "c-1")
    for file in dee.folder.glob("dee.*"):
        shutil.copy(file, tmp_path)
    database = sqlite3.connect(tmp_path / "dee.db")
    with database:
        for (trigger,) in database.execute("SELECT name FROM sqlite_master WHERE type='trigger'"):
            database.execute(f'DROP TRIGGER "{trigger}"')
        database.execute(
            "UPDATE stored_events SET originator_version = 99 "
            "WHERE originator_id = ? AND originator_version = 4",
            (run,),
        )
    database.close()
    other = Dee(tmp_path)
    assert run in other.fault("replay", run)
    summary = other.json_of(1, "replay", "--all")
    assert (summary["unreadable"], summary["identical"]) == (1, 2)
    assert summary["causes"] == {"IntegrityViolation": 1}
    assert summary["divergences"][0]["runId"] == run


@pytest.mark.parametrize(
    "arguments, said",
    [
        ((), "name a RUN, or give --all"),
        (("run_x", "--all"), "name a RUN, or give --all"),
        (("--all", "--plan-version", "2"), "name a RUN for another plan"),
        (("run_x", "--plan-version", "2", "--plan-file", "f"), "choose one of"),
        (("run_x", "--status", "failed"), "go with --all"),
    ],
)
def test_what_makes_no_sense_is_a_usage_error(
    dee: Dee, arguments: tuple[str, ...], said: str
) -> None:
    assert said in dee.fault("replay", *arguments, code=2)


def test_folders_that_hold_no_templates_are_named(dee: Dee, tmp_path: Path) -> None:
    run = run_of(dee, "c-1")
    assert "holds no templates" in dee.fault("replay", run, "--templates", tmp_path)
    (tmp_path / "hello.html").write_text("<p>", encoding="utf-8")
    assert "hello.html without hello.txt" in dee.fault("replay", run, "--templates", tmp_path)
    assert "nowhere" in dee.fault("replay", run, "--templates", "nowhere")
    assert "there is no run" in dee.fault("replay", "run_" + "a" * 26)
