"""Looking into the past with `dee`: history, explain, debug, diff, contacts, funnels, run files."""

from __future__ import annotations

import csv
import io
import stat
from pathlib import Path

import pytest

from tests.support.cli.commands import Dee


@pytest.fixture(scope="module")
def dee(tmp_path_factory: pytest.TempPathFactory) -> Dee:
    """Three runs: one waits, one has failed, one was cancelled; one contact was refused."""
    dee = Dee(tmp_path_factory.mktemp("history")).prepared()
    contacts = dee.contacts(
        "c-1,ada@example.com,Ada", "c-2,bob@example.com,Bob", "c-3,,Cy", "c-4,di@example.com,Di"
    )
    dee("contact", "suppress", "c-2", "--reason", "asked by phone")
    dee("enroll", "plan.yaml", contacts, "--var", "place=Example Town")
    dee("run-until", "--for", "1d")
    dee("runs", "cancel", run_of(dee, "c-4"), "--reason", "moved away")
    return dee


def run_of(dee: Dee, contact: str) -> str:
    (run,) = dee.json("runs", "list", "--contact", contact)["runs"]
    return str(run["id"])


# --- history --------------------------------------------------------------------------------------


def test_times_are_those_of_the_asker(dee: Dee) -> None:
    run = run_of(dee, "c-1")
    assert "2025-03-03T08:00:00Z" in dee("history", run).stdout
    assert "2025-03-03T09:00:00+01:00" in dee("history", run, "--tz", "Europe/Vienna").stdout
    for told in (("history", run), ("history", run, "--full"), ("explain", run)):
        said = dee(*told, "--tz", "Europe/Vienna").stdout
        assert "until 2025-03-06T09:00:00+01:00" in said
        assert "08:00:00Z" not in said, told
    assert "2025-03-03T03:00:00-05:00" in dee("history", run, TZ="America/New_York").stdout
    assert "no time zone" in dee.fault("history", run, "--tz", "Mars/Olympus", code=2)


@pytest.mark.parametrize(
    "command",
    [
        "runs list",
        "runs show RUN",
        "runs diff RUN --from 2",
        "history RUN --at-tick 1",
        "history --contact c-1",
        "contact show c-1",
        "explain --contact c-2",
        "audit log --contact c-1",
        "health",
        "tick",
        "keys status",
        "projections status",
    ],
)
def test_whatever_shows_a_time_shows_it_in_the_zone_of_the_asker(command: str, dee: Dee) -> None:
    dee("keys", "backup", "backup")
    dee("projections", "rebuild", "run_list")
    words = command.replace("RUN", run_of(dee, "c-1")).split()
    asked, set_ = dee(*words, "--tz", "Asia/Kolkata").stdout, dee(*words, TZ="Asia/Kolkata").stdout
    for said in (asked, set_):
        assert "+05:30" in said
        assert "00Z" not in said


def test_a_debugged_run_is_told_in_the_zone_of_the_asker(dee: Dee) -> None:
    lines = "next\nwhat-if nothing\n"
    said = dee("debug", run_of(dee, "c-1"), "--tz", "Asia/Kolkata", given=lines).stdout
    assert "1: 2025-03-03T13:30:00+05:30" in said
    assert "would: 2025-03-06T13:30:00+05:30" in said
    assert "00Z" not in said


def test_full_shows_all_that_was_recorded(dee: Dee) -> None:
    run = run_of(dee, "c-1")
    said = dee("history", run, "--full").stdout
    for part in ('"ada@example.com"', "lease_epoch: ", "checksum ", "position ", "command tick_0"):
        assert part in said
    entries = dee.json("history", run, "--full")["entries"]
    assert entries[2]["data"]["personal"]["to"] == "ada@example.com"
    assert len(entries[0]["checksum"]) == 64
    short = dee("history", run).stdout
    assert "ada@example.com" not in short


