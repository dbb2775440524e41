"""`dee enroll` with files as people have them, and `dee` on a terminal."""

from __future__ import annotations

import csv
import re
import signal
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from dee_es import Engine, EngineConfig
from tests.support.cli.commands import Dee
from tests.support.waiting import eventually

MESSY = (
    "c-1,ada@example.com,Ada",
    "c-2,secret(at)example.com,Bob",
    "c-3, ADA@Example.com ,Ada again",
    ",bob@example.com,Bob",
    "",
    ",BOB@EXAMPLE.COM,Bob again",
    "c-1,other@example.com,same id",
    "c-4,unwanted@example.com,Dan",
    "c 5,eve@example.com,Eve",
    "c-6",
    ",,nobody",
    "c-7,,Gus",
)


@pytest.fixture
def dee(tmp_path: Path) -> Dee:
    return Dee(tmp_path).prepared()


def test_every_row_is_accounted_for(dee: Dee) -> None:
    dee("contact", "suppress", "--email", "unwanted@example.com")
    contacts = dee.contacts(*MESSY)
    done = dee(
        "enroll", "plan.yaml", "contacts.csv", "--errors", "refused.csv", "--batch-size", "2"
    )
    summary = "3 created, 4 skipped (3 already enrolled, 1 suppressed), 4 errors"
    assert done.stdout == f"11 rows of contacts.csv: {summary}\n"
    told = [line.split(": ")[0] for line in done.stderr.splitlines()]
    assert told == [f"contacts.csv:{line}" for line in (3, 10, 11, 12)]
    assert "secret" not in done.stderr
    with open(dee.folder / "refused.csv", encoding="utf-8", newline="") as file:
        refused = list(csv.DictReader(file))
    assert {int(row["line"]): row["reason"] for row in refused} == {
        3: "invalid", 4: "already_enrolled", 7: "already_enrolled", 8: "already_enrolled",
        9: "suppressed", 10: "invalid", 11: "invalid", 12: "invalid",
    }  # fmt: skip
    assert "line 2" in next(row["detail"] for row in refused if row["line"] == "4")
    assert not re.search("(?i)secret|ada@|bob@|unwanted", (dee.folder / "refused.csv").read_text())
    assert dee.json("runs", "list")["total"] == 3

    again = dee.json("enroll", "welcome", contacts)
    assert again == {
        "rows": 11, "created": 0, "skipped": 7, "errors": 4, "alreadyEnrolled": 6, "suppressed": 1,
        "dryRun": False,
    }  # fmt: skip


def test_what_separates_the_columns_is_told_and_what_cannot_is_refused(dee: Dee) -> None:
    file = dee.folder / "semi.csv"
    file.write_text("id;email;First, last or nick, name\nc-1;ada@example.com;Ada\n")
    done = dee("enroll", "plan.yaml", "semi.csv", "--dry-run")
    between = "semicolons between columns, as its first line has them"
    assert done.stdout.startswith(f"dry run: 1 row of semi.csv ({between}): 1 created")
    file.write_text("id|email\nc-1|ada@example.com\n")
    refused = dee("enroll", "plan.yaml", "semi.csv", code=1)
    assert "contacts file semi.csv: has | between its columns; save it with" in refused.stderr


def test_a_row_that_is_too_large_is_told_by_its_line_and_stops_nobody(dee: Dee) -> None:
    large = ",".join("x" * 100_000 for _ in range(3))
    dee.contacts("c-1,,A,,", f"c-2,,{large}", "c-3,,C,,", header="id,email,firstName,more,most")
    for dry_run in (["--dry-run"], []):
        done = dee("enroll", "plan.yaml", "contacts.csv", *dry_run)
        assert "2 created, 0 skipped, 1 error" in done.stdout
        assert done.stderr.startswith("contacts.csv:3: not enrolled: contact payload: 300")
    assert dee.json("runs", "list")["total"] == 2


def test_variables_that_are_too_large_leave_the_file_unpublished(dee: Dee) -> None:
    contacts = dee.contacts("c-1,,A")
    large = [each for name in "abc" for each in ("--var", f"{name}={'x' * 100_000}")]
    for dry_run in (["--dry-run"], []):
        assert dee.fault("enroll", "plan.yaml", contacts, *large, *dry_run).startswith("variables:")
    assert dee.json("template", "list")["templates"] == []


def test_by_id_two_people_may_share_an_address(dee: Dee) -> None:
    dee.contacts(*MESSY)
    counts = dee.json("enroll", "plan.yaml", "contacts.csv", "--dedupe", "id")
    assert (counts["created"], counts["skipped"], counts["errors"]) == (5, 2, 4)


