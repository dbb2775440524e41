"""The same inputs give the same bytes, whatever the machine believes about time and chance."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.cli import ROOT, environment

SURROUNDINGS = {
    "another hash seed": {"PYTHONHASHSEED": "1"},
    "no hash seed": {"PYTHONHASHSEED": "random"},
    "another zone": {"TZ": "Pacific/Kiritimati"},
    "plain locale": {"LC_ALL": "C", "PYTHONUTF8": "0"},
    "turkish locale": {"LC_ALL": "tr_TR.UTF-8", "LANG": "tr_TR.UTF-8"},
    "optimised": {"PYTHONOPTIMIZE": "1"},
}


def lived(*arguments: str, **settings: str) -> str:
    """What the scenario prints in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.scenario", *arguments],
        cwd=ROOT,
        env=environment(PYTHONIOENCODING="utf-8", **settings),
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def ordinary() -> str:
    """The scenario where nothing is unusual."""
    told = lived(PYTHONHASHSEED="0")
    events = int(told.split(" ", 1)[0])
    assert events > 200, "the scenario is about something"
    assert len({line.split()[1] for line in told.splitlines()[1:]}) >= 3, "runs end in several ways"
    return told


@pytest.mark.parametrize("settings", SURROUNDINGS.values(), ids=SURROUNDINGS)
def test_the_surroundings_change_no_byte(ordinary: str, settings: dict[str, str]) -> None:
    assert lived(**settings) == ordinary


def test_neither_the_clock_nor_chance_is_asked(ordinary: str) -> None:
    assert lived("--twisted") == ordinary
