"""Every command of `dee` once, on SQLite, as somebody would use them one after the other."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli.commands import Dee


@pytest.fixture
def dee(tmp_path: Path) -> Dee:
    return Dee(tmp_path).prepared()


@pytest.fixture(scope="module")
def enrolled(tmp_path_factory: pytest.TempPathFactory) -> Dee:
    """Three contacts enrolled and written to. Only tests that change nothing use it."""
    dee = Dee(tmp_path_factory.mktemp("tour")).prepared()
    contacts = dee.contacts("c-1,ada@example.com,Ada", "c-2,bob@example.com,Bob", "c-3,,Cy")
    dee("enroll", "plan.yaml", contacts, "--var", "place=Example Town")
    dee("tick")
    return dee


def run_of(dee: Dee, contact: str) -> str:
    (run,) = dee.json("runs", "list", "--contact", contact)["runs"]
    return str(run["id"])


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_init_says_where_everything_is_and_refuses_a_second_time(tmp_path: Path) -> None:
    dee = Dee(tmp_path)
    said = dee(
        "init", "--clock", "manual", "--epoch", "2025-03-03T08:00Z", "--resolution-ms", "500"
    )
    for part in ("sqlite:///dee.db", "sqlite:///dee.keys.db", "dee.keys.master", "500 ms",
                 "2025-03-03T08:00:00Z"):  # fmt: skip
        assert part in said.stdout
    assert {"dee.db", "dee.keys.db", "dee.keys.master"} <= {p.name for p in tmp_path.iterdir()}
    assert "already" in dee.fault("init")
    assert dee.json("health")["clock"] == "manual"


def test_plans_and_templates(dee: Dee) -> None:
    assert (
        "is valid: 3 steps, with 1 template, a sender"
        in dee("plan", "validate", "plan.yaml").stdout
    )
    first = dee("plan", "publish", "plan.yaml").stdout
    assert "template hello published: version 1" in first
    assert "plan welcome: version 1" in first
    again = dee.json("plan", "publish", "plan.yaml")
    assert again["version"] == 1
    assert all(each["unchanged"] for each in again["bundle"])

    assert dee.json("plan", "list") == {
        "plans": [
            {"id": "welcome", "version": 1, "name": "Welcome", "steps": 3, "reenroll": "after_end"}
        ],
        "total": 1,
    }
    assert "welcome" in dee("plan", "list").stdout
    assert dee.json("plan", "show", "welcome@1")["id"] == "welcome"
    # What is shown can be published again and changes nothing.
    (dee.folder / "shown.yaml").write_text(dee("plan", "show", "welcome").stdout)
    assert dee.json("plan", "publish", "shown.yaml")["version"] == 1

    (dee.folder / "new.txt").write_text("Good day")
    published = dee("template", "publish", "hello", "--text", "new.txt").stdout
    assert published == "template hello: version 2\n"
    assert dee("template", "show", "hello").stdout == "Good day\n"
    assert "welcome to" in dee("template", "show", "hello@1").stdout
    assert dee.json("template", "list") == {
        "templates": [{"id": "hello", "version": 2}],
        "total": 1,
    }
    assert table(dee("template", "list", "--csv").stdout) == [{"id": "hello", "version": "2"}]


def test_a_run_from_execute_to_its_end(dee: Dee) -> None:
    run = dee.json("execute", "plan.yaml", "--contact", "c-1", "--email", "ada@example.com",
                   "--attr", "firstName=Ada", "--attr", "seats=12", "--var", "place=Example Town",
                   "--var", 'tags=["a", 1]', "--timezone", "Europe/Berlin")  # fmt: skip
    assert (run["status"], run["planVersion"]) == ("active", 1)
    assert run["variables"] == {"place": "Example Town", "tags": ["a", 1]}
    assert "already enrolled" in dee.fault("execute", "welcome", "--contact", "c-1")

    assert "1 delivered" in dee("tick").stdout
    (mail,) = (dee.folder / "outbox").rglob("*.eml")
    assert "Subject: Hello Ada" in mail.read_text()
    assert (
        f"{run['id']} is paused" in dee("runs", "pause", run["id"], "--reason", "a holiday").stdout
    )
    assert "from paused" in dee.fault("runs", "pause", run["id"])
    assert "is active" in dee("runs", "resume", run["id"]).stdout
    report = dee.json("run-until", "--for", "4d")
    assert report["time"] == "2025-03-07T08:00:00Z"
    shown = dee.json("runs", "show", run["id"])
    assert (shown["status"], shown["outcome"]) == ("completed", "finished")
    assert "completed        2025-03-06T08:00:00Z (1d ago)" in dee("runs", "show", run["id"]).stdout

    lines = dee("--actor", "somebody else", "history", run["id"]).stdout
    assert "a holiday" in lines
    assert "run.completed" in lines
    entries = dee.json("history", run["id"])
    assert entries["total"] == len(entries["entries"]) > 5
    assert entries["entries"][0]["action"] == "run.started"
    assert len(table(dee("history", run["id"], "--csv").stdout)) == entries["total"]
    said = dee("audit", "verify", run["id"]).stdout
    assert "is valid" in said
    assert "none of it is signed yet" in said
    assert "the log is valid" in dee("audit", "verify").stdout
    assert dee.json("audit", "verify")["valid"] is True


def test_execute_without_an_id_and_later(dee: Dee) -> None:
    address = ("--email", "Ada@Example.com")
    run = dee.json("execute", "plan.yaml", *address, "--start-at", "2d")
    assert run["status"] == "pending"
    assert run["startTick"] == 2 * 86_400
    assert run["contactId"].startswith("c_")
    assert "already" in dee.fault("execute", "plan.yaml", "--email", "ada@example.COM")
    assert "start" in dee.fault("execute", "plan.yaml", "--contact", "x", "--start-at",
                                "2001-01-01T00:00Z", code=2)  # fmt: skip
    cancelled = dee.json("runs", "cancel", run["id"], "--reason", "changed our minds")
    assert cancelled["status"] == "cancelled"


def test_a_failed_run_can_be_retried(dee: Dee) -> None:
    run = dee.json("execute", "plan.yaml", "--contact", "c-1", "--email", "ada@example.com")
    dee("tick")
    assert dee.json("runs", "show", run["id"])["status"] == "failed"
    assert "is active" in dee("runs", "retry", run["id"], "--reason", "try again").stdout
    assert dee.fault("runs", "resolve", run["id"], "--outcome", "delivered", "--reason", "seen it")


def test_lists_in_three_forms(enrolled: Dee) -> None:
    page = enrolled.json("runs", "list")
    assert page["total"] == 3
    assert {run["contactId"] for run in page["runs"]} == {"c-1", "c-2", "c-3"}
    ids = [run["id"] for run in page["runs"]]
    assert ids == sorted(ids, reverse=True), "of one batch they are in the order of their ids"
    assert page["nextCursor"] is None
    rows = table(enrolled("runs", "list", "--csv").stdout)
    assert [row["id"] for row in rows] == ids
    assert list(rows[0]) == list(page["runs"][0])
    assert json.loads(rows[0]["variables"]) == {"place": "Example Town"}
    lines = enrolled("runs", "list").stdout.splitlines()
    assert lines[0].split()[:4] == ["RUN", "PLAN", "CONTACT", "STATUS"]
    assert lines[-1] == "3 runs"
    assert "\x1b" not in enrolled("runs", "list").stdout


def test_pages(enrolled: Dee) -> None:
    first = enrolled.json("runs", "list", "--limit", "2")
    assert (len(first["runs"]), first["total"]) == (2, 3)
    rest = enrolled.json("runs", "list", "--limit", "2", "--cursor", first["nextCursor"])
    assert first["runs"] + rest["runs"] == enrolled.json("runs", "list")["runs"]
    assert enrolled.json("runs", "list", "--offset", "2")["runs"] == rest["runs"]
    text = enrolled("runs", "list", "--limit", "2").stdout
    assert f"2 of 3 runs; the next ones: --cursor {first['nextCursor']}" in text


@pytest.mark.parametrize(
    "filters, count",
    [
        (["--status", "waiting"], 2),
        (["--status", "waiting", "--status", "failed"], 3),
        (["--plan", "welcome"], 3),
        (["--plan", "other"], 0),
        (["--contact", "c-1"], 1),
        (["--after", "24h"], 3),
        (["--after", "2025-03-03T08:00:01Z"], 0),
        (["--before", "2025-03-03T10:00:00+01:00"], 3),
        (["--before", "1h30m"], 0),
    ],
)
def test_filters(enrolled: Dee, filters: list[str], count: int) -> None:
    assert enrolled.json("runs", "list", *filters)["total"] == count


def test_suppression(dee: Dee) -> None:
    assert dee("contact", "suppress", "--email", "Ada@example.com").stdout == "suppressed\n"
    assert dee.json("contact", "suppress", "--email", "ada@EXAMPLE.com") == {"changed": False}
    refused = dee.fault("execute", "plan.yaml", "--contact", "c-1", "--email", "ada@example.com")
    assert "suppressed" in refused
    assert "ada@" not in refused.lower()
    assert "no longer" in dee("contact", "unsuppress", "--email", "ada@example.com").stdout
    assert "nothing changed" in dee("contact", "unsuppress", "--email", "ada@example.com").stdout
    dee("contact", "suppress", "c-1", "--channel", "email", "--reason", "asked for calls only")
    assert "suppressed" in dee.fault("execute", "plan.yaml", "--contact", "c-1")


def test_events(dee: Dee) -> None:
    contacts = dee.contacts("c-1,ada@example.com,Ada", ",bob@example.com,Bob", "c-3,,Cy")
    dee("enroll", "plan.yaml", contacts, "--var", "place=here")
    dee("tick")
    lines: list[dict[str, Any] | str] = [
        {"type": "email.opened", "contactId": "c-1", "stepId": "hello", "eventId": "e-1",
         "occurredAt": "2025-03-03T08:00:00Z", "data": {"agent": "a reader"}},
        {"type": "email.opened", "contactId": "c-1", "eventId": "e-1"},
        {"type": "email.replied", "email": "ADA@example.com", "eventId": "e-2"},
        {"type": "email.replied", "email": "BOB@example.com"},
        {"type": "email.replied", "email": "nobody@example.com"},
        {"type": "email.exploded", "contactId": "c-1"},
        {"type": "email.opened", "contactId": "c-1", "occurredAt": "2025-03-03T08:00:00"},
        {"type": "email.opened", "contactId": "c-1", "colour": "red"},
        {"type": "email.opened"},
        "not json",
        "",
    ]  # fmt: skip
    text = "".join((each if isinstance(each, str) else json.dumps(each)) + "\n" for each in lines)
    (dee.folder / "events.jsonl").write_text(text)
    done = dee("events", "ingest", "events.jsonl", "--contacts", contacts)
    assert "10 events of events.jsonl: 3 accepted, 1 duplicate, 6 errors" in done.stdout
    *lines_told, note = done.stderr.splitlines()
    assert note.startswith("events.jsonl: 1 line with neither eventId nor occurredAt")
    told = [line.split(": ")[0] for line in lines_told]
    assert told == [f"events.jsonl:{number}" for number in (5, 6, 7, 8, 9, 10)]
    assert "nobody" not in done.stderr
    dee("run-until", "--for", "1m")
    assert dee.json("runs", "list", "--status", "completed")["total"] == 2
    again = dee("events", "ingest", "-", "--strict", given=text, code=1)
    assert "3 duplicates" in again.stdout


def test_bulk_cancel(dee: Dee) -> None:
    dee("enroll", "plan.yaml", dee.contacts("c-1,,A", "c-2,,B", "c-3,,C"))
    cancel = ("runs", "bulk-cancel", "--plan", "welcome", "--reason", "no longer wanted")
    assert dee.json(*cancel, "--dry-run") == {
        "matched": 3, "cancelled": 0, "errors": 0, "dryRun": True, "unchanged": []
    }  # fmt: skip
    assert "--yes" in dee.fault(*cancel, code=2)
    assert "filter" in dee.fault("runs", "bulk-cancel", "--reason", "x", "--yes", code=2)
    code, shown = dee.on_terminal(*cancel, keys="n\n")
    assert (code, "Cancel 3 runs?" in shown, "nothing was cancelled" in shown) == (1, True, True)
    some = ("--contact", "c-1", "--reason", "a pause", "--yes")
    assert dee("runs", "bulk-pause", *some, "--keep", "remaining").stdout == "1 of 1 run paused\n"
    assert dee.json("runs", "list", "--status", "paused")["total"] == 1
    assert dee.json("runs", "bulk-resume", *some, "--per-tick", "5") == {
        "matched": 1, "resumed": 1, "errors": 0, "dryRun": False, "unchanged": []
    }  # fmt: skip
    code, shown = dee.on_terminal(*cancel, keys="y\n")
    assert (code, "3 of 3 runs cancelled" in shown) == (0, True)
    assert dee(*cancel, "--yes").stdout == "0 of 0 runs cancelled\n"


def test_runs_that_cannot_be_changed_are_named(dee: Dee) -> None:
    dee("enroll", "plan.yaml", dee.contacts(*(f"c-{n},,A" for n in range(13))))
    (good, *bad) = [run["id"] for run in dee.json("runs", "list")["runs"]]
    with closing(sqlite3.connect(dee.folder / "dee.db")) as raw, raw:
        triggers = raw.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for (name,) in triggers:
            raw.execute(f"DROP TRIGGER {name}")
        raw.execute(
            "UPDATE stored_events SET topic = 'RunPaused' WHERE topic = 'RunStarted' "
            "AND originator_id <> ?",
            (good,),
        )
    cancel = ("runs", "bulk-cancel", "--plan", "welcome", "--reason", "no longer wanted", "--yes")
    done = dee(*cancel, code=1)
    first, *named, last = done.stdout.splitlines()
    assert first == "1 of 13 runs cancelled; 12 runs could not be"
    told = [line.strip().partition(": ") for line in named]
    assert [run for run, _, _ in told] == bad[:10]
    assert all(f"{run} entry 1" in detail for run, _, detail in told)
    assert last == "  and 2 other runs"
    found = dee.json_of(1, *cancel)
    assert (found["matched"], found["cancelled"], found["errors"]) == (12, 0, 12)
    assert [run["runId"] for run in found["unchanged"]] == bad


def test_bulk_retry(dee: Dee) -> None:
    dee("enroll", "plan.yaml", dee.contacts("c-1,,A", "c-2,,B"))
    dee("run-until", "--for", "1h")
    assert dee.json("runs", "list", "--status", "failed")["total"] == 2
    retry = ("runs", "bulk-retry", "--status", "failed", "--reason", "addresses were added")
    assert dee(*retry, "--dry-run").stdout == "2 runs would be retried\n"
    assert dee(*retry, "--per-tick", "1", "--yes").stdout == "2 of 2 runs retried\n"
    assert dee.json("runs", "list", "--status", "active")["total"] == 2
    ids = [run["id"] for run in dee.json("runs", "list")["runs"]]
    acts = [dee.json("history", run)["entries"][-1] for run in ids]
    assert [entry["action"] for entry in acts] == ["run.retried"] * 2
    told = [dee("explain", run).stdout.partition("it acts from ")[2][:20] for run in ids]
    assert told == ["2025-03-03 09:00:01Z", "2025-03-03 09:00:02Z"]


def test_time_is_moved_by_hand(dee: Dee) -> None:
    dee("execute", "plan.yaml", "--contact", "c-1", "--email", "a@example.com",
        "--attr", "firstName=A", "--var", "place=here")  # fmt: skip
    assert dee.json("tick")["delivered"] == 1
    assert "nothing was due; it is now tick 5" in dee("run-until", "--tick", "5").stdout
    assert "has passed" in dee.fault("run-until", "--tick", "4")
    assert dee.json("run-until", "--idle")["tick"] == 3 * 86_400
    assert dee.fault("run-until", "--tick", "4", "--idle", code=2)


def test_settings_come_from_flags_then_variables_then_the_file(tmp_path: Path) -> None:
    dee = Dee(tmp_path)
    (tmp_path / "dee.toml").write_text('database = "sqlite:///file.db"\n')
    assert "file.db" in dee.fault("health")
    assert "variable.db" in dee.fault("health", DEE_DATABASE="sqlite:///variable.db")
    flag = ("--database", "sqlite:///flag.db")
    assert "flag.db" in dee.fault(*flag, "health", DEE_DATABASE="sqlite:///variable.db")
    (tmp_path / "dee.toml").write_text("colour = 1\n")
    assert "colour" in dee.fault("health")


def test_who_acted_is_recorded(dee: Dee) -> None:
    dee("plan", "publish", "plan.yaml")
    run = dee.json("execute", "welcome", "--contact", "c-1")
    dee("--actor", "Robin", "runs", "pause", run["id"])
    dee("runs", "resume", run["id"], DEE_ACTOR="Kim")
    actors = [entry["actor"] for entry in dee.json("history", run["id"])["entries"]]
    assert actors[1:3] == ["Robin", "Kim"]
    assert actors[0]


def test_who_publishes_a_plan_anew_is_told_of_runs_that_keep_the_older_one(dee: Dee) -> None:
    kept = "that has not ended goes on by the version it began with; version 2 is for runs that"
    assert "not ended" not in dee("plan", "publish", "plan.yaml").stdout
    for who in ("c-1", "c-2"):
        dee("execute", "welcome", "--contact", who, "--email", f"{who}@example.com")
    (run,) = dee.json("runs", "list", "--contact", "c-2")["runs"]
    dee("runs", "cancel", run["id"], "--reason", "moved away")
    assert "not ended" not in dee("plan", "publish", "plan.yaml").stdout, "it is no new version"
    plan = (dee.folder / "plan.yaml").read_text()
    (dee.folder / "plan.yaml").write_text(plan.replace("days: 3", "days: 4"))
    said = dee("plan", "publish", "plan.yaml").stdout
    assert "plan welcome: version 2" in said
    assert f"1 run of it {kept} begin from now on" in said
