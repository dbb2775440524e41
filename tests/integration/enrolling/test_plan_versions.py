"""Which version of a plan a run keeps: the newest one equal to what was given, whoever published it
and whatever this engine did before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dee_es import Engine
from tests.support.engines import open_engine, outreach, publish_basics

Open = Callable[[], Engine]


@pytest.fixture(params=["sqlite", "postgres"])
def engines(
    request: pytest.FixtureRequest, tmp_path: Path, fresh_postgres: Callable[[], str]
) -> Iterator[tuple[Engine, Engine]]:
    """Two engines on one database."""
    file = f"sqlite:///{tmp_path / 'dee.db'}"
    url = file if request.param == "sqlite" else fresh_postgres()
    keys = tmp_path / "keys.db"
    with open_engine(url, keys=keys) as one, open_engine(url, keys=keys) as other:
        publish_basics(one)
        yield one, other


@pytest.mark.parametrize("who", ["itself", "the other"])
def test_a_plan_that_came_back_is_the_newest_version_equal_to_it(
    engines: tuple[Engine, Engine], who: str
) -> None:
    engine, publisher = engines[0], engines[0 if who == "itself" else 1]
    plan, changed = outreach(), outreach(name="Changed")
    assert engine.execute(plan, {"id": "a1"}).plan_version == 1
    assert publisher.publish_plan(changed).version == 2
    # It is still the first version that the plan given is equal to.
    assert engine.execute(plan, {"id": "a2"}).plan_version == 1
    assert publisher.publish_plan(plan).version == 3
    assert engine.execute(plan, {"id": "a3"}).plan_version == 3
    assert engine.execute(outreach(), {"id": "a4"}).plan_version == 3
    assert engine.execute(changed, {"id": "a5"}).plan_version == 2
    for engine in engines:
        engine.publish_plan(changed)
        assert engine.execute(changed, {"id": f"b{id(engine)}"}).plan_version == 4


def test_whoever_asks_about_a_run_is_told_that_it_keeps_an_older_version(
    engines: tuple[Engine, Engine],
) -> None:
    engine, other = engines
    ids = [engine.execute(outreach(), {"id": who}).id for who in ("a1", "a2", "a3")]
    kept = "It keeps version 1 of the plan outreach, with which it began; version 2 is published"
    assert kept not in engine.explain(ids[0]).now
    other.publish_plan(outreach(name="Changed"))
    engine.pause_run(ids[1])
    engine.cancel_run(ids[2], "moved away")
    for run in ids[:2]:
        assert engine.explain(run).now.endswith(f"{kept} by now.")
    assert "version" not in engine.explain(ids[2]).now, "an ended run goes nowhere"
    new = engine.execute(outreach(name="Changed"), {"id": "a4"})
    assert "It keeps" not in engine.explain(new.id).now


def test_a_bulk_enrolment_keeps_the_version_that_is_the_newest_as_it_begins(
    engines: tuple[Engine, Engine],
) -> None:
    engine, other = engines
    plan, changed = outreach(), outreach(name="Changed")
    engine.bulk_execute(plan, [{"id": "a1"}])
    engine.execute(plan, {"id": "a2"})
    other.publish_plan(changed)
    other.publish_plan(plan)
    engine.bulk_execute(plan, [{"id": "a3"}])
    assert engine.list_runs(contact_id="a3").runs[0].plan_version == 3


def test_a_run_in_between_follows_what_is_published_at_that_moment(
    engines: tuple[Engine, Engine],
) -> None:
    """However often others publish, a run keeps one equal to the plan it was begun with."""
    engine, other = engines
    plan = outreach()
    for number in range(6):
        other.publish_plan(plan if number % 2 else outreach(name=f"Other {number}"))
        run = engine.execute(plan, {"id": f"c{number}"})
        assert engine.get_plan("outreach", run.plan_version).same_as(plan)
        versions = range(engine.get_plan("outreach").version, run.plan_version, -1)
        assert not any(engine.get_plan("outreach", each).same_as(plan) for each in versions)
