"""Files of contacts in forms: over the API, and on the pages with a look at them first."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dee_es import Engine, create_plan, steps
from dee_es.web.api.intake import CsvOptions
from dee_es.web.held import FOR_S, MOST, HeldFile, HeldFiles
from tests.support.waiting import eventually
from tests.support.web.application import (
    API,
    MEANT,
    SETTINGS,
    Client,
    bearer,
    ended,
    refused,
    served,
    with_users,
)
from tests.support.web.site import HTML, Site, job_of, signed_in
from tests.support.web.world import EVIL, Page

BULK = f"{API}/runs/bulk-execute"


def people(prefix: str) -> bytes:
    """Sixty of them."""
    rows = [f"{prefix}{n},{prefix}{n}@example.com,Ada {n}\n" for n in range(60)]
    return "".join(["id,email,First Name\n", *rows]).encode()


CSV = people("c")


def form(client: Client, content: bytes = CSV, key: str | None = None, **fields: str) -> Any:
    headers = {} if key is None else {"Idempotency-Key": key}
    file = {"contacts": ("people.csv", content, "text/csv")}
    return client.post(BULK, data={"plan": "outreach", **fields}, files=file, headers=headers)


# --- the API --------------------------------------------------------------------------------------


def test_contacts_of_a_file_in_a_form_are_enrolled(client: Client, engine: Engine) -> None:
    rehearsed = ended(client, form(client, dryRun="true"))
    assert rehearsed["result"]["created"] == 60
    assert engine.list_runs().total == 0
    given = {"batchSize": "7", "variables": json.dumps({"a": 1}), "dedupe": "id"}
    job = ended(client, form(client, **given))
    assert (job["state"], job["result"]["created"]) == ("done", 60)
    run = engine.list_runs(contact_id="c7").runs[0]
    assert run.variables == {"a": 1}
    person = engine.run_at(run.id, version=1).context.contact
    assert person["attributes"] == {"firstName": "Ada 7"}


def test_the_same_form_under_one_key_is_one_call_however_it_is_written(client: Client) -> None:
    first = form(client, key="import-1")
    # Every writer of a form makes up marks of its own.
    again = form(client, key="import-1")
    assert first.request.headers["content-type"] != again.request.headers["content-type"]
    assert first.headers["location"] == again.headers["location"]
    for other in (form(client, CSV + b"x,y@example.com,Z\n", "import-1"),
                  form(client, key="import-1", dedupe="id")):  # fmt: skip
        refused(other, 422, "IdempotencyKeyReused")


def test_columns_are_not_named_in_two_fields(client: Client) -> None:
    query = [("plan", "outreach"), ("numbers", "a"), ("numbers", "b")]
    sent = client.post(BULK, params=query, content=CSV, headers={"content-type": "text/csv"})
    refused(sent, 422, "InvalidInput", "numbers")


def test_a_repeated_call_is_known_by_what_it_was_before_columns_had_kinds() -> None:
    given = {"plan": "outreach", "batchSize": 7, "variables": {"a": 1}}
    said = '{"plan":"outreach","batch_size":7,"dedupe":"address","dry_run":false,%s"variables":'
    said += '{"a":1}}'
    assert CsvOptions(**given).told() == said % ""
    assert CsvOptions(numbers="b", **given).told() == said % '"numbers":["b"],'


def test_columns_of_numbers_and_of_true_and_false_are_named(client: Client, engine: Engine) -> None:
    content = b"id,email,Staff,vip,city\nn1,n1@example.com,300,yes,1\nn2,n2@example.com,x,,\n"
    job = ended(client, form(client, content, numbers="staff", booleans=" VIP ,"))
    assert (job["result"]["created"], job["result"]["errors"]) == (1, 1)
    run = engine.list_runs(contact_id="n1").runs[0]
    person = engine.run_at(run.id, version=1).context.contact
    assert person["attributes"] == {"staff": 300, "vip": True, "city": "1"}
    told = ended(client, form(client, content, numbers="none"))
    assert (told["state"], 'no column "none"' in str(told)) == ("failed", True)


@pytest.mark.parametrize(
    "fields, field",
    [
        ({"numbers": "a, b", "booleans": "b"}, "booleans"),
        ({"what": "1"}, "what"),
        ({"batchSize": "0"}, "batchSize"),
        ({"variables": "{"}, "variables"),
        ({"plan": "a b"}, "plan"),
    ],
)
def test_a_bad_field_of_a_form_is_named(client: Client, fields: Any, field: str) -> None:
    refused(form(client, **fields), 422, "InvalidInput", field)
    assert client.get(f"{API}/jobs").json()["jobs"] == []


def part(name: str, value: bytes, more: bytes = b"") -> bytes:
    head = f'--x\r\nContent-Disposition: form-data; name="{name}"'.encode()
    return head + more + b"\r\n\r\n" + value + b"\r\n"


PLAN = part("plan", b"outreach")
FILE = part("contacts", CSV, b'; filename="people.csv"\r\nContent-Type: text/csv')


@pytest.mark.parametrize(
    "body, kind",
    [
        (PLAN + FILE, "cut short"),
        (PLAN + FILE[:200], "cut short"),
        (b"", "cut short"),
        (PLAN + b"--x--\r\n", "no file"),
        (PLAN + FILE + FILE + b"--x--\r\n", "two files"),
        (PLAN + PLAN + FILE + b"--x--\r\n", "twice"),
        (b"".join(part(f"f{n}", b"") for n in range(17)) + b"--x--\r\n", "too many"),
        (part("plan", b"a" * 70_000) + FILE + b"--x--\r\n", "longer than"),
        (part("plan", b"\xff\xfe") + FILE + b"--x--\r\n", "UTF-8"),
        (b"--x\r\nContent-Type: text/plain\r\n\r\nhello\r\n--x--\r\n", "no name"),
        (b"--x\r\n" + b"X" * 9_000 + b": y\r\n\r\n", "as it says"),
        (b"id,email\n", "as it says"),
    ],
)
def test_a_form_that_cannot_be_read_does_nothing(client: Client, body: bytes, kind: str) -> None:
    answer = client.post(
        BULK, content=body, headers={"content-type": "multipart/form-data; boundary=x"}
    )
    assert kind in refused(answer, 400, "BadRequest")["detail"]
    assert client.get(f"{API}/jobs").json()["jobs"] == []
    assert ended(client, form(client))["state"] == "done", "no place is taken up by what failed"


def test_a_form_without_a_boundary_is_refused(client: Client) -> None:
    for kind in ("multipart/form-data", f"multipart/form-data; boundary={'b' * 71}"):
        answer = client.post(BULK, content=PLAN, headers={"content-type": kind})
        assert "boundary" in refused(answer, 400, "BadRequest")["detail"]


def test_a_form_may_be_as_long_as_a_file_and_no_longer(engine: Engine) -> None:
    settings = replace(SETTINGS, max_body=10_000, max_upload=40_000)
    with served(engine, settings, **MEANT) as client:
        rows = b"".join(b"d%d,d%d@example.com,\n" % (n, n) for n in range(1_000))
        assert form(client, CSV + rows[:30_000].rpartition(b"\n")[0]).status_code == 202
        refused(form(client, CSV + rows * 3), 413, "BodyTooLarge")


def test_a_session_needs_its_token_as_a_header_or_as_the_first_field(
    engine: Engine, tmp_path: Path
) -> None:
    settings, tokens = with_users(tmp_path)
    file = {"contacts": ("people.csv", CSV, "text/csv")}
    with served(engine, settings) as client:
        by_token = client.post(
            BULK, data={"plan": "outreach"}, files=file, headers=bearer(tokens["operator"])
        )
        assert by_token.status_code == 202, "no browser sends a token by itself"
        token = signed_in(client, "operator")
        data = {"csrf_token": token, "plan": "outreach"}
        assert client.post("/enroll", data=data, files=file, headers=HTML).status_code == 303
        late = {"plan": "outreach", "csrf_token": token}
        for given in (late, {**data, "csrf_token": token[:-1]}, {"plan": "outreach"}):
            answer = client.post("/enroll", data=given, files=file, headers=HTML)
            assert (answer.status_code, "open for too long" in answer.text) == (403, True)


# --- the pages ------------------------------------------------------------------------------------


def send(acting: Site, content: bytes, status: int = 303, **fields: str) -> Any:
    answer = acting.client.post(
        "/enroll",
        data={"plan": "outreach", "dedupe": "address", **fields},
        files={"contacts": ("people.csv", content, "text/csv")},
        headers={**HTML, **MEANT},
    )
    assert answer.status_code == status, answer.text[:2000]
    return answer


def test_a_file_is_looked_at_and_then_enrolled(acting: Site) -> None:
    engine = acting.world.engine
    before = engine.list_runs().total
    assert 'enctype="multipart/form-data"' in acting.page("/enroll").text
    quoted = EVIL.replace('"', '""')
    more = f'new60,e1@example.com,"{quoted}"\nx,not an address,\nc0,c0@example.com,\n'
    content = people("new") + more.encode()
    place = send(acting, content).headers["location"]
    assert place.startswith("/enroll/")
    eventually(lambda: "What came of it</h2>" in acting.page(place).text)
    text = acting.page(place).text
    assert "Ada 7" in text
    assert "not an address" not in text, "what is refused is told without its values"
    assert '<dt>created</dt><dd class="num">62</dd>' in text
    assert engine.list_runs().total == before
    job = job_of(acting, acting.send(place))
    assert (job["kind"], job["state"]) == ("enroll", "done")
    assert job["result"]["created"] == 62
    assert engine.list_runs().total == before + 62
    # The same form sent twice, as by a nervous finger, is one call.
    key = "k" * 20
    first = acting.send(place, key=key).headers["location"]
    assert acting.send(place, key=key).headers["location"] == first


def test_what_a_plan_asks_of_text_in_vain_is_said_before_anything_is_done(acting: Site) -> None:
    arms = [{"when": "contact.attributes.staff > 9", "goto": "a"}, {"when": "default", "goto": "b"}]
    made = [steps.branch("size", arms), steps.end("a", "a"), steps.end("b", "b")]
    acting.world.engine.publish_plan(create_plan(id="sizes", name="sizes", steps=made))
    content = b"id,email,staff\nv1,v1@example.com,12\n"
    said = "<code>contact.attributes.staff &gt; 9</code> in step &#39;size&#39; (a number)"
    for numbers, shown in (("", True), ("Staff", False)):
        place = send(acting, content, plan="sizes", numbers=numbers).headers["location"]
        page = acting.page(place).text
        assert (said in page, "staff: 12" in page) == (shown, True)
    send(acting, content, 422, plan="sizes", numbers="nowhere")


def test_what_separates_the_columns_is_shown(acting: Site) -> None:
    place = send(acting, b"id;email;a, b, c\nv1;v1@example.com;12\n").headers["location"]
    assert "<strong>semicolons</strong> separate the columns" in acting.page(place).text
    answer = send(acting, b"id|email\nv1|v1@example.com\n", 422)
    assert "has | between its columns" in answer.text


def test_what_is_no_file_of_contacts_is_refused_at_once(acting: Site) -> None:
    for content in (b"", b"name\nJane\n", b"\xff\xfe\0a"):
        assert "Nothing" not in send(acting, content, 422).text
    send(acting, CSV, 422, plan="a b")
    send(acting, CSV, 404, plan="nowhere")
    answer = acting.client.post("/enroll", data={"plan": "outreach"}, headers={**HTML, **MEANT})
    assert answer.status_code == 415
    assert Page(answer.text).faults == []
    acting.page(f"/enroll/{'x' * 24}", 404)


def test_no_file_is_held_any_more_once_somebody_was_erased(acting: Site) -> None:
    """Any of them may be about the same person, under whatever id."""
    erasures = {
        "c0": lambda: acting.send("/contacts/c0/erase", 200, confirm="c0", reason="asked to"),
        "c1": lambda: acting.client.post(
            f"{API}/contacts/c1/erase", json={"reason": "asked to"}, headers=MEANT
        ),
    }
    for who, erase in erasures.items():
        content = f"id,email\n{who},somebody@example.net\n".encode()
        place = send(acting, content).headers["location"]
        assert "somebody@example.net" in acting.page(place).text
        assert erase().status_code == 200
        acting.page(place, 404)
        acting.send(place, 404)
    send(acting, CSV)


def test_files_are_held_for_their_owner_for_a_while() -> None:
    now = 0.0
    files = HeldFiles(lambda: now)
    held = [HeldFile(Closing(), None, "ada", "job_1", ()) for _ in range(MOST + 1)]  # type: ignore[arg-type]
    for each in held:
        files.hold(each)
    assert held[0].upload.closed, "the oldest made room"  # type: ignore[attr-defined]
    assert files.get(held[1].id, "ada") is held[1]
    with pytest.raises(Exception, match="not here"):
        files.get(held[1].id, "eve")
    now = FOR_S + 1
    with pytest.raises(Exception, match="not here"):
        files.get(held[1].id, "ada")
    files.hold(HeldFile(Closing(), None, "ada", "job_2", ()))  # type: ignore[arg-type]
    assert all(each.upload.closed for each in held)  # type: ignore[attr-defined]
    files.let_go()


class Closing:
    """Tells whether it was closed."""

    closed = False

    def close(self) -> None:
        """Note it."""
        self.closed = True
