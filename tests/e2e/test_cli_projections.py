"""`dee projections` and `dee events schema`, as people call them."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.cli.commands import Dee

NAMES = ["run_list", "audit_trail", "contact_history", "step_funnel"]


@pytest.fixture
def dee(tmp_path: Path) -> Dee:
    """A database with three runs that have sent their message."""
    dee = Dee(tmp_path).prepared()
    people = dee.contacts(*(f"c{n},c{n}@example.com,Ann" for n in range(3)))
    dee("enroll", "plan.yaml", people, "--var", "place=here")
    dee("tick")
    return dee


def change(dee: Dee, *statements: str) -> None:
    """Change the database past the engine."""
    with closing(sqlite3.connect(dee.folder / "dee.db")) as database, database:
        for statement in statements:
            database.execute(statement)


class Tampered:
    """A database one of whose entries is unreadable, until it is put right."""

    def __init__(self, dee: Dee) -> None:
        self._dee = dee
        with closing(sqlite3.connect(dee.folder / "dee.db")) as database:
            self.run, version, state = database.execute(
                "SELECT originator_id, originator_version, state FROM stored_events "
                "WHERE topic = 'StepCompleted' ORDER BY notification_id LIMIT 1"
            ).fetchone()
            ((self._trigger,),) = database.execute(
                "SELECT sql FROM sqlite_master WHERE name = 'stored_events_refuse_update'"
            ).fetchall()
        self._where = f"WHERE originator_id = '{self.run}' AND originator_version = {version}"
        self._state = state
        change(dee, "DROP TRIGGER stored_events_refuse_update")
        change(dee, f"UPDATE stored_events SET state = X'00' {self._where}")

    def put_right(self) -> None:
        """Give the entry its bytes back."""
        hexed = self._state.hex()
        update = f"UPDATE stored_events SET state = X'{hexed}' {self._where}"
        change(self._dee, update, self._trigger)


def test_status(dee: Dee) -> None:
    shown = dee("projections", "status").stdout
    assert [line.split()[0] for line in shown.splitlines()[1:5]] == NAMES
    assert "never" not in shown
    found = dee.json("projections", "status")
    first = found["projections"][0]
    assert first["name"] == "run_list"
    assert (first["version"], first["wanted"], first["rows"], first["parked"]) == (1, 1, 3, 0)
    assert first["lagEvents"] == 0
    assert first["bytes"] > 0
    assert found["parked"] == []
    assert dee.json("projections", "status", "--count")["projections"][0]["rowsExact"] is True
    dee("audit", "log")
    dee("execute", "welcome", "--email", "more@example.com", "--attr", "firstName=More")
    shown = dee("projections", "status").stdout
    assert "about 4" in shown
    assert "are counted by --count" in shown
    assert "about" not in dee("projections", "status", "--count").stdout


def test_rebuild_verify_drop(dee: Dee) -> None:
    dry = dee("projections", "rebuild", "run_list", "--dry-run").stdout
    assert "events to fold" in dry
    assert "guessed from a sample" in dry
    shown = dee("projections", "rebuild", "run_list", "audit_trail").stdout.splitlines()
    assert "run_list version 1: " in shown[0]
    assert "compared, digest " in shown[0]
    assert shown[0].endswith(
        "it is served now, and the former table (version 1) kept until "
        "`dee projections drop run_list`"
    )
    assert len(shown) == 2
    assert "as in the last rebuild" in dee("projections", "rebuild", "run_list", "--dry-run").stdout
    status = dee("projections", "status").stdout
    assert "run_list version 1: kept, at position" in status
    assert "events/s" in status
    for line in dee("projections", "verify").stdout.splitlines():
        assert "is what the log says" in line
    assert dee("projections", "drop", "run_list").stdout == "dropped run_list_v1\n"
    assert dee.json("projections", "drop", "audit_trail") == {
        "dropped": ["audit_run_v3", "audit_trail_v3"]
    }
    assert "there is nothing else" in dee("projections", "drop", "run_list", code=1).stderr
    assert dee.json("runs", "list")["total"] == 3


def test_an_estimate_counts_in_what_is_throttled_and_what_is_behind(dee: Dee) -> None:
    """Nobody has read the audit trail yet: what it holds tells nothing of its size."""
    dry = dee("projections", "rebuild", "audit_trail", "--dry-run", "--throttle", "1").stdout
    told = dict(line.split(maxsplit=1) for line in dry.splitlines() if line.startswith("ro"))
    assert (told["rows"], told["room"]) == ("-", "-")
    assert "events, folded first if it is compared with" in dry
    assert "comparison aside, at work 1% of it" in dry


def test_progress_is_shown_on_a_terminal(dee: Dee) -> None:
    code, said = dee.on_terminal(
        "projections", "rebuild", "run_list", "--throttle", "5", "--page", "1"
    )
    assert code == 0
    assert "Folding events" in said
    assert "it is served now" in said


def test_drift_is_told_and_put_right(dee: Dee) -> None:
    change(dee, "UPDATE run_list_v1 SET steps_completed = 9 WHERE ordinal = 2")
    told = dee("projections", "verify", "run_list", code=1).stdout
    assert "run_list version 1 has DRIFTED: 1 difference" in told
    assert "steps_completed 9 became 1" in told
    assert "`dee projections rebuild run_list --accept` makes it anew from the log" in told
    (found,) = dee.json_of(1, "projections", "verify", "run_list")
    assert found["ok"] is False
    assert found["comparison"]["samples"][0]["onlyOld"] == {"steps_completed": 9}
    refused = dee("projections", "rebuild", "run_list", code=1).stderr
    begun, sample, advice = refused.splitlines()
    assert begun == "dee: 'run_list' as the log has it differs from what is served, in 1 place:"
    assert sample.startswith("  - ")
    assert "steps_completed 9 became 1" in sample
    assert "changed past dee-es" in advice
    assert "give --accept" in advice
    run = dee.json("runs", "list")["runs"][1]["id"]
    again = dee("projections", "rebuild", "run_list", "--run", run).stdout
    assert again == "run_list: made the rows of 1 stream anew\n"
    assert dee("projections", "verify", "run_list").stdout


def test_an_unreadable_event_parks_its_run_until_it_is_put_right(dee: Dee) -> None:
    tampered = Tampered(dee)
    run = tampered.run
    sent = [step["sent"] for step in dee.json("plan", "funnel", "welcome")["steps"]]
    assert sum(sent) == 2
    health = dee("health", code=1).stdout
    assert f"projection step_funnel has parked {run}: StepCompleted" in health
    status = dee("projections", "status").stdout
    assert "1 stream parked: mend the fold, then run `dee projections retry step_funnel`" in status
    (parked,) = dee.json("projections", "status")["parked"]
    assert (parked["streamId"], parked["error"]) == (run, "unreadable")
    assert "still parked" in dee("projections", "retry", "step_funnel", code=1).stdout
    stopped = dee.fault("projections", "rebuild", "run_list")
    assert "projection 'run_list' cannot fold StepCompleted at position" in stopped
    tampered.put_right()
    assert dee("projections", "retry").stdout == "step_funnel: folded 1 stream\n"
    sent = [step["sent"] for step in dee.json("plan", "funnel", "welcome")["steps"]]
    assert sum(sent) == 3
    assert dee("health").stdout
    assert dee("projections", "verify").stdout
    assert "went on at" not in dee("projections", "rebuild", "run_list").stdout


def test_the_run_list_marks_a_run_it_could_not_follow(dee: Dee) -> None:
    tampered = Tampered(dee)
    # As after the restoration of a backup in which nothing was folded yet.
    change(
        dee,
        "DELETE FROM run_list_v1",
        "DELETE FROM run_list_v1_counts",
        "UPDATE projection_builds SET position = 0, ordinal = 0 WHERE name = 'run_list'",
    )
    listed = dee("runs", "list").stdout
    assert listed.splitlines()[-2] == "3 runs"
    assert listed.splitlines()[-1].endswith(f"(`dee projections status`): {tampered.run}")
    runs = {run["id"]: run["parked"] for run in dee.json("runs", "list")["runs"]}
    assert runs.pop(tampered.run) is True
    assert not any(runs.values())
    tampered.put_right()
    dee("projections", "retry", "run_list")
    assert dee("runs", "list").stdout.splitlines()[-1] == "3 runs"
    assert dee("projections", "verify", "run_list").stdout


def test_retry_without_anything_parked(dee: Dee) -> None:
    assert dee("projections", "retry").stdout == "nothing is parked\n"


@pytest.mark.parametrize(
    "arguments, code, told",
    [
        (["rebuild", "runs"], 1, "there is no projection 'runs'; there are run_list"),
        (["rebuild"], 2, "Missing argument"),
        (["rebuild", "run_list", "--throttle", "0"], 2, "throttle"),
        (["rebuild", "run_list", "--run", "x", "--contact", "y"], 2, "choose one"),
        (["rebuild", "run_list", "--run", "x", "--accept"], 2, "no other option"),
        (["drop", "run_list", "--version", "1"], 1, "it serves"),
        (["retry", "--stream", "x"], 2, "--stream goes with one NAME"),
        (["retry", "run_list", "--stream", "x"], 1, "x is not parked"),
    ],
)
def test_wrong_calls(dee: Dee, arguments: list[str], code: int, told: str) -> None:
    assert told in dee("projections", *arguments, code=code).stderr


def test_event_schemas(dee: Dee) -> None:
    every = json.loads(dee("events", "schema").stdout)
    assert {"RunStarted", "StepCompleted", "ClockStarted"} <= {each["name"] for each in every}
    (one,) = json.loads(dee("events", "schema", "RunStarted", "--version", "1").stdout)
    assert (one["schema"], one["current"], one["action"]) == (1, True, "run.started")
    assert one["personal"]["$defs"]["Enrolled"]["properties"].keys() >= {"email", "phone"}
    assert "no event is called 'Nothing'" in dee("events", "schema", "Nothing", code=1).stderr
    assert "RunStarted has no schema 2" in dee(
        "events", "schema", "RunStarted", "--version", "2", code=1
    ).stderr  # fmt: skip
