"""Runs that wait for longer than any calendar goes: everything about them can still be read."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dee_es import create_plan, steps
from tests.support.cli import Dee
from tests.support.engines import BACKENDS, database_url, open_engine

LAST_DAY = datetime(9999, 12, 31, tzinfo=UTC)
PATIENT = """\
id: patient
name: Patient
steps:
  - { id: first, type: wait, duration: { seconds: 1 } }
  - { id: rest, type: wait, duration: { days: 3000000 } }
  - { id: done, type: end, outcome: finished }
"""


@pytest.mark.parametrize("kind", BACKENDS)
def test_a_wait_beyond_the_calendar_is_told_of(
    kind: str, tmp_path: Path, fresh_postgres: Callable[[], str]
) -> None:
    plan = create_plan(
        id="patient",
        name="Patient",
        steps=[
            steps.wait("first", {"seconds": 1}),
            steps.wait("rest", {"days": 3_000_000}),
            steps.end("done", "finished"),
        ],
    )
    with open_engine(database_url(kind, tmp_path, fresh_postgres)) as engine:
        run = engine.execute(plan, {"id": "c-1"}).id
        engine.run_until(5)
        resume_tick = engine.get_run(run).resume_tick
        assert resume_tick == 1 + 3_000_000 * 86_400
        assert engine.get_timeline(run)[-1].until == LAST_DAY
        assert engine.get_logs(run)[-1].outcome == "until 9999-12-31 00:00:00Z"
        waiting = engine.run_at(run, tick=5).waiting
        assert waiting is not None
        assert (waiting.until_tick, waiting.until) == (resume_tick, LAST_DAY)
        assert engine.diff_run(run, 1, engine.get_run(run).version)
        assert f"9999-12-31 00:00:00Z (tick {resume_tick})" in engine.explain(run).now
        assert engine.contact_at("c-1").entries[-1].until == LAST_DAY
        debug = engine.debug(run)
        debug.goto(debug.last_version)
        assert debug.at().waiting == waiting
        ended = debug.what_next().events[-1]
        assert (ended.event, ended.tick, ended.time) == ("run.completed", resume_tick, LAST_DAY)
        assert engine.health().ok
        assert engine.replay(run).identical
        assert engine.replay(run, plan_version=1).identical


def test_the_shell_shows_it(tmp_path: Path) -> None:
    dee = Dee(tmp_path)
    (tmp_path / "plan.yaml").write_text(PATIENT)
    dee("init", "--clock", "manual", "--epoch", "2025-03-03T08:00Z")
    dee("plan", "publish", "plan.yaml")
    dee("enroll", "plan.yaml", dee.contacts("c-1,ada@example.com,Ada"))
    dee("run-until", "--for", "10s")
    (run,) = dee.json("runs", "list")["runs"]
    for command in ("health", f"runs show {run['id']}", f"history {run['id']}"):
        assert "9999-12-31" in dee(*command.split()).stdout, command
    zoned = dee("history", str(run["id"]), "--at-tick", "9", "--tz", "Pacific/Kiritimati").stdout
    assert "9999-12-31T14:00:00+14:00" in zoned
