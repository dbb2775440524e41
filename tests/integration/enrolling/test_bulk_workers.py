"""`bulk_execute` shared among processes: the same runs and the same account as by one."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from dee_es import BulkResult, Engine, EngineConfig
from dee_es.core.events import Pins
from dee_es.engine.enrolling.parts import BulkOrder, PartDone
from dee_es.engine.enrolling.pipeline import Pipeline
from dee_es.engine.models import Refusal
from dee_es.errors import InvalidInput, StoreUnavailable
from dee_es.ports import Committed, Conflict
from tests.support.engines import EPOCH, database_url, open_engine, outreach, publish_basics

Fresh = Callable[[], str]


@pytest.fixture(params=["sqlite", "postgres"])
def engine(
    request: pytest.FixtureRequest, tmp_path: Path, fresh_postgres: Fresh
) -> Iterator[Engine]:
    config = EngineConfig(
        database_url(request.param, tmp_path, fresh_postgres),
        keys=f"sqlite:///{tmp_path / 'keys.db'}",
        clock="manual",
        epoch=EPOCH,
        outbox=str(tmp_path / "outbox"),
        actor="tester",
    )
    with Engine(config) as opened:
        publish_basics(opened)
        yield opened


def person(n: int, **more: Any) -> dict[str, Any]:
    return {"id": f"contact_{n}", "email": f"contact_{n}@example.com", "firstName": f"N{n}", **more}


def as_by_one(engine: Engine, result: BulkResult, created: int) -> None:
    """Nobody has two runs, and all that is told of the log agrees with it."""
    assert result.created == created
    assert engine.list_runs(limit=1).total == created
    assert engine.verify_log().valid
    assert engine.projections.verify("run_list").ok


def test_everybody_is_enrolled_once_and_accounted_for(engine: Engine) -> None:
    engine.suppress("contact_77", reason="asked us not to")
    engine.execute(outreach(), person(205))
    people = [person(n) for n in range(1_500)]
    people[30] = person(30, email="no address")
    # Given twice: in one batch, in the next one, and far behind.
    people += [person(1_499), person(1_480), person(31)]
    told: list[int] = []
    refused: list[Refusal] = []
    result = engine.bulk_execute(
        outreach(),
        iter(people),
        batch_size=50,
        workers=2,
        on_progress=lambda so_far: told.append(so_far.done),
        on_refusal=refused.append,
    )
    assert (result.created, result.skipped, result.errors) == (1_497, 5, 1)
    assert [(each.contact_id, each.reason) for each in refused] == [
        ("contact_30", "invalid"),
        ("contact_77", "suppressed"),
        ("contact_205", "already_enrolled"),
        ("contact_1499", "already_enrolled"),
        ("contact_1480", "already_enrolled"),
        ("contact_31", "already_enrolled"),
    ]
    assert told == sorted(told)
    assert told[-1] == len(people)
    assert engine.list_runs(limit=1).total == 1_498
    assert engine.verify_log().valid
    assert engine.projections.verify("run_list").ok
    refusals = engine.audit.query(contact_id="contact_77", actions=["enrollment.refused"])
    assert refusals.total == 1


def test_of_a_contact_given_twice_the_first_counts(engine: Engine, tmp_path: Path) -> None:
    people = []
    for n in range(600):
        people += [person(n, firstName="first")]
        if n % 40 == 39:
            people += [person(each, firstName="later") for each in range(n - 20, n)]
    result = engine.bulk_execute(outreach(), people, batch_size=20, workers=2)
    as_by_one(engine, result, 600)
    assert result.skipped == 300
    engine.run_until(1)
    said = [path.read_text() for path in (tmp_path / "outbox").rglob("*.eml")]
    assert len(said) >= 600
    assert not any("later" in each for each in said)


def test_the_part_of_a_process_that_is_killed_is_enrolled_here(engine: Engine) -> None:
    killed: list[int] = []

    def kill(so_far: BulkResult) -> None:
        for child in multiprocessing.active_children():
            if so_far.done and child.pid not in killed:
                killed.append(child.pid or 0)
                child.kill()

    result = engine.bulk_execute(
        outreach(), map(person, range(3_000)), batch_size=100, workers=2, on_progress=kill
    )
    assert len(killed) == 1
    as_by_one(engine, result, 3_000)


def test_the_same_command_again_creates_nothing_more(engine: Engine) -> None:
    people = [person(n) for n in range(400)]
    for _ in range(2):
        result = engine.bulk_execute(
            outreach(), people, batch_size=50, workers=2, command_id="command_1"
        )
        assert (result.skipped, result.errors) == (0, 0)
        as_by_one(engine, result, 400)


def test_what_the_contacts_raise_comes_out_and_leaves_nobody_behind(engine: Engine) -> None:
    def people() -> Iterator[dict[str, Any]]:
        yield from map(person, range(500))
        raise StoreUnavailable("the file is gone")

    with pytest.raises(StoreUnavailable, match="the file is gone"):
        engine.bulk_execute(outreach(), people(), batch_size=20, workers=2)
    assert multiprocessing.active_children() == []
    result = engine.bulk_execute(outreach(), map(person, range(500)), batch_size=20)
    assert result.created + result.skipped == 500
    assert engine.list_runs(limit=1).total == 500
    assert engine.verify_log().valid


def test_in_memory_this_process_does_it_all() -> None:
    with open_engine(":memory:") as engine:
        publish_basics(engine)
        result = engine.bulk_execute(outreach(), map(person, range(30)), batch_size=7, workers=4)
        as_by_one(engine, result, 30)
        with pytest.raises(InvalidInput, match="workers"):
            engine.bulk_execute(outreach(), [], workers=0)


def pipeline_of(engine: Engine) -> Pipeline:
    """What enrolls parts into the plan of these tests, one after the other."""
    publish_basics(engine)
    engine.publish_plan(outreach())
    order = BulkOrder(engine.get_plan("outreach"), Pins(), {}, "command_1", "tester", False)
    return engine.enrolling(order)


def test_one_part_that_was_not_taken_stops_the_next_one_and_no_more() -> None:
    with open_engine(":memory:") as engine, pytest.MonkeyPatch.context() as patch:
        with closing(pipeline_of(engine)) as pipeline:
            patch.setattr(engine._parts.store, "commit", _unavailable)
            failed = pipeline.begin([person(1)])
            with pytest.raises(StoreUnavailable):
                pipeline.begin([person(2)])
            with pytest.raises(StoreUnavailable, match="did not take a batch"):
                failed.result()
            patch.undo()
            taken = pipeline.begin([person(3)])
            pipeline.settle()
            assert taken.result() == PartDone(1, ())
        assert [run.contact_id for run in engine.list_runs().runs] == ["contact_3"]


def test_a_part_that_cannot_be_prepared_leaves_the_one_before_its_result() -> None:
    with open_engine(":memory:") as engine, pytest.MonkeyPatch.context() as patch:
        with closing(pipeline_of(engine)) as pipeline:
            before = pipeline.begin([person(1)])
            patch.setattr(engine._parts.store, "situation", _unavailable)
            with pytest.raises(StoreUnavailable):
                pipeline.begin([person(2)])
            assert before.done()
            assert before.result() == PartDone(1, ())
            patch.undo()
        assert [run.contact_id for run in engine.list_runs().runs] == ["contact_1"]


def _unavailable(*given: object, **named: object) -> list[Committed | Conflict]:
    raise StoreUnavailable("the connection is gone")
