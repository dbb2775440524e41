"""Every door has every filter that the engine has, and each narrows the choice as it does there."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import fields
from datetime import timedelta
from typing import Any, Final

import httpx
import pytest

from dee_es import Engine, create_plan, steps
from dee_es.cli.commands.runs import list_runs
from dee_es.cli.options import run_filters
from dee_es.cli.times import Moment
from dee_es.client import DeeClient
from dee_es.engine.queries import Queries
from dee_es.engine.run_filters import FILTERS, IN_JSON
from dee_es.web.pages.runs import TypedFilters
from tests.support.engines import DAY, EPOCH, open_engine
from tests.support.web.listening import listening

LATER: Final = EPOCH + timedelta(days=1)
CHOOSES: Final[dict[str, tuple[Any, str]]] = {
    "status": ("paused", "c2"),
    "plan_id": ("second", "c2"),
    "contact_id": ("c1", "c1"),
    "started_after": (LATER, "c2"),
    "started_before": (LATER, "c1"),
}
"""For each filter a value, and the contact whose run alone it chooses."""


@pytest.fixture(scope="module")
def doors() -> Iterator[tuple[Engine, str]]:
    """An engine with two runs that differ in all there are filters for, and its address."""
    with open_engine(":memory:") as engine:
        for number, plan_id in enumerate(("first", "second"), start=1):
            plan = create_plan(id=plan_id, name="A", steps=[steps.wait("rest", {"days": 9})])
            run = engine.execute(plan, {"id": f"c{number}"})
            if number == 1:
                engine.run_until(DAY)
        engine.pause_run(run.id)
        with listening(engine) as url:
            yield engine, url


def parameters(method: Any) -> set[str]:
    """What can be given to a method, without what is no filter."""
    no_filters = {"self", "limit", "offset", "cursor", "workers", "on_progress", "on_divergence"}
    return set(inspect.signature(method).parameters) - no_filters


def test_the_engine_takes_those_that_are_defined() -> None:
    assert parameters(Queries.filter) == set(FILTERS) == CHOOSES.keys()
    assert parameters(Engine.list_runs) == parameters(Engine.replay_all) == set(FILTERS)
    assert parameters(Engine.count_runs) == set(FILTERS) - {"status"}


@pytest.mark.parametrize("name", FILTERS)
def test_each_narrows_what_an_engine_and_a_client_answer(
    name: str, doors: tuple[Engine, str]
) -> None:
    """The client asks the HTTP API, which takes nothing that it does not know."""
    engine, url = doors
    value, contact = CHOOSES[name]
    chosen: dict[str, Any] = {name: value}
    with DeeClient(url) as client:
        for api in (engine, client):
            assert [run.contact_id for run in api.list_runs(**chosen).runs] == [contact]
            assert api.replay_all(**chosen).runs == 1
            if name != "status":
                assert sum(api.count_runs(**chosen).values()) == 1
            for given in (chosen, {IN_JSON[name]: value}):
                assert api.bulk_cancel(given, "over", dry_run=True).matched == 1


def test_the_shell_has_options_for_all_of_them() -> None:
    moment = Moment(at=LATER)
    given: dict[str, Any] = {"plan": "second", "contact": "c2", "after": moment, "before": moment}
    read = run_filters(status=["paused"], **given, now=LATER)
    assert read.keys() == set(FILTERS)
    assert {"status", *given} <= {option.name for option in list_runs.params}


def test_the_pages_have_fields_for_all_of_them(doors: tuple[Engine, str]) -> None:
    typed = {"status": "paused", "plan": "second", "contact": "c2", "after": "8h", "before": "2h"}
    assert typed.keys() == {each.name for each in fields(TypedFilters)}
    assert TypedFilters().read(LATER).keys() == set(FILTERS)
    _, url = doors
    page = httpx.get(f"{url}/runs", params=typed, headers={"accept": "text/html"}).text
    for name, value in typed.items():
        assert f'name="{name}"' in page, name
        assert f'value="{value}"' in page, name
    page = httpx.get(f"{url}/runs/bulk/resume", params=typed, headers={"accept": "text/html"}).text
    for name, value in typed.items():
        assert name == "status" or f'<dd class="mono">{value}</dd>' in page, name
