"""Runs that `scripts/bench lists` multiplies are runs like those that the engine lived through."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import psycopg

from dee_es import Engine, EngineConfig
from scripts.benchmarks import run_list
from scripts.benchmarks.harness import EPOCH
from scripts.benchmarks.multiplying import HOUR, multiply

BASE, TIMES = 200, 4


def _config(database: str, folder: Path) -> EngineConfig:
    keys = f"sqlite:///{folder / 'keys.db'}"
    return EngineConfig(database, keys=keys, clock="manual", epoch=EPOCH)


def _multiplied(database: str, folder: Path) -> None:
    with Engine(_config(database, folder)) as engine:
        engine.publish_template("hello", text="Hello")
        engine.publish_sender(address="team@example.com")
        run_list.fill(engine, BASE)
        runs = multiply(engine, database, TIMES, rare="seldom", usual="usual")
    assert runs == TIMES * BASE


def test_copies_are_what_their_events_say(
    fresh_postgres: Callable[[], str], tmp_path: Path
) -> None:
    database = fresh_postgres()
    with closing(psycopg.connect(database, autocommit=True)) as own:
        indexes = "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1"
        with Engine(_config(database, tmp_path)):
            before = own.execute(indexes).fetchall()
        _multiplied(database, tmp_path)
        assert own.execute(indexes).fetchall() == before
    with Engine(_config(database, tmp_path)) as engine:
        verdict = engine.verify_log()
        assert verdict.valid, verdict.problems
        # Rows and counts, folded from the log once more, are the same.
        compared = engine.projections.verify("run_list")
        assert compared.ok, compared.comparison
        page = engine.list_runs(limit=10_000)
        assert page.total == len(page.runs) == TIMES * BASE
        assert len({run.contact_id for run in page.runs}) == TIMES * BASE
        assert [run.ordinal for run in page.runs] == list(range(TIMES * BASE, 0, -1))
        # The rare plan did not grow, and a copy can be acted on like any run.
        assert max(run.ordinal for run in page.runs if run.plan_id == "seldom") <= BASE
        chosen = engine.list_runs(status="active").runs[0]
        assert engine.pause_run(chosen.id).status == "paused"
        assert engine.list_runs(contact_id=chosen.contact_id).runs[0].status == "paused"


def test_each_copy_falls_into_an_hour_of_its_own(
    fresh_postgres: Callable[[], str], tmp_path: Path
) -> None:
    database = fresh_postgres()
    _multiplied(database, tmp_path)
    with Engine(_config(database, tmp_path)) as engine:
        start = 20 * 86_400
        for k in range(TIMES - 1):
            since, until = (EPOCH + timedelta(seconds=start + (k + n) * HOUR) for n in (0, 1))
            found = engine.list_runs(started_after=since, started_before=until)
            assert found.total == BASE
