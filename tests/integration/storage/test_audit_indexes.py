"""Every audit query comes from the index that is meant for it, whatever is asked for."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dee_es.adapters.storage.postgres import open_postgres
from dee_es.adapters.storage.relational import audit
from dee_es.adapters.storage.sqlite import open_sqlite
from dee_es.core.views import AuditFilter
from tests.support.storage.rows import AUDIT, chosen_entries, key_of, prepare, some_entries

RUN = some_entries(random.Random(5), 5)[0].stream_id
CASES = [
    (AuditFilter(), {"tick_position"}),
    (AuditFilter(from_tick=9, before_tick=99), {"tick_position"}),
    (AuditFilter(run_id=RUN), {"stream_id", "about_run_id"}),
    (AuditFilter(run_id=RUN, plan_id="plan_1", actor="ann"), {"stream_id", "about_run_id"}),
    (AuditFilter(contact_id="c1"), {"contact_id_tick"}),
    (AuditFilter(contact_id="c1", actions=("x.y",), from_tick=9), {"contact_id_tick"}),
    (AuditFilter(reasons=("asked", "no")), {"reason_tick_position"}),
    (AuditFilter(reasons=("asked",), plan_id="plan_1"), {"reason_tick_position"}),
    (AuditFilter(actor="ann"), {"actor_tick_position"}),
    (AuditFilter(actor="ann", actions=("x.y",), before_tick=99), {"actor_tick_position"}),
    (AuditFilter(plan_id="plan_1"), {"plan_id_tick_position"}),
    (AuditFilter(plan_id="plan_1", from_tick=9), {"plan_id_tick_position"}),
    (AuditFilter(plan_id="plan_1", actions=("x.y",)), {"plan_id_action_tick_position"}),
    (
        AuditFilter(plan_id="plan_1", actions=("x.y", "no"), before_tick=99),
        {"plan_id_action_tick_position"},
    ),
    (AuditFilter(actions=("x.y", "run.started")), {"action_tick_position"}),
]
AFTER = (40, 700)
Explain = Callable[[str, list[object]], str]


def _as_postgres(query: str) -> str:
    numbers = iter(range(1, 200))
    listed = query.replace("IN ??", "= ANY(?::text[])")
    return re.sub(r"\?", lambda _: f"${next(numbers)}", listed)


@pytest.fixture(params=["sqlite", "postgres"])
def explained(
    request: pytest.FixtureRequest, tmp_path: Path, fresh_postgres: Callable[[], str]
) -> Iterator[tuple[Any, Explain]]:
    """Views with entries, and what says how a statement is gone about.

    On PostgreSQL that is the plan for values that are not known, which prepared statements come to.
    """
    on_postgres = request.param == "postgres"
    if on_postgres:
        store, views = open_postgres(fresh_postgres())
    else:
        store, views = open_sqlite(str(tmp_path / "dee.db"))
    prepare(views, [AUDIT])
    with views.transaction() as tables:
        tables.write(AUDIT, some_entries(random.Random(5), 3_000), ())
        tables.move(key_of(AUDIT), 3_000, 0)
    views.settle([AUDIT])

    def explain(query: str, params: list[object]) -> str:
        if on_postgres:
            with store.database.pool.connection() as connection:
                text = f"EXPLAIN (GENERIC_PLAN) {_as_postgres(query)}"
                told = connection.execute(text.encode()).fetchall()
            return "\n".join(str(row["QUERY PLAN"]) for row in told)
        rows = store.database.query(f"EXPLAIN QUERY PLAN {query}", params)
        return "\n".join(str(row[3]) for row in rows)

    yield (views, explain)
    store.close()


@pytest.mark.parametrize("chosen, indexes", CASES)
def test_no_other_index_is_used_and_never_all_rows(
    explained: tuple[Any, Explain], chosen: AuditFilter, indexes: set[str]
) -> None:
    views, explain = explained
    queries = [
        audit.page(AUDIT, views.dialect, chosen, 50, None),
        audit.page(AUDIT, views.dialect, chosen, 50, AFTER),
        audit.count(AUDIT, views.dialect, chosen),
    ]
    for query, params in queries:
        plan = explain(query, params)
        assert set(re.findall(r"audit_trail_v3_by_(\w+)", plan)) == indexes, plan
        assert not re.search(r"Seq Scan|pkey|SCAN audit_trail_v3$", plan), plan
    rows = some_entries(random.Random(5), 3_000)
    assert views.list_audit(AUDIT, chosen, limit=1).total == len(chosen_entries(rows, chosen))


def test_the_smaller_index_of_a_plan_does_not_stand_in_for_that_of_plan_and_action(
    explained: tuple[Any, Explain],
) -> None:
    """A planner that does not know how many rows are wanted would take it, and read all of the
    plan's entries; so it must not even do so where there is no other."""
    views, explain = explained
    with views.building() as tx:
        tx._session.ask("DROP INDEX audit_trail_v3_by_plan_id_action_tick_position")
    chosen = AuditFilter(plan_id="plan_1", actions=("x.y",))
    for after in (None, AFTER):
        query, params = audit.page(AUDIT, views.dialect, chosen, 50, after)
        assert "by_plan_id" not in explain(query, params)