def test_colours_are_for_terminals_and_for_who_wants_them(dee: Dee) -> None:
    run = run_of(dee, "c-3")
    assert "\x1b[" not in dee("history", run).stdout
    _, shown = dee.on_terminal("history", run)
    assert "\x1b[31m" in shown
    _, plain = dee.on_terminal("history", run, NO_COLOR="1")
    assert "\x1b[3" not in plain


def test_a_contacts_history_crosses_its_runs(dee: Dee) -> None:
    said = dee("history", "--contact", "c-2").stdout
    assert "contact:c-2 1 contact.suppressed: global" in said
    assert "asked by phone" in said
    assert "enrollment.refused: global" in said
    entries = dee.json("history", "--contact", "c-4")["entries"]
    assert [entry["action"] for entry in entries][-1] == "run.cancelled"


def test_a_run_at_any_moment_of_its_past(dee: Dee) -> None:
    run = run_of(dee, "c-4")
    assert dee.json("history", run, "--at-version", "2")["run"]["status"] == "active"
    at = dee.json("history", run, "--at", "2025-03-03T12:00Z")
    assert (at["run"]["status"], at["waiting"]["what"]) == ("waiting", "wait")
    assert at["context"]["variables"] == {"place": "Example Town"}
    assert dee.json("history", run, "--at", "20h") == at
    before, now = (
        dee.json("contact", "show", "c-4", "--as-of", "20h"),
        dee.json("contact", "show", "c-4"),
    )
    assert [each["runs"][0]["status"] for each in (before, now)] == ["waiting", "cancelled"]
    assert dee.json("history", run, "--at-tick", "86400")["run"]["status"] == "cancelled"
    said = dee("history", run, "--at-version", "6").stdout
    assert "wait until 2025-03-06T08:00:00Z (tick 259,200)" in said


@pytest.mark.parametrize(
    "arguments, code, said",
    [
        ((), 2, "name a RUN, or give --contact"),
        (("RUN", "--contact", "c"), 2, "name a RUN, or give --contact"),
        (("RUN", "--at-tick", "1", "--at-version", "1"), 2, "give one of"),
        (("RUN", "--at-tick", "1", "--full"), 2, "give one of"),
        (("RUN", "--full", "--csv"), 2, "--full goes with --json"),
        (("RUN", "--at-version", "99"), 2, "--at-version: must be a whole number, 1 to 7"),
        (("RUN", "--at", "2025-01-01T00:00Z"), 2, "--at: the run began at tick 0"),
    ],
)
def test_what_makes_no_sense_is_said(
    dee: Dee, arguments: tuple[str, ...], code: int, said: str
) -> None:
    run = run_of(dee, "c-4")
    given = [run if word == "RUN" else word for word in arguments]
    assert said in dee.fault("history", *given, code=code)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("runs diff RUN --to 99", "--to: must be a whole number, 1 to 7"),
        ("runs diff RUN --from 99", "--from: must be a whole number, 1 to 7"),
        ("audit context RUN hello --visit 2", "--visit: must be 1 to 1"),
    ],
)
def test_what_a_run_has_not_is_told_by_the_option(command: str, said: str, dee: Dee) -> None:
    words = command.replace("RUN", run_of(dee, "c-4")).split()
    assert said in dee.fault(*words, code=2)


@pytest.mark.parametrize("typed", ["run_23hiuil", "RUN_23HIUILBJBNPM7MH7LIMQKI7IW", "c-1"])
def test_what_cannot_be_a_runs_id_is_told_with_how_one_looks(typed: str, dee: Dee) -> None:
    for command in (["history"], ["explain"], ["runs", "show"], ["runs", "pause"], ["debug"]):
        told = dee.fault(*command, typed)
        assert f"there is no run {typed}, since a run's id is run_ and 26 small letters" in told
    assert "since" not in dee.fault("history", "run_" + "a" * 26)


