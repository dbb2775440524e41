"""Commands that need a reason refuse to begin without one, and say that it is kept readable."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from dee_es.cli.root import root

RUN = "run_" + "a" * 26
REASONED = [
    ["runs", "cancel", RUN],
    ["runs", "retry", RUN],
    ["runs", "resolve", RUN, "--outcome", "failed"],
    ["runs", "bulk-cancel", "--plan", "p", "--yes"],
    ["runs", "bulk-pause", "--plan", "p", "--yes"],
    ["runs", "bulk-resume", "--plan", "p", "--yes"],
    ["runs", "bulk-retry", "--plan", "p", "--yes"],
    ["contact", "erase", "c-1", "--yes"],
    ["hold", "add", RUN],
    ["hold", "lift", "hold_1"],
]


@pytest.mark.parametrize("arguments", REASONED, ids=lambda each: " ".join(each[:2]))
def test_a_reason_is_required_and_not_blank(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    missing = CliRunner().invoke(root, arguments)
    assert missing.exit_code == 2
    assert "Missing option '--reason'" in missing.output
    for blank in ("", "  ", "\n"):
        refused = CliRunner().invoke(root, [*arguments, "--reason", blank])
        assert refused.exit_code == 2
        assert "must not be blank" in refused.output
    # It was refused before any database was looked for.
    given = CliRunner().invoke(root, [*arguments, "--reason", "because"])
    assert given.exit_code == 1
    assert "there is no database" in given.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", REASONED, ids=lambda each: " ".join(each[:2]))
def test_the_help_says_that_it_is_kept_readable(arguments: list[str]) -> None:
    shown = " ".join(CliRunner().invoke(root, [*arguments[:2], "--help"]).output.split())
    assert "kept readable in the log" in shown
    assert "[required]" in shown
