"""Bulk enrolment by several processes at once, and by processes that are killed."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dee_es import Engine
from tests.support.counts import count
from tests.support.engines import database_url, open_engine, outreach, publish_basics
from tests.support.processes.bulk import people

Fresh = Callable[[], str]
ROOT = Path(__file__).parents[3]


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path, fresh_postgres: Fresh) -> str:
    return database_url(request.param, tmp_path, fresh_postgres)


def start(url: str, keys: Path, contacts: int, batch: int, *more: str) -> subprocess.Popen[str]:
    """A process that is ready to enrol, and waits for the word."""
    command = [sys.executable, "-m", "tests.support.processes.bulk", url, str(keys)]
    process = subprocess.Popen(
        [*command, str(contacts), str(batch), *more],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def contacts_with_runs(engine: Engine) -> list[str]:
    found: list[str] = []
    cursor = None
    while True:
        page = engine.list_runs(limit=10_000, cursor=cursor)
        found.extend(run.contact_id for run in page.runs)
        cursor = page.next_cursor
        if cursor is None:
            return found


def test_two_processes_enroll_the_same_contacts_once(url: str, tmp_path: Path) -> None:
    keys, contacts = tmp_path / "keys.db", count(2_000, 10_000)
    with open_engine(url, keys=keys) as engine:
        publish_basics(engine)
        ways = [("meeting",), ("meeting", "backwards")]
        rivals = [start(url, keys, contacts, 100, *way) for way in ways]
        for rival in rivals:
            go(rival)
        for rival in rivals:
            assert rival.stdout is not None
            assert next(line for line in rival.stdout if line != "done 0\n").startswith("done ")
        for rival in rivals:
            go(rival)
        results = [json.loads(rival.communicate()[0].splitlines()[-1]) for rival in rivals]
        assert all(sum(result) == contacts for result in results)
        assert all(result[2] == 0 for result in results)
        assert sum(result[0] for result in results) == contacts
        assert all(result[0] >= 100 for result in results)
        enrolled = contacts_with_runs(engine)
        assert sorted(enrolled) == sorted(person["id"] for person in people(contacts))
        assert engine.list_runs(limit=1).total == contacts
        assert engine.verify_log().valid


def test_a_killed_enrolment_loses_and_doubles_nothing(url: str, tmp_path: Path) -> None:
    keys, contacts, kills = tmp_path / "keys.db", 4_000, count(4, 20)
    chance = random.Random(7)
    acknowledged = 0
    with open_engine(url, keys=keys) as engine:
        publish_basics(engine)
        for kill in range(kills):
            process = start(url, keys, contacts, 50)
            go(process)
            assert process.stdout is not None
            told = 0
            # Each life is killed at another moment: somewhere in the batches it gets to.
            for _ in range(chance.randrange(1, max(2, contacts // 50 // kills + 2))):
                line = process.stdout.readline()
                if not line.startswith("done"):
                    break
                told = int(line.split()[1])
            time.sleep(chance.random() * 0.02)
            process.send_signal(signal.SIGKILL)
            # A line without its end may be a part of one.
            left = process.communicate()[0].rpartition("\n")[0].splitlines()
            told = max([told, *(int(line.split()[1]) for line in left if line.startswith("done"))])
            acknowledged += told
            total = engine.list_runs(limit=1).total
            assert total >= acknowledged, f"kill {kill} lost an acknowledged run"
            acknowledged = total
            enrolled = contacts_with_runs(engine)
            assert len(enrolled) == len(set(enrolled)) == total
            verdict = engine.verify_log()
            assert verdict.valid, verdict.problems
        result = engine.bulk_execute(outreach(), people(contacts), batch_size=500)
        assert (result.created, result.skipped, result.errors) == (
            contacts - acknowledged,
            acknowledged,
            0,
        )
        assert sorted(contacts_with_runs(engine)) == sorted(p["id"] for p in people(contacts))
        assert engine.verify_log().valid
