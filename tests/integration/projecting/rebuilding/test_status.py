"""What is told of projections before and after a rebuild: estimates and status."""

from __future__ import annotations

import msgspec
import pytest

from dee_es import Contact, Engine
from dee_es.adapters.storage.memory.views import MemoryViews
from dee_es.adapters.storage.relational.views import RelationalViews
from tests.support.engines import outreach
from tests.support.versions.code import WiderRunList, builds, served, views_of
from tests.support.versions.rebuilding import Place


def test_an_estimate_writes_nothing(place: Place, engine: Engine) -> None:
    newer = place.open(run_list=WiderRunList())
    found = newer.projections.estimate("run_list")
    assert (found.version, found.served_version, found.measured) == (2, 1, False)
    assert found.events == engine.health().position
    assert found.rows == engine.list_runs(limit=1).total
    assert found.rate > 0
    assert builds(newer) == {(1, 1): "serving"}
    newer.projections.rebuild("run_list")
    assert newer.projections.estimate("run_list").measured


def test_an_estimate_tells_what_a_version_that_is_behind_will_be(
    place: Place, engine: Engine
) -> None:
    """Nobody has asked for the audit trail yet: what it holds says nothing of what it will."""
    head = engine.health().position
    found = engine.projections.estimate("audit_trail")
    assert (found.rows, found.bytes, found.served_lag) == (None, None, head)
    engine.projections.catch_up("audit_trail")
    level = engine.projections.estimate("audit_trail")
    assert level.served_lag == 0
    assert level.rows == engine.list_runs(limit=1).total
    with views_of(engine).transaction() as tx:
        # As if as much again had been written since.
        row = next(row for row in tx.builds("audit_trail"))
        tx.save_build(msgspec.structs.replace(row, position=head // 2))
    assert engine.projections.estimate("audit_trail").rows == level.rows * head // (head // 2)


def test_status(place: Place, engine: Engine) -> None:
    served(engine, "audit_trail")
    status = {each.name: each for each in engine.projections.status()}
    head = engine.health().position
    assert status["run_list"].lag_events == status["audit_trail"].lag_events == 0
    assert status["step_funnel"].lag_events == head
    assert status["step_funnel"].lag_seconds > 0
    assert status["audit_trail"].rows == status["run_list"].rows
    assert status["run_list"].rows == engine.list_runs(limit=1).total
    assert (status["run_list"].bytes or 0) > 1_000
    # What the number of runs tells is what is counted, where it says so.
    counted = {each.name: each for each in engine.projections.status(count=True)}
    assert all(each.rows_exact for each in counted.values())
    for name, each in status.items():
        assert each.rows_exact == (each.lag_events == 0 or each.position == 0)
        assert each.rows == counted[name].rows
    assert status["run_list"].last_rebuild is None
    engine.projections.rebuild("run_list")
    last = engine.projections.status()[0].last_rebuild
    assert last is not None
    assert last.finished is not None
    assert (last.events, last.rate > 0, len(last.digest)) == (head, True, 64)
    engine.execute(outreach(), Contact(id="one-more", email="m@example.com", firstName="M"))
    behind = {each.name: each for each in engine.projections.status()}
    assert not behind["audit_trail"].rows_exact
    assert behind["run_list"].rows == status["run_list"].rows + 1


def test_status_reads_through_no_table_unless_it_is_asked_to(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def size(*_: object) -> tuple[int, int]:
        raise AssertionError("nobody asked to count")

    for views in (RelationalViews, MemoryViews):
        monkeypatch.setattr(views, "size", size)
    served(engine, "audit_trail")
    assert all(each.rows_exact for each in engine.projections.status())
    with pytest.raises(AssertionError, match="nobody asked"):
        engine.projections.status(count=True)
