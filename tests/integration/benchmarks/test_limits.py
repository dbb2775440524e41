"""The limits that `scripts/bench` measures write the very rows that the engine wrote."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psycopg

from dee_es import Engine, EngineConfig
from scripts.benchmarks.harness import people, plan
from scripts.benchmarks.limits import copying, inserting


def _enrol(database: str, folder: Path) -> int:
    """Enrol 250 contacts in three transactions; returns a transaction before all of them."""
    config = EngineConfig(database, keys=f"sqlite:///{folder / 'keys.db'}", clock="manual")
    with Engine(config) as engine:
        engine.publish_template("hello", text="Hello")
        engine.publish_sender(address="team@example.com")
        engine.publish_plan(plan("limits"))
        since = 0 if database.startswith("sqlite") else copying.transaction_now(database)
        engine.bulk_execute(plan("limits"), people(250), batch_size=100)
    return since


def test_copy_writes_all_rows_of_each_commit_and_leaves_nothing(
    fresh_postgres: Callable[[], str], tmp_path: Path
) -> None:
    database = fresh_postgres()
    since = _enrol(database, tmp_path)
    with closing(psycopg.connect(database)) as own:
        before = own.execute("SELECT relname FROM pg_class ORDER BY 1").fetchall()
    copied = copying.copy_again(database, since)
    # An event, a head, a row of the run list and a contact's key each; then counts and heads.
    assert 1_000 <= copied.rows < 1_000 + 30
    assert copied.commits == 3
    assert copied.size > 250 * 500
    assert copied.seconds > 0
    with closing(psycopg.connect(database)) as own:
        assert own.execute("SELECT relname FROM pg_class ORDER BY 1").fetchall() == before


def test_executemany_writes_every_row_of_every_table(tmp_path: Path) -> None:
    source, target = tmp_path / "engine.db", tmp_path / "limit.db"
    _enrol(f"sqlite:///{source}", tmp_path)
    assert inserting.insert_again(source, target, 3) > 0
    with closing(sqlite3.connect(source)) as engine, closing(sqlite3.connect(target)) as own:
        tables = "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name"
        names = [name for (name,) in engine.execute(tables)]
        assert names == [name for (name,) in own.execute(tables)]
        for name in names:
            rows = f'SELECT * FROM "{name}"'
            assert sorted(map(repr, own.execute(rows))) == sorted(map(repr, engine.execute(rows)))
        indexes = "SELECT count(*) FROM sqlite_master WHERE type = 'index'"
        assert own.execute(indexes).fetchone() == engine.execute(indexes).fetchone()