def test_a_diff_names_fields_and_events(dee: Dee) -> None:
    run = run_of(dee, "c-4")
    changes = {c["field"]: c for c in dee.json("runs", "diff", run, "--from", "6")["changes"]}
    assert changes["status"]["before"] == "waiting"
    assert changes["status"]["after"] == "cancelled"
    assert (changes["status"]["version"], changes["status"]["event"]) == (7, "run.cancelled")
    assert changes["statusReason"]["after"] == "moved away"
    assert (
        "fields changed between versions 6 and 7" in dee("runs", "diff", run, "--from", "6").stdout
    )
    rows = list(
        csv.DictReader(io.StringIO(dee("runs", "diff", run, "--from", "6", "--csv").stdout))
    )
    assert {row["field"]: row["after"] for row in rows}["status"] == "cancelled"
    backwards = dee.json("runs", "diff", run, "--from", "7", "--to", "6")["changes"]
    assert {c["field"]: c["after"] for c in backwards}["status"] == "waiting"


def test_a_diff_shows_a_runs_times_in_a_zone_and_programs_read_utc(tmp_path: Path) -> None:
    dee = Dee(tmp_path).prepared()
    dee("plan", "publish", "plan.yaml")
    run = dee.json("execute", "welcome", "--contact", "c-12", "--email", "e@example.com",
                   "--attr", "firstName=Eve", "--start-at", "2025-03-06T08:00Z")["id"]  # fmt: skip
    dee("runs", "cancel", run, "--reason", "not before 2025-03-06 08:00:00Z")
    lines = dee("runs", "diff", run, "--tz", "Asia/Kolkata").stdout.splitlines()
    shown = {line.split()[0]: line for line in lines}
    assert "2025-03-06T13:30:00+05:30" in shown["waiting.until"]
    assert "not before 2025-03-06T13:30:00+05:30" in shown["statusReason"]
    changes = dee.json("runs", "diff", run, "--tz", "Asia/Kolkata")["changes"]
    (until,) = [c["before"] for c in changes if c["field"] == "waiting.until"]
    assert until == "2025-03-06T08:00:00Z"


# --- explain --------------------------------------------------------------------------------------


def test_explain_says_why_and_what_to_do(dee: Dee) -> None:
    said = dee("explain", run_of(dee, "c-1")).stdout
    assert said.startswith("It waits at step pause until 2025-03-06 08:00:00Z (tick 259200)")
    run = run_of(dee, "c-3")
    said = dee("explain", run).stdout
    assert "It has failed at step hello" in said
    assert "the contact has no e-mail address" in said
    assert f"dee runs retry {run}" in said
    said = dee("explain", run_of(dee, "c-4")).stdout
    assert "It was cancelled: moved away." in said
    assert "reason: moved away" in said


def test_explain_says_why_a_contact_has_no_run(dee: Dee) -> None:
    said = dee("explain", "--contact", "c-2", "--plan", "welcome").stdout
    assert "Contact c-2 has no run of the plan welcome." in said
    assert "refused by suppression: global" in said
    assert "It is suppressed now: global." in said
    assert "nobody tried" in dee("explain", "--contact", "nobody").stdout
    found = dee.json("explain", "--contact", "c-1")
    assert found["advice"] == [f"dee explain {run_of(dee, 'c-1')}"]
    assert "name a RUN" in dee.fault("explain", code=2)


# --- debug ----------------------------------------------------------------------------------------


