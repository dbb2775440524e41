"""`Views.list_audit`: every filter, alone and combined, against a look at each row."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest

from dee_es.core.projection import Table
from dee_es.core.views import AuditFilter, AuditRow, AuditRowV2
from dee_es.ports import Views
from tests.support.counts import count
from tests.support.storage.rows import (
    AUDIT,
    AUDIT_V2,
    as_version_2,
    chosen_entries,
    key_of,
    prepare,
    some_entries,
)

Rows = list[AuditRow] | list[AuditRowV2]


@pytest.fixture(params=[AUDIT_V2, AUDIT], ids=["version 2", "version 3"])
def table(request: pytest.FixtureRequest) -> Table[Any]:
    """The table of each version that a database may serve."""
    table: Table[Any] = request.param
    return table


@pytest.fixture
def rows(views: Views, table: Table[Any]) -> Rows:
    """Entries as they are in the audit trail."""
    made = some_entries(random.Random(5), 1_500)
    rows: Rows = made if table is AUDIT else [as_version_2(row) for row in made]
    prepare(views, [table])
    with views.transaction() as tables:
        # Not in log order, as a rebuild may write them.
        tables.write(table, rows[700:], ())
        tables.write(table, rows[:700], ())
        tables.move(key_of(table), len(rows), 0)
    return rows


def test_every_combination_of_filters(views: Views, table: Table[Any], rows: Rows) -> None:
    chance = random.Random(6)
    for fields in itertools.product((False, True), repeat=8):
        for _ in range(count(2, 30)):
            some = chance.choice(rows)
            ticks = sorted(chance.choice(rows).tick for _ in "12")
            actions = tuple(chance.sample(["run.started", "wait.started", "x.y", "no"], 2))
            chosen = AuditFilter(
                run_id=some.run_id if fields[0] else None,
                contact_id=some.contact_id if fields[1] else None,
                plan_id=some.plan_id if fields[2] else None,
                actions=actions if fields[3] else (),
                actor=chance.choice(["ann", "bob", "none"]) if fields[4] else None,
                from_tick=ticks[0] if fields[5] else None,
                before_tick=ticks[1] if fields[6] else None,
                reasons=tuple(chance.sample(["asked", "Ärger", "no"], 2)) if fields[7] else None,
            )
            expected = chosen_entries(rows, chosen)
            total = len(expected)
            last = chance.choice(rows)
            after = chance.choice([None, (last.tick, last.position)])
            if after is not None:
                expected = [row for row in expected if (row.tick, row.position) > after]
            limit = chance.choice([1, 9, 5000])
            found = views.list_audit(table, chosen, limit=limit, after=after)
            assert found == (expected[:limit], total), (chosen, after, limit)


def test_no_reason_at_all_chooses_nothing(views: Views, table: Table[Any], rows: Rows) -> None:
    assert views.list_audit(table, AuditFilter(reasons=()), limit=5) == ([], 0)
    assert views.list_audit(table, AuditFilter(reasons=(), actor="ann"), limit=5) == ([], 0)


def test_more_values_than_are_walked_one_by_one(
    views: Views, table: Table[Any], rows: Rows
) -> None:
    actions = ("x.y", *(f"no.{number}" for number in range(80)))
    chosen = AuditFilter(actions=actions)
    assert views.list_audit(table, chosen, limit=5000).rows == chosen_entries(rows, chosen)


def test_the_different_texts_of_a_column(views: Views, table: Table[Any], rows: Rows) -> None:
    assert views.distinct(table, "reason") == ["asked", "asked again", "Ärger"]
    assert views.distinct(table, "actor") == ["ann", "bob"]


@pytest.mark.parametrize(
    "chosen",
    [
        AuditFilter(),
        AuditFilter(actor="ann"),
        AuditFilter(actions=("x.y", "run.started")),
        AuditFilter(plan_id="plan_1"),
    ],
)
def test_pages_follow_each_other(
    views: Views, table: Table[Any], rows: Rows, chosen: AuditFilter
) -> None:
    found: list[Any] = []
    while page := views.list_audit(
        table, chosen, limit=97, after=(found[-1].tick, found[-1].position) if found else None
    ).rows:
        found += page
    assert found == chosen_entries(rows, chosen)


def test_bounds_of_ticks_are_inclusive_and_exclusive(
    views: Views, table: Table[Any], rows: Rows
) -> None:
    tick = rows[750].tick
    found = views.list_audit(table, AuditFilter(from_tick=tick, before_tick=tick + 1), limit=5000)
    expected = [row for row in rows if row.tick == tick]
    assert found == (expected, len(expected))
    nothing = AuditFilter(from_tick=tick, before_tick=tick)
    assert views.list_audit(table, nothing, limit=5) == ([], 0)
