"""What `runs show` and `history` say about a step that the policy did not let through."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli.commands import Dee

PLAN = """\
id: welcome
name: Welcome
steps:
  - { id: hello, type: send_email, templateId: hello, subject: "Hello" }
  - { id: again, type: send_email, templateId: hello, subject: "Hello again" }
templates:
  hello: { text: "Hello" }
policy:
"""
LIMIT = "  limits: { perDay: { contact: 1 } }\n"
BUDGET = """\
  budget: { amount: 1, currency: EUR, costPerSend: { email: 1 }, per: total }
"""


@pytest.fixture
def dee(tmp_path: Path) -> Dee:
    return Dee(tmp_path).prepared()


def enrolled(dee: Dee, policy: str) -> str:
    """A run of the plan under this policy, after an hour."""
    (dee.folder / "plan.yaml").write_text(PLAN + policy, encoding="utf-8")
    run = dee.json("execute", "plan.yaml", "--contact", "c-1", "--email", "a@example.com")
    dee("run-until", "--for", "1h")
    return str(run["id"])


def refusals(dee: Dee, run: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = dee.json("runs", "show", run)["refusals"]
    return found


def test_a_step_over_a_limit_is_held_until_the_next_day(dee: Dee) -> None:
    run = enrolled(dee, LIMIT)
    (held,) = refusals(dee, run)
    midnight = 16 * 3600
    assert "1" in held.pop("detail")
    assert held == {
        "effect": "held",
        "stepId": "again",
        "rule": "limits",
        "sinceTick": 1,
        "since": "2025-03-03T08:00:01Z",
        "untilTick": midnight,
        "until": "2025-03-04T00:00:00Z",
        "times": 1,
        "standing": True,
    }
    shown = dee("runs", "show", run).stdout
    assert "held now step again by limits: " in shown
    assert "since 2025-03-03T08:00:01Z (59m ago) (tick 1)" in shown
    assert "until 2025-03-04T00:00:00Z (in 15h) (tick 57,600)" in shown

    (line,) = [row for row in dee("history", run).stdout.splitlines() if "deferred" in row]
    assert "limits" in line
    assert "until 2025-03-04T00:00:00Z: " in line
    (row,) = [
        row
        for row in csv.DictReader(io.StringIO(dee("history", run, "--csv").stdout))
        if row["action"] == "step.deferred"
    ]
    assert (row["rule"], row["untilTick"], row["until"]) == (
        "limits", str(midnight), "2025-03-04T00:00:00Z",
    )  # fmt: skip

    # A pause takes nothing away from why the step is held.
    dee("runs", "pause", run)
    assert [each["standing"] for each in refusals(dee, run)] == [False]
    dee("runs", "resume", run)
    dee("run-until", "--for", "1m")
    (held,) = refusals(dee, run)
    assert (held["rule"], held["untilTick"], held["standing"]) == ("limits", midnight, True)
    dee("run-until", "--for", "1d")
    (held,) = refusals(dee, run)
    assert (held["effect"], held["standing"]) == ("held", False)
    assert dee.json("runs", "show", run)["status"] == "completed"


def test_a_step_without_consent_is_skipped(dee: Dee) -> None:
    run = enrolled(dee, "  consent: { required: [email] }\n")
    found = refusals(dee, run)
    assert [(each["effect"], each["stepId"], each["rule"]) for each in found] == [
        ("skipped", "hello", "consent"),
        ("skipped", "again", "consent"),
    ]
    assert {each["untilTick"] for each in found} == {None}
    shown = dee("runs", "show", run).stdout
    assert "skipped step hello by consent: consent to email is missing; since 2025" in shown
    assert shown.count("refused") == 2


def test_a_run_without_money_is_paused(dee: Dee) -> None:
    run = enrolled(dee, BUDGET)
    (paused,) = refusals(dee, run)
    assert (paused["effect"], paused["stepId"], paused["rule"], paused["standing"]) == (
        "paused", "again", "budget", True,
    )  # fmt: skip
    assert not paused["detail"].startswith("budget")
    assert "paused now step again by budget: " in dee("runs", "show", run).stdout
    rules = {entry["action"]: entry["rule"] for entry in dee.json("history", run)["entries"]}
    assert rules["run.paused"] == "budget"
    assert rules["run.started"] is None


def test_a_step_outside_of_any_window_fails(dee: Dee) -> None:
    run = enrolled(dee, "  windows: { channels: { email: { start: '09:00' } } }\n")
    (failed,) = refusals(dee, run)
    assert (failed["effect"], failed["rule"], failed["standing"]) == ("failed", "windows", True)


def test_a_run_that_nothing_was_refused_shows_none(dee: Dee) -> None:
    run = enrolled(dee, "  {}\n")
    assert refusals(dee, run) == []
    assert "refused" not in dee("runs", "show", run).stdout


@pytest.mark.parametrize("bulk", [False, True])
def test_a_run_that_is_resumed_goes_on_under_the_raised_budget(
    dee: Dee, bulk: bool, tmp_path: Path
) -> None:
    run = enrolled(dee, BUDGET)
    # Nothing was raised yet: the same policy pauses it again.
    dee("runs", "resume", run)
    dee("run-until", "--for", "1h")
    assert dee.json("runs", "show", run)["status"] == "paused"
    raised = "budget: { amount: 2, currency: EUR, costPerSend: { email: 1 }, per: total }"
    (dee.folder / "policy.yaml").write_text(raised, encoding="utf-8")
    dee("policy", "publish", "policy.yaml")
    if bulk:
        dee("runs", "bulk-resume", "--status", "paused", "--reason", "raised", "--yes")
    else:
        dee("runs", "resume", run)
    dee("run-until", "--for", "1h")
    assert dee.json("runs", "show", run)["status"] == "completed"
    assert "under version 2 of the policy" in dee("explain", run).stdout
    assert "identical" in dee("replay", run).stdout
    # A file of the run has the policy that it went on under.
    dee("runs", "export", run, "run.dee")
    (tmp_path / "other").mkdir()
    other = Dee(tmp_path / "other").prepared()
    other("runs", "import", str(dee.folder / "run.dee"))
    assert "identical" in other("replay", run).stdout


def test_when_a_rule_lets_it_go_on_is_told_in_the_zone_of_the_asker(dee: Dee) -> None:
    window = "{ channels: { email: { start: '20:00', onUnknownZone: Asia/Kolkata } } }"
    run = enrolled(dee, f"  windows: {window}\n")
    for words in (
        ["runs", "show", run],
        ["runs", "list"],
        ["explain", run],
        ["history", run],
        ["contact", "show", "c-1"],
    ):
        said = dee(*words, "--tz", "Asia/Kolkata").stdout
        assert "it opens at 2025-03-03T20:00:00+05:30" in said, words
        assert " UTC" not in said
    assert "it opens at 2025-03-03 14:30 UTC" in dee("runs", "show", run).stdout
