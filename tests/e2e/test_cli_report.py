"""`dee report`: in every format, with every number leading to its entries."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from pypdf import PdfReader

from tests.support.cli.commands import Dee

PERIOD = ("report", "--from", "2025-03-03T00:00Z", "--to", "2025-04-01T00:00Z")


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a database in which four people were written to and one was suppressed."""
    folder = tmp_path_factory.mktemp("lived")
    dee = Dee(folder).prepared()
    dee.contacts(*(f"c{n},jane{n}@example.com,Jane{n}" for n in range(4)))
    dee("enroll", "plan.yaml", "contacts.csv", "--var", "place=Vienna")
    dee("run-until", "--for", "1h")
    dee("contact", "suppress", "c1", "--reason", "asked us")
    dee("run-until", "--for", "5d")
    return folder


@pytest.fixture
def dee(lived: Path, tmp_path: Path) -> Dee:
    for file in lived.iterdir():
        if file.is_file():
            shutil.copy(file, tmp_path)
    return Dee(tmp_path)


def test_json_numbers_lead_to_the_entries(dee: Dee) -> None:
    told = json.loads(dee(*PERIOD, "--format", "json", "--reason", "counsel asked").stdout)
    [attempted] = [
        each
        for each in told["sections"]["sends"]["figures"]
        if (each["group"], each["key"]) == ("email", "attempted")
    ]
    assert attempted["value"] == 4
    ranges = ", ".join(f"{first}-{last}" for first, last in attempted["entries"])
    page = dee.json("audit", "log", "--position", ranges)
    assert [entry["action"] for entry in page["entries"]] == ["step.dispatched"] * 4
    [export] = dee.json("audit", "log", "--action", "log.exported")["entries"]
    assert export["reason"] == "counsel asked"
    assert export["position"] == told["through"] + 1


def test_markdown_is_the_default_and_holds_no_personal_data(dee: Dee) -> None:
    text = dee(*PERIOD).stdout
    [export] = dee.json("audit", "log", "--action", "log.exported")["entries"]
    told = {**export["input"], **export["output"]}
    assert told["digest"] == hashlib.sha256(text.encode()).hexdigest()
    assert text.startswith("# Compliance report\n")
    assert "jane" not in text.lower()
    links = set(re.findall(r"\(#(figure-\d+)\)", text))
    assert links
    assert links == set(re.findall(r'<a id="(figure-\d+)">', text))


@pytest.mark.parametrize("ending", ["md", "json", "html", "pdf"])
def test_a_file_is_what_the_log_says_it_is(dee: Dee, ending: str) -> None:
    done = dee(*PERIOD, "--output", f"march.{ending}")
    assert done.stdout.splitlines()[0].startswith(f"march.{ending}: ")
    assert done.stderr == ""
    content = (dee.folder / f"march.{ending}").read_bytes()
    [export] = dee.json("audit", "log", "--action", "log.exported")["entries"]
    told = {**export["input"], **export["output"]}
    assert told["digest"] == hashlib.sha256(content).hexdigest()
    assert told["format"] == ending
    assert told["target"].endswith(f"march.{ending}")
    through = str(told["through"])
    dee(*PERIOD, "--output", f"again.{ending}", "--through", through)
    assert (dee.folder / f"again.{ending}").read_bytes() == content
    if ending == "pdf":
        pages = PdfReader(dee.folder / "march.pdf").pages
        text = pages[0].extract_text()
        assert "Sends by channel" in text
        assert f"page 1 of {len(pages)}" in text


def test_html_has_no_link_that_leads_nowhere(dee: Dee) -> None:
    text = dee(*PERIOD, "--format", "html").stdout
    targets = set(re.findall(r'href="#([^"]+)"', text))
    assert targets
    assert targets <= set(re.findall(r'id="([^"]+)"', text))
    assert "<script" not in text
    assert "http" not in re.sub(r"http-equiv", "", text)


def test_one_section_alone(dee: Dee) -> None:
    told = json.loads(dee(*PERIOD, "--include", "sends", "--format", "json").stdout)
    assert list(told["sections"]) == ["sends"]
    assert "verification" not in told


def test_a_log_that_was_changed_is_told(dee: Dee) -> None:
    with closing(sqlite3.connect(dee.folder / "dee.db")) as database:
        names = [
            row[0]
            for row in database.execute("SELECT name FROM sqlite_master WHERE type='trigger'")
        ]
        for name in names:
            database.execute(f'DROP TRIGGER "{name}"')
        database.execute(
            # The last byte of what is encrypted: everything else can still be read.
            "UPDATE stored_events SET state = "
            "CAST(substr(state, 1, length(state) - 1) || x'00' AS BLOB) "
            "WHERE topic = 'RunStarted'"
        )
        database.commit()
    text = dee(*PERIOD, "--include", "verification", code=1).stdout
    assert "does NOT verify" in text


def test_wrong_calls_are_refused(dee: Dee) -> None:
    said = dee.fault(*PERIOD, "--format", "pdf", code=2)
    assert said.startswith("a PDF file needs a place: --output FILE")
    assert "everything" in dee.fault(*PERIOD, "--include", "everything", code=2)
    assert "soon" in dee.fault("report", "--from", "soon", "--to", "0s", code=2)
    said = dee.fault(*PERIOD[:3], "--to", "2025-01-01T00:00Z", code=2)
    assert said.startswith("--to: must be after --from")
    said = dee.fault(*PERIOD, "--tz", "Mars/Olympus", code=2)
    assert said.startswith("--tz: 'Mars/Olympus' is no time zone such as")
    said = dee.fault(*PERIOD, "--through", "999999", code=2)
    assert said.startswith("--through: must be")
    said = dee.fault("audit", "export", "--since", "1h", "--until", "2h", code=2)
    assert said.startswith("--until: must be later than --since")


def test_positions_go_without_other_filters(dee: Dee) -> None:
    said = dee.fault("audit", "log", "--position", "1", "--contact", "c1", code=2)
    assert said == "--position goes without other filters (see `dee audit log --help`)"
    assert "no position" in dee.fault("audit", "log", "--position", "7-", code=2)
    assert dee.json("audit", "log", "--position", "2-3", "--position", "1")["total"] == 3


def test_positions_end_with_the_log(dee: Dee) -> None:
    end = dee.json("health")["position"]
    far = "9" * 16
    page = dee.json("audit", "log", "--position", f"1-{far}")
    assert [entry["position"] for entry in page["entries"]] == list(range(1, end + 1))
    assert dee.json("audit", "log", "--position", f"{end + 100}-{far}")["total"] == 0
