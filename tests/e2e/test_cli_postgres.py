"""`dee` on PostgreSQL: the same commands with one URL."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.cli.commands import PLAN, Dee
from tests.support.storage.postgres import FreshPostgres


@pytest.fixture
def dee(tmp_path: Path, empty_postgres: FreshPostgres) -> Dee:
    (tmp_path / "plan.yaml").write_text(PLAN, encoding="utf-8")
    return Dee(tmp_path, {"DEE_DATABASE": empty_postgres(), "DEE_KEYS": "sqlite:///keys.db"})


def test_a_tour(dee: Dee) -> None:
    assert "dee init" in dee.fault("runs", "list")
    assert "master key     keys.master" in dee(
        "init", "--clock", "manual", "--epoch", "2025-03-03T08:00Z"
    ).stdout  # fmt: skip
    assert "already" in dee.fault("init")
    dee("contact", "suppress", "--email", "bob@example.com")
    contacts = dee.contacts("c-1,ada@example.com,Ada", "c-2,bob@example.com,Bob", "c-3,,Cy")
    counts = dee.json("enroll", "plan.yaml", contacts, "--var", "place=here")
    assert (counts["created"], counts["suppressed"]) == (2, 1)
    assert "1 delivered" in dee("tick").stdout
    page = dee.json("runs", "list", "--status", "waiting")
    assert page["total"] == 1
    run = page["runs"][0]["id"]
    dee("runs", "pause", run)
    dee("runs", "resume", run)
    (dee.folder / "e.jsonl").write_text(json.dumps({"type": "email.replied", "runId": run}))
    assert "1 accepted" in dee("events", "ingest", "e.jsonl").stdout
    dee("run-until", "--for", "1h")
    assert dee.json("runs", "show", run)["outcome"] == "replied"
    assert "run.completed" in dee("history", run).stdout
    cancel = ("runs", "bulk-cancel", "--status", "failed", "--reason", "no address", "--yes")
    assert "1 of 1 run cancelled" in dee(*cancel).stdout
    assert dee.json("audit", "verify")["valid"] is True
    health = dee.json("health")
    assert (health["ok"], health["backend"]) == (True, "postgresql")


def test_init_needs_a_place_for_the_keys_and_shows_no_password(
    tmp_path: Path, empty_postgres: FreshPostgres
) -> None:
    url = empty_postgres().replace("postgresql://postgres:@", "postgresql://postgres:hunter2@")
    assert "hunter2" in url
    dee = Dee(tmp_path, {"DEE_DATABASE": url})
    assert "DEE_KEYS" in dee.fault("init")
    assert list(tmp_path.iterdir()) == []
    said = dee("--keys", "sqlite:///k.db", "init").stdout
    assert "hunter2" not in said
    assert "postgres:***@" in said
