"""Who comes in over HTTP, and what stops everybody else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from dee_es import Engine
from dee_es.web.security.headers import HEADERS
from tests.support.web.application import (
    API,
    FORM,
    HOST,
    MEANT,
    SETTINGS,
    Client,
    bearer,
    said,
    served,
    sign_in,
    with_users,
)

MIB = 1024 * 1024


# --- hosts and origins ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8765", "127.0.0.1", "127.0.0.1:80", "localhost:8766",
     "127.0.0.1.evil.example:8765", "localhost:8765@evil.example", "", "127.0.0.1:8765 "],
)  # fmt: skip
@pytest.mark.parametrize("path", [f"{API}/runs", "/login", "/static/x", "/hooks/x", "/"])
def test_a_foreign_host_is_refused_before_anything_else(
    local: Client, host: str, path: str
) -> None:
    assert said(local.get(path, headers={"host": host})) == (421, "ForeignHost")


@pytest.mark.parametrize("host", ["127.0.0.1:8765", "LOCALHOST:8765", "[::1]:8765"])
def test_names_of_this_machine_are_its_own(local: Client, host: str) -> None:
    assert local.get(f"{API}/runs", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "null", "https://127.0.0.1:8765", "http://localhost:8765",
     "http://127.0.0.1:8766", "http://127.0.0.1", "file://"],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_foreign_origin_is_refused(local: Client, origin: str, method: str) -> None:
    answer = local.request(method, f"{API}/runs", headers={"origin": origin, **MEANT})
    assert said(answer) == (403, "ForeignOrigin")


def test_a_form_of_our_own_pages_has_no_origin_but_says_where_it_comes_from(
    local: Client,
) -> None:
    """The referrer policy makes browsers send `null`."""
    own = {"origin": "null", "sec-fetch-site": "same-origin"}
    answer = local.post(f"{API}/contacts/suppress", json={"contactId": "f1"}, headers=own)
    assert answer.status_code == 200
    cross = {"origin": "null", "sec-fetch-site": "cross-site"}
    answer = local.post(f"{API}/contacts/suppress", json={"contactId": "f2"}, headers=cross)
    assert said(answer) == (403, "ForeignOrigin")


FOLLOWED = {"sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
IMAGE = {"sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"}


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_page_of_another_site_asks_for_nothing_and_may_lead_to_a_page(
    local: Client, shared: Engine, site: str
) -> None:
    """What is asked of the audit trail is put on record, so that asking has to be meant."""
    before, asked = shared.metrics().position, f"{API}/audit?purpose=planted"
    for how in (IMAGE, FOLLOWED, {}, {**FOLLOWED, "sec-fetch-dest": "iframe"}):
        answer = local.get(asked, headers={"sec-fetch-site": site, **how})
        assert said(answer) == (403, "ForeignOrigin")
    foreign = {"accept": "text/html", "sec-fetch-site": site}
    assert local.get("/audit?search=1", headers={**foreign, **IMAGE}).status_code == 403
    page = local.get("/audit?search=1&text=x", headers={**foreign, **FOLLOWED})
    assert (page.status_code, "Set filters and search" in page.text) == (200, True)
    assert 'value="x"' in page.text
    assert local.get("/runs?status=failed", headers={**foreign, **FOLLOWED}).status_code == 200
    assert local.get("/hooks/unsubscribe", headers={**foreign, **IMAGE}).status_code == 404
    assert shared.metrics().position == before
    for own in ("same-origin", "none"):
        assert local.get(asked, headers={"sec-fetch-site": own, **IMAGE}).status_code == 200
    assert shared.metrics().position == before + 2


def test_two_hosts_are_none(local: Client) -> None:
    answer = local.get(f"{API}/runs", headers=[("host", HOST), ("host", "evil.example")])
    assert said(answer) == (421, "ForeignHost")


def test_other_names_are_those_that_were_allowed(shared: Engine, tmp_path: Path) -> None:
    settings, tokens = with_users(tmp_path, host="0.0.0.0", allowed_hosts=("dee.example",))
    with served(shared, settings, **bearer(tokens["viewer"])) as client:
        for host in ("dee.example", "dee.example:8765", "DEE.example"):
            assert client.get(f"{API}/runs", headers={"host": host}).status_code == 200
        for host in (HOST, "dee.example:443", "x.dee.example"):
            answer = client.get(f"{API}/runs", headers={"host": host})
            assert said(answer) == (421, "ForeignHost")
        own = {"host": "dee.example", "origin": "https://dee.example"}
        assert client.get(f"{API}/runs", headers=own).status_code == 200


# --- CSRF -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers, status",
    [
        ({}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "none"}, 403),
        ({"x-csrf-token": "guess"}, 403),
        ({"sec-fetch-site": "same-origin"}, 200),
        ({"origin": f"http://{HOST}"}, 200),
        (MEANT, 200),
    ],
)
def test_without_users_a_change_has_to_be_meant(
    local: Client, headers: dict[str, str], status: int
) -> None:
    answer = local.post(f"{API}/contacts/suppress", json={"contactId": "x1"}, headers=headers)
    assert answer.status_code == status
    if status == 403:
        assert said(answer) == (403, "CsrfRefused")


def test_a_session_needs_its_token_for_every_change(
    guarded: tuple[Client, dict[str, str]],
) -> None:
    client, _ = guarded
    assert sign_in(client, "operator").status_code == 303
    token = client.get(f"{API}/session").json()["csrfToken"]
    path, body = f"{API}/contacts/suppress", {"contactId": "x2"}
    for headers in (
        {},
        MEANT,
        {"origin": f"http://{HOST}", "sec-fetch-site": "same-origin"},
        {"x-csrf-token": ""},
        {"x-csrf-token": token[:-1]},
    ):
        assert said(client.post(path, json=body, headers=headers)) == (403, "CsrfRefused")
    assert client.post(path, json=body, headers={"x-csrf-token": token}).status_code == 200
    # A form has the token as a field.
    assert said(client.post("/logout", data={}, headers=FORM)) == (403, "CsrfRefused")
    wrong = client.post("/logout", data={"csrf_token": "x"}, headers=FORM)
    assert said(wrong) == (403, "CsrfRefused")
    left = client.post("/logout", data={"csrf_token": token}, headers=FORM)
    assert (left.status_code, left.headers["location"]) == (303, "/login")
    assert said(client.get(f"{API}/runs")) == (401, "NotSignedIn")


# --- limits ---------------------------------------------------------------------------------------


def pieces(size: int, taken: list[int]) -> AsyncIterator[bytes]:
    """A body in pieces of a MiB that counts how many of them were asked for."""

    async def sent() -> AsyncIterator[bytes]:
        for _ in range(size // MIB):
            taken[0] += 1
            yield b"x" * MIB

    return sent()


@pytest.mark.parametrize(
    "kind, most", [("application/json", 2), ("text/csv", 51), ("text/plain", 2)]
)
def test_a_body_of_60_mib_is_refused_and_not_read(local: Client, kind: str, most: int) -> None:
    path = f"{API}/runs/bulk-execute?plan=outreach"
    headers = {"content-type": kind, **MEANT}
    taken = [0]
    answer = local.post(path, content=pieces(60 * MIB, taken), headers=headers)
    assert said(answer) == (413, "BodyTooLarge")
    assert taken[0] <= most
    taken = [0]
    told = {**headers, "content-length": str(60 * MIB)}
    answer = local.post(path, content=pieces(60 * MIB, taken), headers=told)
    assert said(answer) == (413, "BodyTooLarge")
    assert taken[0] <= 1


def test_who_is_not_signed_in_may_bring_little(tmp_path: Path, engine: Engine) -> None:
    settings, tokens = with_users(tmp_path)
    form = {"content-type": "application/x-www-form-urlencoded", **MEANT}
    with served(engine, settings) as client:
        for length, status in ((64 * 1024, 403), (64 * 1024 + 1, 413)):
            body = b"name=a&password=".ljust(length, b"x")
            assert client.post("/login", content=body, headers=form).status_code == status
        body = b"name=a&password=".ljust(MIB, b"x")
        known = {**form, **bearer(tokens["viewer"])}
        assert client.post("/login", content=body, headers=known).status_code == 403


def test_csv_is_streamed_only_where_files_are_taken(local: Client) -> None:
    headers = {"content-type": "text/csv", **MEANT}
    answer = local.post(f"{API}/runs", content=b"x" * (2 * MIB), headers=headers)
    assert said(answer) == (413, "BodyTooLarge")


@pytest.mark.parametrize("length", ["-1", "1e3", "9" * 100, "x"])
def test_a_length_that_is_none_is_refused(local: Client, length: str) -> None:
    headers = {"content-length": length, "content-type": "application/json", **MEANT}
    answer = local.post(f"{API}/runs", content=b"{}", headers=headers)
    assert said(answer) == (413, "BodyTooLarge")


@pytest.mark.parametrize("path", ["/runs", "/runs/bulk-execute", "/plans", "/channel-events"])
@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_json_10000_deep_is_refused_before_it_is_parsed(
    local: Client, path: str, opening: bytes
) -> None:
    headers = {"content-type": "application/json", **MEANT}
    answer = local.post(f"{API}{path}", content=opening * 10_000, headers=headers)
    assert said(answer) == (400, "JsonTooDeep")


@pytest.mark.parametrize(
    "body",
    [b"\xff\xfe{}", b"{" + b'"a":1,' * 3, b"1" * 5_000, b'{"plan":NaN}', b"\x00", b'"\\ud800"',
     b'{"plan":"outreach","contact":{"id":"c","attributes":{"a":"\\ud800"}}}',
     b'{"plan":"outreach","contact":{"id":"c","attributes":{"a":"\\u0000"}}}',
     b'{"plan":"outreach","contact":{"id":"c","attributes":{"a":1e999}}}',
     b'{"plan":"outreach","contact":{"id":"c","attributes":{"a":' + b"9" * 5000 + b"}}}"],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/runs", "/runs/bulk-execute"])
def test_bodies_that_are_no_json_are_the_callers_fault(
    local: Client, body: bytes, path: str
) -> None:
    headers = {"content-type": "application/json", **MEANT}
    answer = local.post(f"{API}{path}", content=body, headers=headers)
    assert said(answer)[0] in (400, 422)


def test_changes_come_at_a_bounded_rate(shared: Engine, tmp_path: Path) -> None:
    settings = replace(SETTINGS, unsafe_burst=5, unsafe_per_minute=6)
    with served(shared, settings, **MEANT) as client:
        path = f"{API}/contacts/suppress"
        codes = [client.post(path, json={"contactId": "r"}).status_code for _ in range(7)]
        assert codes == [200] * 5 + [429] * 2
        answer = client.post(path, json={"contactId": "r"})
        assert said(answer) == (429, "TooManyRequests")
        assert 1 <= int(answer.headers["retry-after"]) <= 11
        assert client.get(f"{API}/runs").status_code == 200


# --- the rest -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    ["/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2f..%2fconfig.py",
     "/static//etc/passwd", "/static/%2fetc%2fpasswd", "/../../etc/passwd",
     "/static/....//app.py", "/static/..%5capp.py", "/static/%00", f"{API}/runs/..%2f..%2fhealth",
     f"{API}/runs/%2e%2e%2fhealth", f"{API}/templates/..%2f..%2f..%2fetc%2fpasswd"],
)  # fmt: skip
def test_paths_lead_nowhere_else(local: Client, path: str) -> None:
    answer = local.get(path)
    assert answer.status_code in (404, 422), answer.text
    assert "root:" not in answer.text
    assert "import" not in answer.text


def test_every_answer_has_the_headers(guarded: tuple[Client, dict[str, str]]) -> None:
    client, tokens = guarded
    answers = [
        client.get(f"{API}/runs", headers=bearer(tokens["viewer"])),
        client.get(f"{API}/runs"),
        client.get("/login"),
        client.get("/nothing", headers={"host": "evil"}),
        client.post(f"{API}/runs", content=b"x" * (2 * MIB), headers=bearer(tokens["admin"])),
        sign_in(client, "viewer"),
    ]
    for answer in answers:
        for name, value in HEADERS.items():
            assert answer.headers[name] == value
        assert answer.headers["cache-control"] == "no-store"
    policy = HEADERS["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_no_answer_lets_other_sites_read_it(local: Client) -> None:
    headers = {
        "origin": f"http://{HOST}",
        "access-control-request-method": "POST",
        "access-control-request-headers": "x-dee-request",
    }
    answer = local.request("OPTIONS", f"{API}/runs", headers=headers)
    assert answer.status_code == 405
    assert not [name for name in answer.headers if name.startswith("access-control")]
