"""The HTTP API against its own description: no failure of the server, no answer outside of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.support.counts import count
from tests.support.engines import open_engine, outreach, publish_basics
from tests.support.web.application import API, HOST, MEANT, Client, served

TAGS = (
    "audit",
    "bulk",
    "channel events",
    "contacts",
    "definitions",
    "evidence",
    "history",
    "holds",
    "jobs",
    "plans",
    "projections",
    "runs",
    "system",
    "templates",
)
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """A small database: some runs in several states."""
    with open_engine(":memory:") as engine:
        publish_basics(engine)
        plan = engine.publish_plan(outreach())
        for number in range(12):
            engine.execute(
                plan, {"id": f"c{number}", "email": f"c{number}@example.com", "firstName": "Ada"}
            )
        engine.tick()
        newest = engine.list_runs(limit=3).runs
        engine.pause_run(newest[0].id)
        engine.cancel_run(newest[1].id, "test")
        with served(engine, **MEANT) as client:
            yield client


@pytest.fixture(scope="module")
def operations(client: Client) -> dict[str, list[Any]]:
    """The operations of the description by their tag."""
    found: dict[str, list[Any]] = {}
    schema = schemathesis.openapi.from_dict(client.get(f"{API}/openapi.json").json())
    for each in schema.get_all_operations():
        operation = each.ok()
        found.setdefault(operation.definition.raw["tags"][0], []).append(operation)
    return found


def test_every_tag_is_tried(operations: dict[str, list[Any]]) -> None:
    assert sorted(operations) == sorted(TAGS)


@pytest.mark.parametrize("tag", TAGS)
def test_every_answer_is_as_described(
    tag: str, client: Client, operations: dict[str, list[Any]]
) -> None:
    for operation in operations[tag]:
        _try(operation, client)


def _known(client: Client) -> list[dict[str, str]]:
    """Ids of what there is, for paths."""
    fixed = {"plan_id": "outreach", "template_id": "intro", "name": "run_list",
             "definition_id": "intro", "hold_id": "hold_1"}  # fmt: skip
    runs = client.get(f"{API}/runs?limit=6").json()["runs"]
    jobs = client.get(f"{API}/jobs").json()["jobs"]
    job = {"job_id": jobs[0]["id"]} if jobs else {}
    return [{**fixed, **job, "run_id": run["id"], "contact_id": run["contactId"]} for run in runs]


def _try(operation: Any, client: Client) -> None:
    @settings(
        max_examples=count(15, 300),
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
        deadline=None,
    )
    @given(case=operation.as_strategy(), known=st.sampled_from([{}, *_known(client)]))
    def answered(case: schemathesis.Case, known: dict[str, str]) -> None:
        # Left to chance, no id would be one that there is.
        for name in set(case.path_parameters) & set(known):
            case.path_parameters[name] = known[name]
        sent = case.as_transport_kwargs(base_url=f"http://{HOST}")
        sent.pop("cookies", None)
        headers = {name: str(value) for name, value in dict(sent.pop("headers", {})).items()}
        # What is to be sent is written out as requests would do it, by which it is meant.
        written = requests.Request(headers=headers, **sent).prepare()
        answer = client.request(
            str(written.method),
            str(written.url),
            headers=dict(written.headers),
            content=written.body or b"",
        )
        case.validate_response(answer, checks=CHECKS)

    answered()
