"""The worker as it is run signs the log by itself, and says so."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from tests.e2e.test_worker import ADA, eventually, logged, scraped, working
from tests.support.cli.commands import Dee


def prepared(folder: Path, **settings: str) -> Dee:
    evidence = folder / "evidence"
    return Dee(folder, {"DEE_CHECKPOINTS": str(evidence), **settings}).prepared(clock="system")


@pytest.mark.parametrize(
    ("events", "seconds"), [("3", "0"), ("0", "1")], ids=["after events", "after seconds"]
)
def test_a_worker_signs_on_either_trigger(tmp_path: Path, events: str, seconds: str) -> None:
    dee = prepared(tmp_path, DEE_CHECKPOINT_EVERY_EVENTS=events, DEE_CHECKPOINT_EVERY_S=seconds)
    dee("execute", "plan.yaml", *ADA)
    with working(dee) as process:
        eventually((tmp_path / "evidence").exists, "nothing was signed")
        eventually(
            lambda: dee.json("audit", "verify")["checkpoints"] > 0, "no checkpoint was recorded"
        )
        process.send_signal(signal.SIGTERM)
        out, told = process.communicate(timeout=60)
    assert told == ""
    assert "entries, kept in 1 place\n" in out
    verdict = dee.json("audit", "verify")
    assert verdict["valid"]
    entries = dee.json("audit", "log", "--action", "checkpoint.signed")["entries"]
    assert len(entries) == verdict["checkpoints"]
    assert {entry.get("actor") for entry in entries} == {None}


def test_a_worker_whose_place_is_gone_works_on_and_says_so(tmp_path: Path) -> None:
    dee = prepared(tmp_path, DEE_CHECKPOINT_EVERY_EVENTS="1")
    (tmp_path / "evidence").write_text("a file in the way")
    run = dee.json("execute", "plan.yaml", *ADA)["id"]
    with working(dee, "--log-json", "--metrics-port", "0") as process:
        port = int(logged(process, "serving")["port"])
        failed = logged(process, "checkpoint_failed")
        assert (failed["level"], failed["again_in_s"]) == ("warning", 5.0)
        assert "evidence" in failed["problem"]
        found = scraped(port)
        assert found["dee_checkpoint_failures_total"] == 1
        assert found["dee_checkpoints_total"] == 0
        assert found["dee_unanchored_events"] == found["dee_log_position"]
        assert dee.json("runs", "show", run)["status"] == "waiting"
        (tmp_path / "evidence").unlink()
        assert logged(process, "checkpoint_signed")["level"] == "info"
        assert scraped(port)["dee_checkpoints_total"] == 1


def test_health_says_how_much_is_not_signed_and_what_is_wrong(tmp_path: Path) -> None:
    dee = prepared(tmp_path, DEE_CHECKPOINT_EVERY_EVENTS="1")
    (tmp_path / "list.csv").write_text("contact_id\n" + "".join(f"c-{n}\n" for n in range(12)))
    dee("contact", "suppress", "--from", "list.csv")
    found = dee.json("health")
    assert found["unsigned"] > 10
    assert "are not signed yet" in found["advice"][0]
    assert "not signed yet" in dee("health").stdout
    size = dee.json("audit", "checkpoint")["size"]
    dee("contact", "suppress", "one-more")
    assert dee.json("health")["unsigned"] == 1
    kept = tmp_path / "evidence" / f"checkpoint-{size:020d}.txt"
    kept.write_text(kept.read_text().replace(f"\n{size}\n", f"\n{size + 1}\n"))
    wrong = dee.json_of(1, "health")
    assert not wrong["ok"]
    assert "is not signed by" in json.dumps(wrong["problems"])


def test_who_acted_comes_from_the_settings_for_every_command(tmp_path: Path) -> None:
    (tmp_path / "dee.toml").write_text('actor = "of the file"\n', encoding="utf-8")
    dee = Dee(tmp_path)
    dee("init")
    line = '{"type": "email.opened", "contactId": "c-1"}\n'
    dee("events", "ingest", "-", given=line)
    dee("events", "ingest", "-", given=line, DEE_ACTOR="of the variable")
    dee("--actor", "of the flag", "events", "ingest", "-", given=line, DEE_ACTOR="of the variable")
    entries = dee.json("audit", "log")["entries"]
    assert [entry["actor"] for entry in entries] == [
        "of the file", "of the file", "of the variable", "of the flag",
    ]  # fmt: skip
    assert "actor: must not be blank" in dee.fault("--actor", " ", "contact", "suppress", "c-2")