def test_a_dry_run_counts_and_writes_nothing(dee: Dee) -> None:
    dee.contacts(*MESSY)
    before = dee.json("health")["position"]
    done = dee("enroll", "plan.yaml", "contacts.csv", "--dry-run")
    assert done.stdout.startswith("dry run: 11 rows of contacts.csv: 4 created, 3 skipped")
    assert dee.json("health")["position"] == before
    assert dee.json("plan", "list")["total"] == 0


def test_refusals_fail_the_command_only_if_asked(dee: Dee) -> None:
    dee.contacts(*MESSY)
    assert "4 errors" in dee("enroll", "plan.yaml", "contacts.csv", "--strict", code=1).stdout


def test_many_bad_rows_do_not_flood_the_terminal(dee: Dee) -> None:
    dee.contacts(*(f"c {n},,x" for n in range(50)))
    done = dee("enroll", "plan.yaml", "contacts.csv")
    assert len(done.stderr.splitlines()) == 21
    assert "30 more" in done.stderr


def test_several_processes_give_the_account_of_one(dee: Dee) -> None:
    rows = [f"c-{n},p{n}@example.com,P" for n in range(300)]
    # Refused by the engine, which knows no lines: one given before, and one on the list.
    rows[250], rows[270] = "c-7,other@example.com,P", "c-270,unwanted@example.com,P"
    dee("contact", "suppress", "--email", "unwanted@example.com")
    dee.contacts(*rows)
    shared = ("--workers", "2", "--batch-size", "10", "--errors", "refused.csv")
    done = dee("enroll", "plan.yaml", "contacts.csv", *shared)
    assert "298 created, 2 skipped (1 already enrolled, 1 suppressed)" in done.stdout
    with open(dee.folder / "refused.csv", encoding="utf-8", newline="") as file:
        refused = {(row["line"], row["contactId"]) for row in csv.DictReader(file)}
    assert refused == {("252", "c-7"), ("272", "c-270")}
    assert dee.json("runs", "list")["total"] == 298


def test_from_a_pipe_with_variables(dee: Dee) -> None:
    rows = "email,first name\nada@example.com,Ada\n"
    done = dee("enroll", "plan.yaml", "-", "--var", "place=here", given=rows)
    assert "1 created" in done.stdout
    assert dee.json("runs", "list")["runs"][0]["variables"] == {"place": "here"}


def test_the_file_as_a_whole_is_bad(dee: Dee) -> None:
    (dee.folder / "x.csv").write_text("name,city\nAda,London\n")
    assert "no column named id, email or phone" in dee.fault("enroll", "plan.yaml", "x.csv")
    contacts = dee.contacts("c-1,,A")
    assert "--errors" in dee.fault("enroll", "plan.yaml", contacts, "--errors", contacts, code=2)
    assert contacts.read_text().startswith("id,email")


def test_csv_is_harmless_for_spreadsheets(dee: Dee) -> None:
    dee.contacts("c-1,,A")
    dee("enroll", "plan.yaml", "contacts.csv")
    run = dee.json("runs", "list")["runs"][0]["id"]
    dee("runs", "pause", run, "--reason", '=HYPERLINK("http://example.com")')
    dee("runs", "cancel", run, "--reason", "+1 to that")
    rows = list(csv.DictReader(dee("history", run, "--csv").stdout.splitlines()))
    assert [row["reason"] for row in rows[1:]] == [
        "'=HYPERLINK(\"http://example.com\")", "'+1 to that"
    ]  # fmt: skip


def test_nothing_stored_moves_the_cursor(dee: Dee) -> None:
    run = dee.json("execute", "plan.yaml", "--contact", "c-1", "--var", "place=\x1b[2J\u202eevil")
    dee("runs", "pause", run["id"], "--reason", "\x1b]0;owned\x07")
    for arguments in (["runs", "show", run["id"]], ["history", run["id"]],
                      ["runs", "list", "--json"], ["runs", "list"]):  # fmt: skip
        shown = dee(*arguments).stdout
        assert not set(shown) & set("\x1b\x07\u202e")
    assert dee.json("runs", "list")["runs"][0]["variables"]["place"] == "\x1b[2J\u202eevil"


def test_colours_only_on_a_terminal_that_wants_them(dee: Dee) -> None:
    dee("execute", "plan.yaml", "--contact", "c-1")
    assert "\x1b[32mactive" in dee.on_terminal("runs", "list", columns=200)[1]
    assert "\x1b" not in dee.on_terminal("runs", "list", columns=200, NO_COLOR="1")[1]
    assert "\x1b" not in dee.on_terminal("runs", "list", columns=200, TERM="dumb")[1]


