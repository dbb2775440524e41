"""The demo, as a newcomer starts it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.cli.commands import ROOT, environment
from tests.support.storage.postgres import FreshPostgres


def demo(*arguments: str | Path, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", ROOT / "scripts" / "demo", *arguments],
        env=environment(DEE_PYTHON=sys.executable, **settings),
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_three_weeks(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    options = ["--keep", str(tmp_path / "kept")]
    if kind == "postgres":
        fresh: FreshPostgres = request.getfixturevalue("fresh_postgres")
        options += ["--database", fresh()]
    # Whoever has real settings must not write to real people by trying the demo out.
    done = demo(*options, DEE_EMAIL="smtp", DEE_SMTP_HOST="192.0.2.1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1,280 rows of" in done.stdout
    assert "1,244 created, 26 skipped (25 already enrolled, 1 suppressed), 10 errors" in done.stdout
    assert re.search(r"^  all +1,244$", done.stdout, re.MULTILINE)
    assert re.search(r"event\.received +.*email\.replied", done.stdout)
    assert re.search(r"run\.completed +.*replied", done.stdout)
    assert "the log is valid" in done.stdout
    assert len(list((tmp_path / "kept" / "outbox").rglob("*.eml"))) > 2_000


def test_it_fails_if_anything_fails(tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text("id: x\n")
    contacts = tmp_path / "contacts.csv"
    contacts.write_text("id\nc-1\n")
    done = demo(plan, contacts, "--keep", tmp_path / "kept")
    assert done.returncode == 1
    assert "The demo failed" in done.stderr
    assert os.listdir(tmp_path / "kept")
