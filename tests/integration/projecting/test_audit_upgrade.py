"""A database from before the audit trail's third version: asked, rebuilt, left by the old code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dee_es import Engine
from dee_es.adapters.channels.memory import MemoryChannel
from dee_es.core.events import RecordedEvent
from dee_es.core.projection import Change
from dee_es.core.views import AuditRow, ContactRunRow
from dee_es.errors import ProjectionUnavailable
from projections import CONTACT_HISTORY, STEP_FUNNEL
from projections.audit_trail import AuditTrail, AuditTrailV2
from tests.support.engines import EPOCH, database_url, fickle, outreach
from tests.support.runs.busy import keep_busy, person, prepare
from tests.support.versions.code import builds, engine_with, served


class WiderEntry(AuditRow, frozen=True):
    """An entry with its step."""

    step_id: str | None = None


class WiderTrail(AuditTrail):
    """The next version: a column more for each entry, which is a row of the second table."""

    table = replace(AuditTrail.table, version=4)
    lines = replace(AuditTrail.lines, version=4, row_type=WiderEntry)
    change = Change(added=("step_id",))

    def line(self, row: ContactRunRow | None, event: RecordedEvent) -> AuditRow:
        """The entry of the version before, and the step."""
        entry = msgspec.structs.asdict(super().line(row, event))
        return WiderEntry(**entry, step_id=getattr(event.event, "step_id", None))


OLD = (AuditTrailV2(), CONTACT_HISTORY, STEP_FUNNEL)


@pytest.fixture(params=("sqlite", "postgres"))
def both(
    request: pytest.FixtureRequest, tmp_path: Path, fresh_postgres: Callable[[], str]
) -> Iterator[tuple[Engine, Engine]]:
    """An engine of the code before, which made the database and filled it, and one of this code."""
    url, keys = database_url(request.param, tmp_path, fresh_postgres), tmp_path / "keys.db"
    with ExitStack() as stack:
        old = stack.enter_context(engine_with(url, keys, lazy=OLD, channel=MemoryChannel(fickle)))
        prepare(old)
        keep_busy(old, 400, seed=8)
        run = old.list_runs(limit=1).runs[0]
        old.pause_run(run.id, "asked to wait")
        old.place_hold(run_id=run.id, reason="a law suit", actor="ann")
        assert builds(old, "audit_trail") == {(2, 1): "serving"}
        yield old, stack.enter_context(engine_with(url, keys, channel=MemoryChannel(fickle)))


def answers(engine: Engine) -> list[str]:
    """Pages for every kind of filter, as doors give them out, up to the end of the log's runs."""
    run = engine.list_runs(limit=1).runs[0]
    first = EPOCH.replace(day=2)
    chosen: list[dict[str, Any]] = [
        {"run_id": run.id},
        {"run_id": run.id, "actions": ["hold.placed"]},
        {"contact_id": run.contact_id},
        {"plan_id": "outreach"},
        {"plan_id": "calling", "actions": ["run.started", "step.entered"]},
        {"actions": ["step.executed"], "since": first},
        {"actor": "tester", "actions": ["run.paused"]},
        {"text": "WAIT", "actions": ["run.paused"]},
        {"plan_id": "outreach", "until": first},
    ]
    return [engine.audit.query(limit=30, **each).model_dump_json() for each in chosen]


def test_it_goes_on_being_asked_and_becomes_the_third_version(both: tuple[Engine, Engine]) -> None:
    old, new = both
    before = answers(old)
    assert all('"entries":[{' in each for each in before)
    # Until it is rebuilt, this code reads, and folds into, the version before.
    assert answers(new) == before
    assert builds(new, "audit_trail") == {(2, 1): "serving"}
    advice, *_ = new.health().advice
    assert "dee projections rebuild audit_trail" in advice
    done = new.projections.rebuild("audit_trail")
    assert (done.former_version, done.version) == (2, 3)
    assert done.comparison is not None
    assert done.comparison.same
    assert done.comparison.rows > new.health().position - 5
    assert builds(new, "audit_trail") == {(2, 1): "kept", (3, 1): "serving"}
    assert answers(new) == before
    # The code before goes on with its own table until that is dropped.
    old.execute(outreach(), contact=person(10**8))
    for engine in both:
        assert engine.audit.query(contact_id=f"contact_{10**8}").total == 1
    assert new.projections.drop("audit_trail") == ("audit_run_v2", "audit_trail_v2")
    with pytest.raises(ProjectionUnavailable, match="upgrade"):
        old.audit.query(contact_id="contact_1")
    assert new.projections.verify("audit_trail").ok


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_entries_get_a_column_more(
    kind: str, tmp_path: Path, fresh_postgres: Callable[[], str]
) -> None:
    url, keys = database_url(kind, tmp_path, fresh_postgres), tmp_path / "keys.db"
    lazy = (WiderTrail(), CONTACT_HISTORY, STEP_FUNNEL)
    with engine_with(url, keys) as old, engine_with(url, keys, lazy=lazy) as new:
        prepare(old)
        run = old.execute(outreach(), contact=person(1))
        old.run_until(1)
        entries = old.audit.query().entries
        # Until it is rebuilt, the new code reads, and folds into, the version before.
        new.pause_run(run.id, "asked to wait")
        assert new.audit.query(limit=len(entries)).entries == entries
        assert new.audit.query(actions=["run.paused"]).total == 1
        done = new.projections.rebuild("audit_trail")
        assert (done.former_version, done.version) == (3, 4)
        assert done.comparison is not None
        assert done.comparison.same
        about_it = [engine.audit.query(run_id=run.id).entries for engine in (old, new)]
        assert about_it[0] == about_it[1]
        table = served(new, "audit_trail").lines
        assert table is not None
        with new._parts.views.snapshot() as reader:
            rows = reader.scan(table, None, 1_000)
        assert {row.step_id for row in rows} > {None, run.current_step}


def test_a_difference_between_the_versions_is_found(both: tuple[Engine, Engine]) -> None:
    old, new = both
    table = served(old, "audit_trail").lines
    assert table is not None
    with new._parts.views.building() as tx:
        (row,) = tx.rows(table, [7]).values()
        tx.delete(table, [7, 9])
    verified = old.projections.verify("audit_trail")
    assert not verified.ok
    found = {each.key: each for each in verified.comparison.samples}
    assert set(found) == {"7", "9"}
    assert all(each.only_old == {} for each in found.values())
    assert found["7"].only_new["action"] == row.action