def test_a_session_steps_and_supposes_and_writes_nothing(dee: Dee) -> None:
    run = run_of(dee, "c-1")
    before = dee.json("health")["position"]
    lines = [
        "next 3", "peek", "back", "context", "goto 6", "what-if event email.replied",
        "what-if set place 'New Town'", "what-if nothing", "what-if event email.eaten",
        "what-if event email.opened {broken", "goto 99", "next x", "dance", "'", "", "next",
        "quit", "next",
    ]  # fmt: skip
    said = dee("debug", run, given="\n".join(lines)).stdout
    for part in (
        "3: 2025-03-03T08:00:00Z tick 0 step.dispatched step hello (send_email)",
        "back to version 2, before step.dispatched",
        '"place": "Example Town"',
        "at version 6 of 6",
        "run.completed: replied",
        "the run would be completed with the outcome 'finished'",
        "type: must be one of",
        "data: is not JSON",
        "version: must be a whole number, 0 to 6",
        "number: must be one whole number",
        "'dance' is no command",
        "not understood",
        "6 is the last; nothing happened after it",
    ):
        assert part in said, part
    assert dee.json("health")["position"] == before


# --- contacts and funnels -------------------------------------------------------------------------


def test_a_contact_as_of_any_date(dee: Dee) -> None:
    now = dee.json("contact", "show", "c-4")
    assert [run["status"] for run in now["runs"]] == ["cancelled"]
    assert {entry["kind"] for entry in now["entries"]} == {"run", "send", "wait"}
    before = dee.json("contact", "show", "c-4", "--as-of", "2025-03-03T12:00Z")
    assert [run["status"] for run in before["runs"]] == ["waiting"]
    assert dee.json("contact", "show", "c-2")["suppressions"] == ["global"]
    assert "suppressed  no" in dee("contact", "show", "c-1").stdout
    dee("contact", "suppress", "--email", "ada@example.com", "--reason", "asked")
    assert dee.json("contact", "show", "c-1")["addressSuppressions"] == ["global"]
    assert "global (by its address)" in dee("contact", "show", "c-1").stdout
    said = dee("contact", "show", "c-2").stdout
    assert "enrollment.refused" in said
    dee("contact", "suppress", "c-10", "--reason", "asked before anybody wrote to them")
    assert "0 runs, 1 entry" in dee("contact", "show", "c-10").stdout
    fault = dee.fault("contact", "show", "c-1", "--as-of", "2020-01-01T00:00Z", code=2)
    assert "before the database's epoch" in fault


@pytest.mark.parametrize(
    "command",
    [
        "runs list --plan welcome@1",
        "runs bulk-cancel --plan welcome@1 --reason why --yes",
        "replay --all --plan welcome@1",
        "explain --contact c-1 --plan welcome@1",
        "contact suppress c-1 --level plan --plan welcome@1",
        "audit log --plan welcome@1",
    ],
)
def test_where_all_versions_of_a_plan_are_meant_one_is_not_taken(command: str, dee: Dee) -> None:
    fault = dee.fault(*command.split(), code=2)
    assert "--plan" in fault
    assert "is an id with a version; give the id alone, which stands for all versions of" in fault


def test_where_a_plan_is_named_it_may_be_named_with_its_version(dee: Dee) -> None:
    for named in ("welcome@1", "welcome --plan-version 1", "welcome@1 --plan-version 1"):
        assert dee.json("plan", "funnel", *named.split()) == dee.json("plan", "funnel", "welcome")
    assert "version 9 has not been published" in dee.fault("plan", "funnel", "welcome@9")
    twice = dee.fault("plan", "funnel", "welcome@1", "--plan-version", "2", code=2)
    assert "welcome@1 and --plan-version 2 name two versions" in twice


def test_a_funnel_adds_up(dee: Dee) -> None:
    found = dee.json("plan", "funnel", "welcome")
    hello, pause = found["steps"]
    assert (hello["stepId"], hello["entered"], hello["sent"], hello["failed"]) == ("hello", 3, 2, 1)
    assert (pause["entered"], pause["exited"], pause["inProgress"]) == (2, 1, 1)
    said = dee("plan", "funnel", "welcome", "--reasons").stdout
    assert "hello@1 failed: cannot be rendered 1" in said
    assert "pause@1 exited: cancelled 1" in said
    assert dee("plan", "funnel", "welcome", "--csv").stdout.startswith("planVersion,stepId,entered")
    table = csv.DictReader(
        io.StringIO(dee("plan", "funnel", "welcome", "--reasons", "--csv").stdout)
    )
    one, two = table
    assert (one["stepId"], one["failed"], one["failed: cannot be rendered"]) == ("hello", "1", "1")
    assert (two["stepId"], two["exited"], two["exited: cancelled"]) == ("pause", "1", "1")
    assert two["failed: cannot be rendered"] == "0"
    assert "has not been published" in dee.fault("plan", "funnel", "nothing")


