"""Where a plan's id is meant and a version was given with it, every door says so alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from dee_es import Engine
from dee_es.client import DeeClient
from dee_es.errors import InvalidInput
from tests.support.engines import open_engine, outreach, publish_basics
from tests.support.web.application import API, refused
from tests.support.web.listening import listening

ALL = "is an id with a version; give the id alone, which stands for all versions of the plan"
BESIDE = "is an id with a version; give the id alone, and the version as `version`"
SEVERAL: dict[str, Callable[[Any], object]] = {
    "list_runs": lambda api: api.list_runs(plan_id="outreach@1"),
    "count_runs": lambda api: api.count_runs(plan_id="outreach@1"),
    "bulk_cancel": lambda api: api.bulk_cancel({"plan_id": "outreach@1"}, "why", dry_run=True),
    "audit.query": lambda api: api.audit.query(plan_id="outreach@1"),
    "explain_contact": lambda api: api.explain_contact("c1", "outreach@1"),
    "suppress": lambda api: api.suppress("c1", level="plan", plan_id="outreach@1"),
}
ONE: dict[str, Callable[[Any], object]] = {
    "get_plan": lambda api: api.get_plan("outreach@1"),
    "step_funnel": lambda api: api.step_funnel("outreach@1"),
}


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with open_engine(":memory:") as engine:
        publish_basics(engine)
        engine.publish_plan(outreach())
        yield engine


@pytest.fixture(scope="module")
def url(engine: Engine) -> Iterator[str]:
    with listening(engine) as url:
        yield url


@pytest.fixture(scope="module")
def doors(engine: Engine, url: str) -> Iterator[tuple[Engine, DeeClient]]:
    with DeeClient(url) as client:
        yield engine, client


@pytest.mark.parametrize("name", [*SEVERAL, *ONE])
def test_a_version_beside_a_plans_id_is_told_as_such(
    doors: tuple[Engine, DeeClient], name: str
) -> None:
    ask = {**SEVERAL, **ONE}[name]
    for door in doors:
        with pytest.raises(InvalidInput) as caught:
            ask(door)
        # A filter within a body is named with where it stands.
        assert caught.value.field in ("plan_id", "filters.planId")
        assert caught.value.problem == (BESIDE if name in ONE else ALL)


@pytest.mark.parametrize(
    ("path", "field", "problem"),
    [
        ("/runs?planId=outreach@1", "planId", ALL),
        ("/runs?planId=outreach@x", "planId", "must be 1 to 128 characters out of"),
        ("/runs?contactId=outreach@1", "contactId", "must be 1 to 128 characters out of"),
        ("/plans/outreach@1", "plan_id", BESIDE),
        ("/plans/outreach@1/funnel", "plan_id", BESIDE),
    ],
)
def test_over_http_it_is_told_of_the_parameter(
    url: str, path: str, field: str, problem: str
) -> None:
    told = refused(httpx.get(f"{url}{API}{path}"), 422, "InvalidInput", field)
    assert told["detail"].startswith(f"{field}: {problem}")
