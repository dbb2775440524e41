"""What HTTP itself asks of every address: methods, media types, encodings, what is not there."""

from __future__ import annotations

import httpx
import pytest

from dee_es import Engine
from dee_es.client import DeeClient
from dee_es.errors import DefinitionNotFound, InvalidInput
from tests.support.engines import open_engine, publish_basics
from tests.support.web.application import API, Client, refused, start
from tests.support.web.listening import listening

LATIN = '{"id": "x", "text": "Grüße"}'.encode("latin-1")


@pytest.mark.parametrize(
    "path", ["/runs", "/health", "/runs/{run}", "/openapi.json", "/runs/none", "/nothing"]
)
def test_head_is_answered_as_get_without_a_body(client: Client, path: str) -> None:
    at = API + path.format(run=start(client)["id"])
    whole, head = client.get(at), client.request("HEAD", at)
    assert (head.status_code, head.content) == (whole.status_code, b"")
    for name in ("content-type", "content-length", "cache-control"):
        assert head.headers.get(name) == whole.headers.get(name)


def test_head_comes_over_a_socket_as_well(engine: Engine) -> None:
    with listening(engine) as url, httpx.Client(base_url=url) as client:
        for _ in range(3):
            head = client.head(f"{API}/health")
            assert (head.status_code, head.content) == (200, b"")
        for path in ("/", "/runs", "/runs/none"):
            asked = {"accept": "text/html"}
            head, whole = client.head(path, headers=asked), client.get(path, headers=asked)
            assert (head.status_code, head.content) == (whole.status_code, b"")


@pytest.mark.parametrize(
    "path, methods",
    [
        (f"{API}/runs", "GET, HEAD, POST"),
        (f"{API}/jobs/job_1", "DELETE, GET, HEAD"),
        (f"{API}/plans", "GET, HEAD, POST"),
        (f"{API}/runs/run_1/pause", "POST"),
        ("/runs", "GET, HEAD"),
        ("/static/nothing.css", "GET, HEAD"),
        ("/hooks/unsubscribe/x", "GET, POST"),
        ("/hooks/email", "POST"),
    ],
)
def test_all_methods_of_an_address_are_named(client: Client, path: str, methods: str) -> None:
    answer = client.request("PUT", path)
    refused(answer, 405, "MethodNotAllowed")
    assert answer.headers["allow"] == methods


def test_json_has_to_be_called_json(client: Client) -> None:
    body = b'{"id": "greeting", "text": "Hello"}'
    for kind in ("text/plain", "application/octet-stream", "application/x-json", ""):
        headers = {"content-type": kind} if kind else {}
        answer = client.post(f"{API}/templates", content=body, headers=headers)
        refused(answer, 415, "UnsupportedMediaType")
    for kind in ("application/json; charset=utf-8", "application/merge-patch+json"):
        answer = client.post(f"{API}/templates", content=body, headers={"content-type": kind})
        assert answer.status_code == 200
    run = start(client)["id"]
    headers = {"content-type": "text/plain"}
    assert client.post(f"{API}/runs/{run}/pause", headers=headers).status_code == 200


def test_what_was_never_published_is_not_there(client: Client) -> None:
    for path in (
        "/templates/intro?version=3",
        "/definitions/policy/default",
        "/definitions/template/intro?version=9",
        "/definitions/sender/nosuch",
    ):
        answer = client.get(API + path)
        refused(answer, 404, "DefinitionNotFound", path.split("/")[-2].rstrip("s"))
        assert answer.json()["detail"].endswith("has not been published")
    render = client.post(f"{API}/templates/nosuch/render", json={"attributes": {}})
    refused(render, 404, "DefinitionNotFound", "template")


def test_python_callers_still_catch_that_as_a_value_that_was_refused() -> None:
    with open_engine(":memory:") as engine:
        publish_basics(engine)
        with listening(engine) as url, DeeClient(url) as client:
            for each in (engine, client):
                with pytest.raises(InvalidInput) as caught:
                    each.get_definition("template", "nosuch")
                assert type(caught.value) is DefinitionNotFound
                assert caught.value.field == "template"
                assert caught.value.problem == "template 'nosuch' has not been published"


@pytest.mark.parametrize("path", ["/templates", "/runs/bulk-execute"])
def test_a_body_that_is_not_utf_8_is_told_so_and_where(client: Client, path: str) -> None:
    answer = client.post(API + path, content=LATIN, headers={"content-type": "application/json"})
    refused(answer, 400, "BadRequest")
    assert answer.json()["detail"] == (
        "the body is not UTF-8: it cannot be read from byte 23 on, counted from 0"
    )


def test_what_is_said_beside_a_file_is_described(client: Client) -> None:
    paths = client.get(f"{API}/openapi.json").json()["paths"]
    given = paths[f"{API}/runs/bulk-execute"]["post"]["parameters"]
    assert {each["name"] for each in given if each["in"] == "query"} == {
        "plan", "batchSize", "dedupe", "dryRun", "numbers", "booleans", "variables",
    }  # fmt: skip
    assert [each["name"] for each in given if each["in"] == "header"] == ["Idempotency-Key"]