# --- run files ------------------------------------------------------------------------------------


def test_a_run_goes_into_a_scratch_database_as_a_file(dee: Dee, tmp_path: Path) -> None:
    run, file = run_of(dee, "c-4"), tmp_path / "run.json"
    done = dee("runs", "export", run, file)
    assert "holds personal data" in done.stderr
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "--force writes over it" in dee.fault("runs", "export", run, file)
    dee("runs", "export", run, file, "--force")
    scratch = Dee(tmp_path)
    scratch("init", "--clock", "manual", "--epoch", "2025-03-03T08:00Z")
    assert f"{run} imported: 7 events, cancelled" in scratch("runs", "import", file).stdout
    again = scratch("runs", "import", file).stdout
    assert again == f"{run} was there already, nothing was imported: 7 events, cancelled\n"
    assert "is identical" in scratch("replay", run).stdout
    assert "is valid" in scratch("audit", "verify", run).stdout
    bare = tmp_path / "bare.json"
    assert dee("runs", "export", run, bare, "--no-personal-data").stderr == ""
    other = tmp_path / "other"
    other.mkdir()
    Dee(other)("init", "--clock", "manual", "--epoch", "2025-03-04T08:00Z")
    assert "--epoch 2025-03-03T08:00:00Z" in Dee(other).fault("runs", "import", bare)
    file.write_text(file.read_text(encoding="utf-8")[:-200], encoding="utf-8")
    assert "is not JSON; it may have been cut off" in scratch.fault("runs", "import", file)


# --- audit ----------------------------------------------------------------------------------------


def test_the_audit_trail_is_searched(dee: Dee) -> None:
    run = run_of(dee, "c-4")
    shown = dee("audit", "log", "--action", "run.cancelled").stdout
    assert run in shown
    assert "moved away" in shown
    assert "1 of 1 entry" in shown
    found = dee.json("audit", "log", "--text", "MOVED", "--since", "7d")
    assert [entry["runId"] for entry in found["entries"]] == [run]
    assert found["entries"][0]["context"]["status"] == "waiting"
    first = dee("audit", "log", "--contact", "c-1", "--limit", "2").stdout
    cursor = first.split("--cursor ")[1].strip()
    second = dee.json("audit", "log", "--contact", "c-1", "--limit", "2", "--cursor", cursor)
    assert [entry["version"] for entry in second["entries"]] == [3, 4]
    rows = dee("audit", "log", "--run", run, "--csv").stdout.splitlines()
    assert rows[0].startswith("id,position,stream,version,tick,timestamp,action,runId")
    assert len(rows) == 1 + dee.json("audit", "log", "--run", run)["total"]
    assert "none of" in dee.fault("audit", "log", "--action", "run.lost", code=2)
    assert "ada@example.com" not in dee("audit", "log").stdout


def test_what_a_step_read(dee: Dee) -> None:
    run = run_of(dee, "c-1")
    step = dee.json("audit", "log", "--run", run, "--action", "step.dispatched")["entries"][0]
    seen = dee.json("audit", "context", run, step["stepId"])
    assert seen["contact"]["email"] == "ada@example.com"
    said = dee("audit", "context", run, step["stepId"]).stdout
    assert 'variables        {"place": "Example Town"}' in said
    assert "unsubscribed     false" in said
    assert "has not entered" in dee.fault("audit", "context", run, "nowhere")


