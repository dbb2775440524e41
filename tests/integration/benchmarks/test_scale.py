"""What `scripts/bench` makes in bulk: runs like those that the engine lived through, a long log."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from dee_es import Engine, EngineConfig
from scripts.benchmarks import enrollment, partitions, peers, run_list
from scripts.benchmarks.figures import Figure, LeftOut
from scripts.benchmarks.harness import EPOCH, drop_databases
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


def test_lists_are_compared_with_sql_and_told_with_their_growth(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_list, "LIVED", 200)
    monkeypatch.setattr(run_list, "SMALL", 200)
    try:
        found = list(run_list.measure(postgres_url, tmp_path, 600, 1))
    finally:
        drop_databases(postgres_url)
    pages = [figure for figure in found if figure.key.startswith("list_runs by ")]
    assert len({figure.key for figure in pages}) == len(pages) > 30
    assert all(figure.bar == 5 for figure in pages if "updated" not in figure.key)
    assert all(figure.bar == 10 for figure in pages if "updated" in figure.key)
    growth = [figure for figure in found if figure.unit == "times"]
    assert [figure.bar for figure in growth] == [1.5] * 4


def test_a_list_that_differs_from_sql_is_not_measured(
    fresh_postgres: Callable[[], str], tmp_path: Path
) -> None:
    database = fresh_postgres()
    _multiplied(database, tmp_path)
    with closing(psycopg.connect(database, autocommit=True)) as own:
        own.execute("UPDATE run_list_v1_counts SET n = n + 1 WHERE bucket = -1")
    with Engine(_config(database, tmp_path)) as engine:
        asked = run_list.Asked(engine, database, TIMES * BASE, BASE)
        with pytest.raises(SystemExit, match="list_runs by nothing: 801 runs, but SQL counts 800"):
            asked.compared("nothing", {})


def test_both_forms_of_the_log_hold_the_same_and_lose_the_same(
    postgres_url: str, tmp_path: Path
) -> None:
    try:
        found = {
            figure.key or figure.work: figure
            for figure in partitions.measure(postgres_url, tmp_path, 14_000, 1)
        }
    finally:
        drop_databases(postgres_url)
    for told in partitions.TOLD.values():
        for work in ("appended by COPY of 1,000", "the log in pages of 10,000"):
            assert found[f"{work}, {told}"].value > 0
        assert found[f"a stream of 14 entries, {told}"].unit == "ms p99"
        assert found[f"rows of an entry, {told}"].value > partitions.STATE_BYTES
    assert found["a tenth deleted, one table"].work == "1,399 entries deleted, one table"
    assert found["a tenth dropped, partitions"].work == "1,399 entries dropped, partitions"


def test_of_very_many_contacts_only_large_batches_are_measured(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enrollment, "ENOUGH", 50)
    peers.spare(True)
    try:
        found = list(enrollment.measure(postgres_url, tmp_path, 60, 1))
    finally:
        peers.spare(False)
        drop_databases(postgres_url)
    assert [each.work for each in found if isinstance(each, Figure)] == [
        "bulk_execute, batches of 1,000"
    ]
    assert [(each.peer, each.why) for each in found if isinstance(each, LeftOut)] == [
        ("dbos", "measured at the smallest size alone"),
        ("restate", "measured at the smallest size alone"),
        ("batches of 100, the COPY of the same rows, SQLite", "measured up to 50 contacts alone"),
    ]
