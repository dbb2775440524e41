"""Projection tables that somebody edited, altered or dropped: what is told, and what mends it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dee_es import Engine
from dee_es.adapters.channels.memory import MemoryChannel
from dee_es.errors import (
    IntegrityViolation,
    ProjectionStuck,
    ProjectionUnavailable,
    RebuildRefused,
    StoreUnavailable,
)
from tests.support.engines import database_url, fickle
from tests.support.runs.busy import keep_busy, prepare
from tests.support.versions.code import engine_with, served, views_of

DISK = ("sqlite", "postgres")


def opened(url: str, folder: Path) -> Engine:
    """An engine on a log with something of everything, and all projections level with it."""
    engine = engine_with(url, folder / "keys.db", channel=MemoryChannel(fickle))
    prepare(engine)
    keep_busy(engine, 60, seed=3)
    for name in engine.projections.names:
        served(engine, name)
    return engine


@pytest.fixture(params=DISK)
def engine(
    request: pytest.FixtureRequest, tmp_path: Path, fresh_postgres: Callable[[], str]
) -> Iterator[Engine]:
    with opened(database_url(request.param, tmp_path, fresh_postgres), tmp_path) as engine:
        yield engine


@pytest.fixture
def file_engine(tmp_path: Path) -> Iterator[Engine]:
    """On SQLite, which takes a value of any type for any column."""
    with opened(f"sqlite:///{tmp_path / 'dee.db'}", tmp_path) as engine:
        yield engine


def change(engine: Engine, *statements: str) -> None:
    """Change the database past the engine."""
    for statement in statements:
        with views_of(engine).building() as tx:
            tx._session.ask(statement)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "name, edited, told",
    [
        ("step_funnel", "step_funnel_v1 SET visits = 'x'", "visits 'x' became '["),
        ("step_funnel", "step_funnel_v1 SET visits = '[[1]]'", "visits '[[1]]' became '["),
        ("run_list", "run_list_v1 SET ordinal = 'x'", "ordinal 'x' became 1"),
        ("run_list", "run_list_v1 SET status = X'ff00'", """status "x'ff00'" became"""),
        ("run_list", "run_list_v1 SET current_tick = 9e999", "current_tick 'inf' became"),
        ("run_list", "run_list_v1 SET status = CAST(X'ff' AS TEXT)", r"status '\\udcff' became"),
        ("run_list", "run_list_v1 SET status = 'paused'", "status 'paused' became"),
        ("run_list", "run_list_v1 SET run_id = X'00'", "run_list x'00': only in the old one"),
        (
            "run_list",
            "run_list_v1 SET run_id = CAST(X'ff' AS TEXT)",
            r"run_list \udcff: only in the old one",
        ),
        (
            "run_list",
            "run_list_v1_counts SET bucket = 'x'",
            "', 'x'): n",
        ),
        ("audit_trail", "audit_trail_v3 SET action = NULL", None),
        ("audit_trail", "audit_trail_v3 SET actor = 7", "actor '7' became"),
    ],
)
def test_whatever_was_edited_into_a_row_is_found_and_named(
    file_engine: Engine, name: str, edited: str, told: str | None
) -> None:
    update = f"UPDATE {edited} WHERE rowid = 1"
    if told is None:
        with pytest.raises(IntegrityViolation, match="NOT NULL"):
            change(file_engine, update)
        return
    change(file_engine, update)
    found = file_engine.projections.verify(name)
    assert any(told in each.told for each in found.comparison.samples)
    # The counts are what the log says; it is the row that was edited, and a key stands for two.
    assert found.comparison.differences == (2 if "_id =" in edited or "bucket" in edited else 1)
    assert json.loads(found.model_dump_json())["ok"] is False
    with pytest.raises(RebuildRefused):
        file_engine.projections.rebuild(name)
    file_engine.projections.rebuild(name, accept=True)
    assert file_engine.projections.verify(name).ok


@pytest.mark.parametrize("state", ["'text'", "7", "X''", "X'44454532'"])
def test_what_was_edited_into_the_log_is_told_by_its_place(file_engine: Engine, state: str) -> None:
    position = file_engine.health().position - 1
    change(
        file_engine,
        "DROP TRIGGER stored_events_refuse_update",
        f"UPDATE stored_events SET state = {state} WHERE notification_id = {position}",
    )
    with pytest.raises(ProjectionStuck, match=f"position {position} .*: unreadable"):
        file_engine.projections.rebuild("run_list")


def test_a_row_that_cannot_be_counted_is_not_made_anew_alone(file_engine: Engine) -> None:
    run = file_engine.list_runs(limit=1).runs[0]
    change(file_engine, f"UPDATE step_funnel_v1 SET visits = 'x' WHERE run_id = '{run.id}'")
    with pytest.raises(IntegrityViolation, match=f"{run.id}.*rebuild step_funnel --accept"):
        file_engine.projections.refold("step_funnel", run_id=run.id)
    file_engine.projections.rebuild("step_funnel", accept=True)
    assert file_engine.projections.refold("step_funnel", run_id=run.id).streams == 1
    assert file_engine.projections.verify("step_funnel").ok


def test_what_is_no_text_is_not_told_where_it_stops_a_write(file_engine: Engine) -> None:
    (run,) = file_engine.list_runs(limit=1, status="waiting").runs
    edited = "status_reason = CAST(X'7365637265743aff' AS TEXT)"
    change(file_engine, f"UPDATE run_list_v1 SET {edited} WHERE run_id = '{run.id}'")
    with pytest.raises(StoreUnavailable, match="column 'status_reason'; nothing") as refused:
        file_engine.pause_run(run.id, "wait")
    assert "secret" not in str(refused.value)
    assert refused.value.__cause__ is None


@pytest.mark.parametrize(
    "name, table",
    [
        ("run_list", "run_list_v1"),
        ("run_list", "run_list_v1_counts"),
        ("audit_trail", "audit_trail_v3"),
    ],
)
def test_a_table_that_is_gone_is_told_of_and_made_anew(
    engine: Engine, name: str, table: str
) -> None:
    runs, entries = engine.list_runs(limit=5).runs, engine.audit.query(limit=5).entries
    change(engine, f"DROP TABLE {table}")
    told = f"a table of projection '{name}' is gone.*dee projections rebuild {name} --no-compare"
    ask = engine.list_runs if name == "run_list" else engine.audit.query
    with pytest.raises(ProjectionUnavailable, match=told):
        ask(limit=5)
    status = {each.name: each for each in engine.projections.status()}
    assert f"rebuild {name} --no-compare" in (status[name].advice or "")
    assert (status[name].rows, status[name].bytes) == (0, None)
    assert status["step_funnel"].advice is None
    assert engine.projections.estimate(name).rows is None
    with pytest.raises(ProjectionUnavailable, match=told):
        engine.projections.verify(name)
    with pytest.raises(RebuildRefused, match=r"is gone.*give --no-compare"):
        engine.projections.rebuild(name)
    engine.projections.rebuild(name, compare=False)
    assert engine.projections.verify(name).ok
    engine.projections.drop(name)
    assert engine.list_runs(limit=5).runs == runs
    assert engine.audit.query(limit=5).entries == entries


def test_an_error_that_is_kept_holds_nothing_of_the_database(engine: Engine) -> None:
    """Whoever collects errors keeps all that was at hand where they were raised."""
    change(engine, "DROP TABLE run_list_v1")
    with pytest.raises(ProjectionUnavailable) as kept:
        engine.list_runs(limit=5)
    engine.projections.rebuild("run_list", compare=False)
    assert engine.projections.verify("run_list").ok
    assert kept.value.__traceback__ is not None


def test_a_table_that_was_altered_is_told_of_and_made_anew(engine: Engine) -> None:
    change(engine, "ALTER TABLE step_funnel_v1 RENAME COLUMN reason TO other")
    engine.run_until(engine.now().tick + 400_000)
    with pytest.raises((IntegrityViolation, StoreUnavailable)) as refused:
        engine.step_funnel("outreach")
    assert "\n" not in str(refused.value)
    engine.projections.rebuild("step_funnel", compare=False)
    assert engine.projections.verify("step_funnel").ok
    assert engine.step_funnel("outreach")
