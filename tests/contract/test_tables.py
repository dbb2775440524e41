"""Projection tables inside a transaction: rows, counts, checkpoints and the log."""

from __future__ import annotations

import random

import msgspec
import pytest

from dee_es.core.projection import Row, Table
from dee_es.core.views import AuditFilter, RunFilter
from dee_es.errors import IntegrityViolation
from dee_es.ports import EventStore, Views
from tests.support.storage.events import run, unit
from tests.support.storage.rows import (
    AUDIT,
    RUNS,
    add_runs,
    key_of,
    listed,
    move_runs,
    place,
    position,
    prepare,
    run_row,
    some_entries,
)


class Boom(Exception):
    """What ends a transaction of these tests."""


class Mixed(Row, frozen=True):
    """A row with every kind of column, each also nullable."""

    name: str
    text: str | None
    number: int
    maybe: int | None
    flag: bool
    unsure: bool | None
    raw: bytes
    rest: bytes | None


MIXED = Table("mixed", 3, Mixed, key="name", indexes=(("number", "name"),))


def test_a_prepared_table_is_empty(views: Views) -> None:
    prepare(views, [RUNS, AUDIT])
    assert views.run(RUNS, run()) is None
    assert listed(views, RUNS, RunFilter(), 5) == ([], 0, 0, 0)
    assert views.list_audit(AUDIT, AuditFilter(), limit=5) == ([], 0)
    assert position(views, RUNS) == 0


def test_preparing_again_keeps_what_is_there(views: Views) -> None:
    prepare(views, [RUNS])
    with views.transaction() as tables:
        add_runs(tables, [run_row(1)])
    prepare(views, [RUNS, AUDIT])
    prepare(views, [])
    assert views.run(RUNS, run_row(1).run_id) == run_row(1)


def test_versions_of_a_table_stand_side_by_side(views: Views) -> None:
    newer = Table(RUNS.name, 2, RUNS.row_type, RUNS.key, RUNS.indexes, RUNS.counted)
    prepare(views, [RUNS, newer])
    with views.transaction() as tables:
        add_runs(tables, [run_row(1)])
        tables.move(key_of(RUNS), 7, 3)
        assert place(tables, newer) == (0, 0)
    assert listed(views, newer, RunFilter(), 5) == ([], 0, 0, 0)
    assert listed(views, RUNS, RunFilter(), 5) == ([run_row(1)], 1, 0, 7)


def test_rows_come_back_as_they_were_written(views: Views) -> None:
    prepare(views, [MIXED])
    rows = [
        Mixed("full", "ü'\"%", 2**53, -(2**53), True, False, b"\x00\xff", b""),
        Mixed("empty", None, 0, None, False, None, b"", None),
    ]
    with views.transaction() as tables:
        tables.write(MIXED, rows, ())
        assert tables.rows(MIXED, ["full", "empty", "none"]) == {row.name: row for row in rows}
        assert tables.rows(MIXED, []) == {}
    changed = [msgspec.structs.replace(row, number=5, flag=not row.flag) for row in rows]
    with views.transaction() as tables:
        tables.write(MIXED, [Mixed("new", None, 1, 1, True, True, b"x", b"y")], changed)
    with views.transaction() as tables:
        found = tables.rows(MIXED, ["full", "empty", "new"])
    assert [found["full"], found["empty"]] == changed
    assert found["new"].raw == b"x"
    assert all(type(row.flag) is bool for row in found.values())


def test_rows_keyed_by_number(views: Views) -> None:
    prepare(views, [AUDIT])
    entries = some_entries(random.Random(1), 50)
    with views.transaction() as tables:
        tables.write(AUDIT, entries, ())
        assert tables.rows(AUDIT, [3, 50, 51]) == {3: entries[2], 50: entries[49]}


def test_more_rows_than_a_statement_has_parameters(views: Views) -> None:
    prepare(views, [RUNS])
    rows = [run_row(n) for n in range(1, 4_001)]
    with views.transaction() as tables:
        add_runs(tables, rows)
    with views.transaction() as tables:
        asked = [row.run_id for row in rows] + [f"none_{n}" for n in range(40_000)]
        assert len(tables.rows(RUNS, asked)) == 4_000


def test_a_transaction_sees_its_own_changes(store: EventStore, views: Views) -> None:
    store.commit([unit(run(), 0, 3)])
    prepare(views, [RUNS])
    with views.transaction() as tables:
        add_runs(tables, [run_row(1)])
        assert tables.rows(RUNS, [run_row(1).run_id])
        move_runs(tables, [run_row(1, status="paused")])
        assert tables.rows(RUNS, [run_row(1).run_id]) == {
            run_row(1).run_id: run_row(1, status="paused")
        }
        tables.move(key_of(RUNS), 2, 1)
        tables.move(key_of(RUNS), 3, 1)
        assert place(tables, RUNS) == (3, 1)
        assert [row.position for row in tables.read_log(1, 9)] == [2, 3]
        assert [row.position for row in tables.read_log(0, 2)] == [1, 2]
        assert tables.read_log(3, 9) == []
    assert views.list_runs(RUNS, RunFilter(("paused",)), limit=5)[:2] == (
        [run_row(1, status="paused")],
        1,
    )
    assert views.list_runs(RUNS, RunFilter(("active",)), limit=5)[:2] == ([], 0)
    assert listed(views, RUNS, RunFilter())[2:] == (3, 3)


def test_a_failed_transaction_leaves_nothing(views: Views) -> None:
    prepare(views, [RUNS])
    with views.transaction() as tables:
        add_runs(tables, [run_row(1)])
        tables.move(key_of(RUNS), 1, 1)

    def fail() -> None:
        with views.transaction() as tables:
            add_runs(tables, [run_row(2)])
            move_runs(tables, [run_row(1, status="failed")])
            tables.move(key_of(RUNS), 9, 2)
            raise Boom

    with pytest.raises(Boom):
        fail()
    assert listed(views, RUNS, RunFilter(), 5) == ([run_row(1)], 1, 0, 1)
    assert views.list_runs(RUNS, RunFilter(("failed",)), limit=5)[1] == 0


def test_counts_add_up_over_transactions(views: Views) -> None:
    prepare(views, [RUNS])
    for number in range(1, 8):
        with views.transaction() as tables:
            add_runs(tables, [run_row(number, plan_id=f"plan_{number % 2}")])
    with views.transaction() as tables:
        tables.add_counts(RUNS, {})
        move_runs(tables, [run_row(4, plan_id="plan_0", status="completed")])
    for chosen, total in [
        (RunFilter(), 7),
        (RunFilter(plan_id="plan_0"), 3),
        (RunFilter(plan_id="plan_1"), 4),
        (RunFilter(("active",)), 6),
        (RunFilter(("completed",)), 1),
        (RunFilter(("completed", "active"), plan_id="plan_0"), 3),
        (RunFilter(("failed",)), 0),
        (RunFilter(plan_id="none"), 0),
    ]:
        assert views.list_runs(RUNS, chosen, limit=0)[1] == total, chosen


def test_a_key_is_inserted_once(views: Views) -> None:
    prepare(views, [RUNS])
    with views.transaction() as tables:
        add_runs(tables, [run_row(1)])
    with pytest.raises(IntegrityViolation), views.transaction() as tables:
        tables.write(RUNS, [run_row(2), run_row(1)], ())
    assert views.list_runs(RUNS, RunFilter(), limit=5)[1] == 1
