"""Lists on the command line: people not to be contacted, and events by the thousand."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from pathlib import Path

import pytest

from dee_es import Engine, EngineConfig
from tests.support.cli.commands import Dee
from tests.support.evidence.overwriting import overwrite
from tests.support.waiting import eventually

LIST = """\
email,phone,reason,source
jane@example.com,,asked us to stop,a form
,+1 555 0100,,
not an address,,,
,,,somebody
jane@example.com,,,another form
"""


@pytest.fixture
def dee(tmp_path: Path) -> Dee:
    dee = Dee(tmp_path).prepared()
    (tmp_path / "dnc.csv").write_text(LIST, encoding="utf-8")
    return dee


def test_a_list_is_taken_in_with_an_account_of_every_line(dee: Dee) -> None:
    rehearsal = dee("contact", "suppress", "--from", "dnc.csv", "--dry-run", code=1)
    assert rehearsal.stdout == (
        "dry run: 5 lines of dnc.csv: 2 added, 1 already on the list, 2 errors\n"
    )
    done = dee("contact", "suppress", "--from", "dnc.csv", "--reason", "the list", code=1)
    assert done.stdout == "5 lines of dnc.csv: 2 added, 1 already on the list, 2 errors\n"
    assert done.stderr.splitlines() == [
        'dnc.csv:4: not suppressed: column "email": is not one e-mail address such as '
        "name@example.com",
        "dnc.csv:5: not suppressed: record: has neither an id nor an e-mail address nor a phone "
        "number",
    ]
    again = dee("contact", "suppress", "--from", "-", "--json", given="jane@example.com\nc-7\n")
    assert json.loads(again.stdout) == {
        "lines": 2, "added": 1, "already": 1, "errors": 0, "dryRun": False
    }  # fmt: skip


def test_nobody_on_a_list_is_reached(dee: Dee) -> None:
    """Neither who is enrolled later under some id, nor who was enrolled before."""
    before = dee.contacts("early,jane@example.com,Jane", "ben,ben@example.com,Ben")
    dee("enroll", "plan.yaml", before, "--var", "place=here")
    dee("contact", "suppress", "--from", "dnc.csv", code=1)
    later = dee.contacts("c-9,JANE@example.com,J", "c-10,new@example.com,N")
    done = dee("enroll", "plan.yaml", later, "--var", "place=here")
    assert "1 created, 1 skipped (1 suppressed)" in done.stdout
    dee("tick")
    sent = "".join(path.read_text() for path in (dee.folder / "outbox").rglob("*.eml"))
    assert "jane" not in sent.lower()
    assert "To: ben@example.com" in sent
    (run,) = dee.json("runs", "list", "--contact", "early")["runs"]
    assert "suppress" in dee("history", run["id"]).stdout


def test_how_far_a_list_reaches_can_be_said(dee: Dee) -> None:
    (dee.folder / "ids.txt").write_text("c-1\n", encoding="utf-8")
    dee("contact", "suppress", "--from", "ids.txt", "--plan", "another")
    dee("contact", "suppress", "--from", "ids.txt", "--channel", "voice")
    assert "1 created" in dee("enroll", "plan.yaml", dee.contacts("c-1,,A")).stdout
    again = dee("contact", "suppress", "--from", "ids.txt", "--level", "global")
    assert "1 added" in again.stdout
    dee("runs", "bulk-cancel", "--contact", "c-1", "--reason", "the test goes on", "--yes")
    assert (
        "0 created, 1 skipped (1 suppressed)" in dee("enroll", "plan.yaml", "contacts.csv").stdout
    )


def test_a_run_that_cannot_be_read_is_told_beside_a_list(dee: Dee) -> None:
    contacts = dee.contacts("c-1,c1@example.com,A", "c-2,c2@example.com,B")
    dee("enroll", "plan.yaml", contacts, "--var", "place=here")
    (run,) = dee.json("runs", "list", "--contact", "c-1")["runs"]
    (dee.folder / "ids.txt").write_text("c-1\nc-2\n", encoding="utf-8")
    url = f"sqlite:///{dee.folder / 'dee.db'}"
    with Engine(EngineConfig(url, create=False)) as engine:
        overwrite(engine, url, run["id"], 1, b"DEE2")
    done = dee("contact", "suppress", "--from", "ids.txt")
    assert "2 added" in done.stdout
    (line,) = done.stderr.splitlines()
    assert f" warning addresses_not_listed run={run['id']} error={run['id']} entry 1 " in line
    later = dee.contacts("c-3,C2@example.com,B")
    refused = dee("enroll", "plan.yaml", later, "--var", "place=here")
    assert "0 created, 1 skipped (1 suppressed)" in refused.stdout


@pytest.mark.parametrize(
    "arguments, said",
    [
        (("--from", "dnc.csv", "c-1"), "leave out CONTACT"),
        (("--from", "dnc.csv", "--email", "a@example.com"), "leave out CONTACT"),
        (("--from", "dnc.csv", "--level", "plan", "--channel", "email"), "--channel belongs to"),
        (("c-1", "--dry-run"), "--dry-run belongs to --from"),
    ],
)
def test_what_does_not_go_together_is_said(dee: Dee, arguments: tuple[str, ...], said: str) -> None:
    assert said in dee.fault("contact", "suppress", *arguments, code=2)


def test_a_list_that_cannot_be_read_is_one_line(dee: Dee) -> None:
    assert "nope.csv" in dee.fault("contact", "suppress", "--from", "nope.csv")
    (dee.folder / "bare.csv").write_text("jane@example.com,Jane\n", encoding="utf-8")
    told = dee.fault("contact", "suppress", "--from", "bare.csv")
    assert "the first line has to name the columns" in told
    assert "jane" not in told


def test_progress_is_shown_on_a_terminal(dee: Dee) -> None:
    rows = "".join(f"p{number}@example.com\n" for number in range(6000))
    (dee.folder / "many.txt").write_text(rows, encoding="utf-8")
    code, shown = dee.on_terminal("contact", "suppress", "--from", "many.txt")
    assert code == 0
    assert "6,000 lines of many.txt: 6,000 added" in shown
    assert "Suppressing: " in shown
    assert "left" in shown


def test_events_of_a_file_are_taken_in_by_the_batch(dee: Dee) -> None:
    dee("enroll", "plan.yaml", dee.contacts(*(f"c-{n},c{n}@example.com,C" for n in range(40))),
        "--var", "place=here")  # fmt: skip
    dee("tick")
    (run,) = dee.json("runs", "list", "--contact", "c-0")["runs"]
    events = [
        {"type": f"email.{kind}", "contactId": f"c-{n}", "eventId": f"{kind}-{n}"}
        for kind in ("delivered", "opened", "clicked")
        for n in range(400)
    ]
    events.insert(700, {"type": "email.replied", "runId": run["id"], "stepId": "hello"})
    events.insert(800, {"type": "email.opened", "runId": "run_" + "a" * 26})
    text = "".join(json.dumps(event) + "\n" for event in events)
    (dee.folder / "events.jsonl").write_text(text, encoding="utf-8")
    done = dee("events", "ingest", "events.jsonl", "--strict", code=1)
    assert "1,202 events of events.jsonl: 1,201 accepted, 0 duplicates, 1 error" in done.stdout
    assert done.stderr.startswith("events.jsonl:801: not accepted: there is no run run_aaa")
    dee("run-until", "--for", "1m")
    assert dee.json("runs", "list", "--status", "completed")["total"] == 1
    again = dee("events", "ingest", "-", given=text)
    assert "1 accepted, 1,200 duplicates, 1 error" in again.stdout


def test_a_line_without_an_id_is_known_by_what_it_says(dee: Dee) -> None:
    dee("enroll", "plan.yaml", dee.contacts("c-1,c1@example.com,C"), "--var", "place=here")
    dee("tick")
    opened = {"type": "email.opened", "contactId": "c-1", "occurredAt": "2025-03-03T08:00:00.25Z"}
    clicked = {**opened, "type": "email.clicked"}
    lines = [
        opened,
        {**opened, "occurredAt": "2025-03-03T09:00:00.25+01:00"},
        {**opened, "occurredAt": "2025-03-03T08:00:00.26Z"},
        *({**clicked, "data": {"url": f"https://example.com/{n}"}} for n in range(2)),
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    done = dee("events", "ingest", "-", given=text)
    assert "5 events of -: 4 accepted, 1 duplicate, 0 errors" in done.stdout
    assert done.stderr == ""
    # The same lines again, behind others.
    replied = json.dumps({"type": "email.delivered", "contactId": "c-1"}) + "\n"
    again = dee("events", "ingest", "-", given=replied + text)
    assert "1 accepted, 5 duplicates, 0 errors" in again.stdout
    assert again.stderr == (
        "-: 1 line with neither eventId nor occurredAt would count again if repeated\n"
    )
    assert "1 accepted" in dee("events", "ingest", "-", given=replied).stdout


def test_taking_in_events_can_be_interrupted(dee: Dee) -> None:
    process = dee.start("events", "ingest", "-", stdin=subprocess.PIPE)
    assert process.stdin is not None
    for number in range(600):
        line = {"type": "email.opened", "contactId": f"c-{number}"}
        process.stdin.write(json.dumps({**line, "occurredAt": "2025-03-03T08:00Z"}) + "\n")
    process.stdin.flush()
    with Engine(EngineConfig(f"sqlite:///{dee.folder / 'dee.db'}", create=False)) as engine:
        eventually(lambda: engine.health().position >= 500)
    process.send_signal(signal.SIGINT)
    out, told = process.communicate()
    assert (process.returncode, out) == (130, "")
    assert "events up to line" in told
    assert "give the same file again" in told


def test_an_import_can_be_interrupted(dee: Dee) -> None:
    process = dee.start("contact", "suppress", "--from", "-", stdin=subprocess.PIPE)
    assert process.stdin is not None
    # More than a batch: what is in the log by then stays there.
    process.stdin.write("".join(f"p{number}@example.com\n" for number in range(600)))
    process.stdin.flush()
    with Engine(EngineConfig(f"sqlite:///{dee.folder / 'dee.db'}", create=False)) as engine:
        eventually(lambda: engine.health().position >= 500)
    process.send_signal(signal.SIGINT)
    out, told = process.communicate()
    assert (process.returncode, out) == (130, "")
    assert "adds only what is missing" in told


@pytest.mark.parametrize("command", [("runs", "list", "--after"), ("audit", "log", "--since")])
def test_what_follows_a_page_is_asked_for_with_times_in_full(
    dee: Dee, command: tuple[str, ...]
) -> None:
    dee.contacts(*[f"c-{n},c{n}@example.com,Ada" for n in range(4)])
    dee("enroll", "plan.yaml", "contacts.csv")
    first = dee(*command, "1d", "--limit", "3").stdout
    hint = re.search(r"(--(?:after|since) 2\S+Z --cursor \S+)$", first)
    assert hint is not None, first
    dee("run-until", "--for", "90s")
    following = dee(*command[:-1], *hint[1].split(), "--limit", "3").stdout
    assert following.splitlines()[1] not in first
    refused = dee(*command, "1d", *hint[1].split()[2:], code=2).stderr
    assert "has to be a time in full beside --cursor" in refused
    # A program finds the same in the JSON, and gives it again as it is.
    option = command[-1]
    page = dee.json(*command, "1d", "--limit", "3")
    dee("run-until", "--for", "90s")
    again = (option, page[option.lstrip("-")], "--cursor", page["nextCursor"], "--limit", "3")
    assert dee.json(*command[:-1], *again)[option.lstrip("-")] == page[option.lstrip("-")]
    assert "after" not in dee.json("runs", "list")
