"""Rows that say something else than the log: found, and put right."""

from __future__ import annotations

from typing import Any

import pytest

from dee_es import Engine
from dee_es.errors import IntegrityViolation, InvalidInput, RebuildRefused
from tests.support.versions.code import builds, contents, served
from tests.support.versions.rebuilding import NAMES, Place, tamper


@pytest.mark.parametrize(
    "statement, said",
    [
        ("UPDATE run_list_v1 SET steps_completed = 77 WHERE ordinal = 1 RETURNING 1", "steps_"),
        ("DELETE FROM run_list_v1 WHERE ordinal = 2 RETURNING 1", "run_list"),
        ("UPDATE run_list_v1_counts SET n = n + 1 WHERE status = 'waiting' RETURNING 1", "counts"),
    ],
)  # fmt: skip
def test_drift_is_found_and_put_right(
    place: Place, engine: Engine, statement: str, said: str
) -> None:
    assert engine.projections.verify("run_list").ok
    tamper(engine, statement)
    found = engine.projections.verify("run_list")
    assert not found.ok
    assert found.comparison.differences >= 1
    assert any(said in f"{s.table} {s.only_old}" for s in found.comparison.samples)
    assert builds(engine) == {(1, 1): "serving"}
    with pytest.raises(RebuildRefused):
        engine.projections.rebuild("run_list")
    engine.projections.rebuild("run_list", accept=True)
    assert engine.projections.verify("run_list").ok


def test_a_row_of_a_run_that_the_log_has_not_is_told_of(
    place: Place, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    ghost = "run_" + "a" * 26
    tamper(engine, f"UPDATE run_list_v1 SET run_id = '{ghost}' WHERE ordinal = 1 RETURNING 1")
    looks = []
    look = engine._queries._rows

    def looked(*given: Any) -> Any:
        looks.append(given)
        assert len(looks) < 20, "it looks again and again"
        return look(*given)

    monkeypatch.setattr(engine._queries, "_rows", looked)
    with pytest.raises(IntegrityViolation, match=f"{ghost}.*dee projections verify run_list"):
        engine.list_runs(limit=10_000)
    assert not engine.projections.verify("run_list").ok


def test_the_rows_of_one_run_or_contact_are_made_anew(place: Place, engine: Engine) -> None:
    run = engine.list_runs(limit=1, plan_id="outreach").runs[0]
    for name in NAMES:
        served(engine, name)
    before = {name: contents(engine, served(engine, name)) for name in NAMES}
    for table, column in [
        ("run_list_v1", "run_id"),
        ("step_funnel_v1", "run_id"),
        ("audit_trail_v3", "stream_id"),
    ]:
        tamper(engine, f"UPDATE {table} SET plan_id = 'x' WHERE {column} = '{run.id}' RETURNING 1")
    tamper(engine, f"DELETE FROM contact_history_v1 WHERE run_id = '{run.id}' RETURNING 1")
    for name in NAMES:
        by_run = name in ("run_list", "contact_history")
        given = {"run_id": run.id} if by_run else {"contact_id": run.contact_id}
        assert engine.projections.refold(name, **given).parked == 0
    # What the tampered rows were counted as was not what had been counted.
    for name in ("audit_trail", "contact_history"):
        assert contents(engine, served(engine, name)) == before[name]
    for name in ("run_list", "step_funnel"):
        after, was = contents(engine, served(engine, name)), before[name]
        assert {n: rows for n, (rows, _) in after.items()} == {n: r for n, (r, _) in was.items()}
    with pytest.raises(InvalidInput, match="either a run or a contact"):
        engine.projections.refold("run_list")
    with pytest.raises(InvalidInput, match="nothing of it"):
        engine.projections.refold("run_list", run_id="run_" + "a" * 26)