def test_checkpoints_and_proofs(dee: Dee, tmp_path: Path) -> None:
    run = run_of(dee, "c-1")
    assert "DEE_CHECKPOINTS" in dee.fault("audit", "checkpoint")
    assert "no signed checkpoint was compared" in dee("audit", "verify").stdout
    place = {"DEE_CHECKPOINTS": str(tmp_path / "evidence")}
    said = dee("audit", "checkpoint", **place).stdout
    assert f"kept in {tmp_path / 'evidence'}" in said
    verified = dee("audit", "verify", "--workers", "2", **place).stdout
    assert "--workers goes with the whole log" in dee.fault(
        "audit", "verify", run, "--workers", "2", code=2
    )
    assert "complete up to position" in verified
    assert "not signed yet: the last 1 entry" in verified
    dee("audit", "prove", run, "--entry", "2", "--output", str(tmp_path / "proof.json"), **place)
    assert '"format": "dee-proof/1"' in (tmp_path / "proof.json").read_text()
    said = dee("audit", "verify", run).stdout
    assert "signed up to entry" in said
    # A chain made anew looks the same: only the whole log is compared with what was signed.
    assert "if the whole log verifies" in said
    assert "has no entry 99" in dee.fault("audit", "prove", run, "--entry", "99")
    (key,) = dee.folder.glob("*.audit.key")
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    key.rename(key.with_name("away"))
    assert "NOT CHECKED: the key" in dee("audit", "verify", **place).stdout
    key.with_name("away").rename(key)


def test_a_text_that_cannot_be_filled_in_is_told_with_its_template(dee: Dee) -> None:
    # Whoever is to mend it has the run alone, and not the plan.
    run = dee.json("execute", "welcome", "--contact", "c-9", "--email", "c9@example.com",
                   "--attr", "firstName=Nina")["id"]  # fmt: skip
    dee("tick")
    (template, retry, _) = dee.json("explain", run)["advice"]
    assert "version 1 of the template hello" in template
    assert "dee template publish hello --text FILE" in template
    (dee.folder / "hello.txt").write_text("Hello {{contact.firstName}}")
    dee("template", "publish", "hello", "--text", "hello.txt")
    assert f"dee runs retry {run} --reason TEXT" in retry
    dee("runs", "retry", run, "--reason", "mended")
    dee("run-until", "--for", "1m")
    explained = dee.json("explain", run)
    assert (explained["advice"], "It waits at step pause" in explained["now"]) == ([], True)


def test_a_subject_that_cannot_be_filled_in_is_told_with_what_a_retry_leaves(dee: Dee) -> None:
    run = dee.json("execute", "welcome", "--contact", "c-8", "--email", "c8@example.com")["id"]
    dee("tick")
    (subject, _, cancel) = dee.json("explain", run)["advice"]
    assert "version 1 of the plan welcome, which a retry does not change" in subject
    assert f"dee runs cancel {run}" in cancel


@pytest.mark.parametrize(
    "command", ["contact show", "contact show --as-of 2h", "history --contact"]
)
def test_a_contact_that_nobody_knows_is_told_as_such(command: str, dee: Dee) -> None:
    words = command.split()
    fault = dee.fault(*words, "c-11")
    assert fault == (
        "nothing is known of contact c-11: no run, no suppression, no consent and no refusal has "
        "this id"
    )
    assert dee(*words, "c-11", code=1).stdout == ""
    assert dee.json_of(1, *words, "c-11")["contactId"] == "c-11"
    # One who was refused, or of whom nothing was on record by then, is somebody.
    dee(*words, "c-2")


def test_whether_a_contact_is_known_stands_in_json(dee: Dee) -> None:
    assert dee.json("contact", "show", "c-2")["known"] is True
    assert dee.json_of(1, "contact", "show", "c-11")["known"] is False
    said = dee("explain", "--contact", "c-11").stdout
    assert said.startswith("Nothing is on record of contact c-11")