def test_tables_fit_the_terminal(dee: Dee) -> None:
    dee("execute", "plan.yaml", "--contact", "c" * 100)
    code, shown = dee.on_terminal("runs", "list", columns=110, NO_COLOR="1")
    assert code == 0
    assert max(map(len, shown.splitlines())) <= 110
    assert "…" in shown
    assert dee.json("runs", "list")["runs"][0]["id"] in shown
    assert "c" * 100 in dee("runs", "list").stdout


def test_progress_on_a_terminal_only(dee: Dee) -> None:
    rows = [f"c-{n},c{n}@example.com,N" for n in range(3_000)]
    dee.contacts(*rows)
    code, shown = dee.on_terminal("enroll", "plan.yaml", "contacts.csv", "--batch-size", "100")
    assert code == 0
    assert re.search(r"\rEnrolling: [\d,]+ \(\d+%\), [\d,]+/s, \d+:\d\d left", shown.replace(
        "\x1b[K", ""))  # fmt: skip
    assert shown.replace("\x1b[K", "").rsplit("\r", 1)[-1].startswith("3,000 rows")
    assert dee("enroll", "plan.yaml", "contacts.csv").stderr == ""


def test_an_interrupted_enrolment_goes_on_where_it_stopped(dee: Dee) -> None:
    process = dee.start("enroll", "plan.yaml", "-", "--batch-size", "10", stdin=subprocess.PIPE)
    assert process.stdin is not None
    rows = "".join(f"c-{n},,N\n" for n in range(100_000))
    process.stdin.write("id,email,firstName\n" + rows[:5_000])
    process.stdin.flush()
    config = EngineConfig(database=f"sqlite:///{dee.folder / 'dee.db'}", create=False)
    with Engine(config) as engine:
        eventually(lambda: engine.list_runs(limit=1).total > 0)
        created = engine.list_runs(limit=1).total
    process.send_signal(signal.SIGINT)
    told = process.communicate()[1]
    assert process.returncode == 130
    assert "the same command again creates only what is missing" in told
    assert created % 10 == 0

    dee.contacts(*(f"c-{n},,N" for n in range(1_000)))
    counts = Counter(dee.json("enroll", "plan.yaml", "contacts.csv"))
    assert counts["created"] + counts["skipped"] == 1_000
    assert counts["skipped"] >= created
    assert dee.json("runs", "list", "--limit", "1")["total"] == 1_000


SIZES = """
id: sizes
name: Sizes
steps:
  - id: size
    type: branch
    conditions:
      - {when: contact.attributes.staff > 200, goto: large}
      - {when: default, goto: small}
  - {id: large, type: end, outcome: large}
  - {id: small, type: end, outcome: small}
"""


def test_a_plan_that_compares_numbers_gets_numbers(dee: Dee) -> None:
    (dee.folder / "sizes.yaml").write_text(SIZES)
    (dee.folder / "sizes.csv").write_text("id,email,Staff\na,a@example.com,300\nb,b@b.example,x\n")
    warned = dee("enroll", "sizes.yaml", "sizes.csv", "--dry-run").stderr
    claim = "step 'size' asks for contact.attributes.staff > 200"
    assert warned == (
        f"dee: warning: {claim}, but the column of staff is text; "
        "--number staff reads it as a number\n"
    )
    done = dee("enroll", "sizes.yaml", "sizes.csv", "--number", "Staff")
    assert "1 created, 0 skipped, 1 error" in done.stdout
    assert done.stderr.startswith('sizes.csv:3: not enrolled: column "Staff": is not a number')
    dee("run-until", "--for", "1h")
    assert dee.json("runs", "list", "--plan", "sizes")["runs"][0]["outcome"] == "large"


def test_columns_that_are_not_there_or_of_two_kinds_are_refused(dee: Dee) -> None:
    dee.contacts("c-1,ada@example.com,Ada")
    missing = dee("enroll", "plan.yaml", "contacts.csv", "--boolean", "vip", code=1)
    assert 'has no column "vip"' in missing.stderr
    given = ("--boolean", "firstName", "--number", "firstName")
    both = dee("enroll", "plan.yaml", "contacts.csv", *given, code=2)
    assert "both name the column 'firstName'" in both.stderr


def test_refused_rows_are_written_over_those_of_before_and_over_no_setting(dee: Dee) -> None:
    contacts, there = dee.contacts("c-1,,A"), dee.folder / "refused.csv"
    enroll = ("enroll", "plan.yaml", contacts, "--errors")
    master = (dee.folder / "dee.keys.master").read_bytes()
    said = dee.fault(*enroll, "dee.keys.master")
    assert "the settings name this file for something else" in said
    assert (dee.folder / "dee.keys.master").read_bytes() == master
    there.write_text("those of before")
    dee(*enroll, "refused.csv")
    assert there.read_text().startswith("line,")
    dee(*enroll, "/dev/null")
