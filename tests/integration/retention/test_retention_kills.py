"""kill -9 during archiving and erasing, at every step: run again, same end state, and nothing half
done is believed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dee_es import Engine
from tests.support.counts import count
from tests.support.engines import database_url, open_engine, outreach, publish_basics
from tests.support.processes.retention import ACTIONS, VICTIM, act

ROOT = Path(__file__).parents[3]
NAMES = ("run_list", "audit_trail", "contact_history", "step_funnel")


def prepare(engine: Engine) -> None:
    """Three runs that have ended, and two that have not, one of them the victim's."""
    publish_basics(engine)
    people = [{"id": f"c{n}", "email": f"c{n}@example.com", "firstName": "N"} for n in range(3)]
    engine.bulk_execute(outreach(), people)
    engine.run_until_idle()
    engine.run_until(engine.now().tick + 10)
    for number in (1, 4):
        engine.execute(outreach(), {"id": f"c{number}", "email": f"c{number}@example.com"})


def state(engine: Engine, folder: Path) -> dict[str, Any]:
    """All that is to be the same at the end, whatever happened on the way."""
    for name in NAMES:
        assert engine.projections.verify(name).ok, name
    runs = engine.list_runs(limit=50).runs
    certificates = sorted((folder / "certificates").glob("*"))
    archives = engine.audit.archives()
    assert all(verdict.valid for verdict in engine.audit.verify_archives())
    files = {path.name for path in (folder / "archives").glob("*")}
    assert {archive.name for archive in archives} <= files
    assert not any(name.startswith(".") for name in files)
    verdict = engine.verify_log()
    assert verdict.valid, verdict.problems
    return {
        "runs": [(run.id, run.status, run.variables) for run in runs],
        "archives": [(each.number, each.runs, each.entries) for each in archives],
        "certificates": [json.loads(p.read_text().partition("\n\n")[0])["runs"] is not None
                         for p in certificates],
        "erased": [e.action for e in engine.get_contact_logs(VICTIM) if e.action.startswith("co")],
        "position": engine.health().position,
    }  # fmt: skip


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_killed_at_every_step(
    kind: str, action: str, when: str, tmp_path: Path, fresh_postgres: Callable[[], str]
) -> None:
    ends: list[dict[str, Any]] = []
    killer = subprocess.Popen(
        [sys.executable, "-m", "tests.support.processes.retention"],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert killer.stdin is not None
    assert killer.stdout is not None
    stride = count(2 if kind == "sqlite" else 4, 1)
    for turn in range(1, 100, stride):
        folder = tmp_path / str(turn)
        folder.mkdir()
        url, keys = database_url(kind, folder, fresh_postgres), folder / "keys.db"
        with open_engine(url, keys=keys) as engine:
            prepare(engine)
        killer.stdin.write(f"{url} {keys} {folder} {action} {turn} {when}\n")
        killer.stdin.flush()
        told = killer.stdout.readline()
        assert told in ("killed\n", "survived\n")
        with open_engine(url, keys=keys) as engine:
            # Between the two, what there is must hold together.
            assert engine.verify_log().valid
            for archive in engine.audit.verify_archives():
                assert archive.valid, archive.problem
            act(engine, action, folder)
            ends.append(state(engine, folder))
        if told == "survived\n":
            break
    killer.communicate()
    assert turn > 3, "an action takes three steps at the least"
    for turn, end in enumerate(ends, start=1):
        assert end == ends[-1], turn
