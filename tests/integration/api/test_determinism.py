"""The same inputs give the same bytes, whatever the machine believes about time and chance."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from dee_es import Engine
from dee_es.adapters.channels.memory import MemoryChannel
from dee_es.ports import ChannelResult
from tests.support.cli.commands import ROOT, environment
from tests.support.engines import open_engine, outreach, publish_basics

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
        [sys.executable, "-m", "tests.support.processes.scenario", *arguments],
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


@pytest.mark.parametrize("slowness", [1, 2, 3])
def test_how_long_a_commit_takes_changes_no_byte(slowness: int) -> None:
    assert _log_of_pages(slowness) == _log_of_pages(0)


def _log_of_pages(slowness: int) -> list[tuple[Any, ...]]:
    """The log of twenty runs in pages of three, where commits take more or less long."""
    chance = random.Random(slowness)
    with open_engine(":memory:", seed=7, page=3) as engine:
        publish_basics(engine)
        engine.publish_policy({"limits": {"perDay": {"contact": 2, "channel": {"email": 9}}}})
        if slowness:
            _slow_down(engine, lambda: time.sleep(chance.choice((0, 0.003, 0.006))))
        people = [
            {"id": f"c{n}", "email": f"c{n}@example.com", "firstName": "A"} for n in range(20)
        ]
        engine.bulk_execute(outreach(), people)
        engine.run_until(86_400 * 3)
        store = engine._parts.store
        entries = store.read_entries(0, store.log_head().position)
        assert len(entries) > 150
        return [tuple(entry) for entry in entries]


def test_what_a_failed_send_gives_back_is_there_for_the_next_page() -> None:
    """Two records of one person, of whose daily limit of one the first one's send uses nothing."""
    assert _statuses_of_records(0) == _statuses_of_records(0.05) == ["failed", "failed"]


def _statuses_of_records(slowness_s: float) -> list[str]:
    """What becomes of the records, looked at one after the other, where commits take so long."""
    channel = MemoryChannel(lambda *_: ChannelResult("failed", error="no such mailbox"))
    with open_engine(":memory:", seed=7, page=1, channel=channel) as engine:
        publish_basics(engine)
        engine.publish_policy({"limits": {"perDay": {"contact": 1}}})
        _slow_down(engine, lambda: time.sleep(slowness_s))
        records = [
            {"id": name, "email": "ada@example.com", "firstName": "Ada"} for name in ("a1", "a2")
        ]
        engine.bulk_execute(outreach(), records)
        engine.tick()
        return sorted(run.status.value for run in engine.list_runs().runs)


def _slow_down(engine: Engine, wait: Callable[[], object]) -> None:
    """Have every commit of the engine wait first, whichever way it takes."""
    store = engine._parts.store
    commit, decide = store.commit, store.decide

    def slowly(method: Callable[..., Any]) -> Callable[..., Any]:
        def slow(*given: Any, **named: Any) -> Any:
            wait()
            return method(*given, **named)

        return slow

    store.commit = slowly(commit)  # type: ignore[method-assign]
    store.decide = slowly(decide)  # type: ignore[method-assign]
