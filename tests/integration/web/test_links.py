"""Links in messages: unsubscribing, images and links on to pages, each by its signature alone."""

from __future__ import annotations

import base64
import email
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from dee_es import Engine, create_plan, steps
from dee_es.adapters.channels.outbox import OutboxChannel
from dee_es.bootstrap import links_of
from dee_es.core.runs import rules
from dee_es.engine import definitions
from dee_es.engine.links import Link, Links
from dee_es.errors import StoreUnavailable
from tests.support.evidence.overwriting import overwrite
from tests.support.web.application import Client
from tests.support.web.hooks import (
    LINK_SECRET,
    ONE_CLICK,
    PUBLIC,
    config,
    enroll,
    hooked,
    opened,
    received,
)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with opened(tmp_path) as engine:
        yield engine


@pytest.fixture
def client(engine: Engine) -> Iterator[Client]:
    with hooked(engine) as client:
        yield client


# --- unsubscribing --------------------------------------------------------------------------------


def header_of_the_only_mail(folder: Path) -> email.message.Message:
    (file,) = (folder / "outbox").rglob("*.eml")
    return email.message_from_bytes(file.read_bytes())


def unsubscribe_url(folder: Path) -> str:
    found = re.fullmatch(r"<(.*)>", header_of_the_only_mail(folder)["List-Unsubscribe"])
    assert found is not None
    assert found[1].startswith(PUBLIC)
    return found[1].removeprefix(PUBLIC)


def test_the_header_of_a_message_unsubscribes_its_contact_at_once(
    engine: Engine, client: Client, tmp_path: Path
) -> None:
    run_id = enroll(engine)
    path = unsubscribe_url(tmp_path)
    answer = client.post(path, data=ONE_CLICK)
    assert answer.status_code == 200, answer.text
    assert engine.get_run(run_id).status.ended
    assert engine.contact_at("c1").suppressions == ("global",)
    with pytest.raises(Exception, match="suppressed"):
        enroll(engine, "c1")
    (told,) = received(engine)
    assert (told["type"], told["run_id"], told["step_id"]) == (
        "email.unsubscribed",
        run_id,
        "hello",
    )
    for _ in range(3):
        assert client.post(path, data=ONE_CLICK).status_code == 200
    assert len(received(engine)) == 1
    assert engine.replay(run_id).identical


def test_the_link_is_outside_of_what_was_rendered(engine: Engine, tmp_path: Path) -> None:
    """Another secret, or none, gives the same log: only the header differs."""
    run_id = enroll(engine)
    logged = json.dumps([entry.data for entry in engine.get_logs(run_id)], default=str)
    assert "/hooks/" not in logged
    assert engine.replay(run_id).identical
    (tmp_path / "plain").mkdir()
    other = config(tmp_path / "plain")
    other = replace(other, public_url=None, link_secret=None)
    with Engine(other, channels={"email": OutboxChannel(other.outbox)}) as plain:
        plain.publish_template("intro", text="Hello {{contact.firstName}}")
        plain.publish_sender(address="team@example.com", unsubscribe_url="https://example.com/u")
        plain.publish_plan(engine.get_plan("welcome"))
        enroll(plain)
    assert (
        header_of_the_only_mail(tmp_path / "plain")["List-Unsubscribe"] == "<https://example.com/u>"
    )


def test_the_header_says_one_click_under_https(tmp_path: Path) -> None:
    chosen = replace(config(tmp_path), public_url="https://mail.example.com")
    with Engine(chosen, channels={"email": OutboxChannel(chosen.outbox)}) as engine:
        engine.publish_template("intro", text="Hello")
        engine.publish_sender(address="team@example.com")
        engine.publish_plan(
            create_plan(
                id="welcome",
                name="W",
                steps=[steps.send_email("hello", template_id="intro", subject="Hello")],
            )
        )
        enroll(engine)
    mail = header_of_the_only_mail(tmp_path)
    assert mail["List-Unsubscribe"].startswith("<https://mail.example.com/hooks/unsubscribe/")
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert "example.com" not in base64.urlsafe_b64decode(
        mail["List-Unsubscribe"].split("/")[-1].partition(".")[0] + "=="
    ).decode("utf-8", "replace"), "no address in the token"


def test_a_get_asks_and_never_unsubscribes(engine: Engine, client: Client, tmp_path: Path) -> None:
    run_id = enroll(engine)
    path = unsubscribe_url(tmp_path)
    before = engine.metrics().position
    for method in ("GET", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH"):
        for query in ("", "?List-Unsubscribe=One-Click", "?_method=post"):
            answer = client.request(method, path + query)
            assert answer.status_code == (200 if method == "GET" else 405)
    assert engine.metrics().position == before
    assert engine.get_run(run_id).status == "waiting"
    page = client.get(path)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["referrer-policy"] == "no-referrer"
    assert page.headers["cache-control"] == "no-store"
    assert "<script" not in page.text
    # The button sends what the form holds to the page's own address, as a browser would.
    assert 'method="post"' in page.text
    assert "action=" not in page.text
    fields = dict(re.findall(r'name="([^"]+)" value="([^"]+)"', page.text)[-1:])
    done = client.post(path, data=fields, headers={"Origin": "null"})
    assert done.status_code == 200
    assert engine.get_run(run_id).status.ended


@pytest.mark.parametrize(
    "sent, status",
    [
        ({"data": ONE_CLICK}, 200),
        ({"files": {"List-Unsubscribe": (None, "One-Click")}}, 200),
        ({"data": {}}, 415),
        ({"json": ONE_CLICK}, 415),
        ({"content": b"List-Unsubscribe=One-Click"}, 415),
        ({"data": {"List-Unsubscribe": "Two-Clicks"}}, 400),
        ({"data": {"list-unsubscribe": "One-Click"}}, 400),
        ({"data": {**ONE_CLICK, "x": "y"}}, 400),
        ({"data": {"List-Unsubscribe": ["One-Click", "One-Click"]}}, 400),
        ({"files": {"List-Unsubscribe": ("a.txt", "One-Click")}}, 400),
        ({"data": {"a": "x" * 5_000}}, 413),
    ],
)
def test_the_form_is_what_the_standard_says(
    engine: Engine, client: Client, sent: dict[str, Any], status: int
) -> None:
    token = Links(PUBLIC, LINK_SECRET).seal("unsubscribe", Link("c1"))
    answer = client.post(f"/hooks/unsubscribe/{token}", **sent)
    assert answer.status_code == status, answer.text
    assert len(received(engine)) == (status == 200)


def test_the_address_that_is_nobody_s_own_says_so(client: Client) -> None:
    page = client.get("/hooks/unsubscribe")
    assert page.status_code == 404
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "not complete" in page.text
    assert "<form" not in page.text
    assert client.post("/hooks/unsubscribe", data=ONE_CLICK).status_code == 405


def test_links_of_others_unsubscribe_nobody(engine: Engine, client: Client) -> None:
    enroll(engine)
    before = engine.metrics().position
    link = Link("c1")
    ours, theirs = Links(PUBLIC, LINK_SECRET), Links(PUBLIC, "x" * 32)
    tokens = [
        theirs.seal("unsubscribe", link),
        ours.seal("open", link),
        ours.seal("click", replace(link, target="https://example.com/")),
        ours.seal("unsubscribe", link)[:-1],
        ours.seal("unsubscribe", link) + "A",
        "x",
        "<script>",
        "%0d%0aSet-Cookie:%20a=b",
        "%00",
    ]
    for token in tokens:
        for answer in (
            client.get(f"/hooks/unsubscribe/{token}"),
            client.post(f"/hooks/unsubscribe/{token}", data=ONE_CLICK),
        ):
            assert answer.status_code == 404
            assert "set-cookie" not in answer.headers
            assert "<script" not in answer.text
    assert engine.metrics().position == before


def test_who_was_taken_off_the_list_is_heard_again(engine: Engine, client: Client) -> None:
    path = f"/hooks/unsubscribe/{Links(PUBLIC, LINK_SECRET).seal('unsubscribe', Link('c1'))}"
    client.post(path, data=ONE_CLICK)
    assert engine.unsuppress("c1", reason="asked to be written to again")
    assert engine.contact_at("c1").suppressions == ()
    assert client.post(path, data=ONE_CLICK).status_code == 200
    assert engine.contact_at("c1").suppressions == ("global",)
    client.post(path, data=ONE_CLICK)
    assert len(received(engine)) == 2
    # Each time anew, and whatever else the contact is on a list for.
    engine.unsuppress("c1", reason="asked to be written to again")
    engine.suppress("c1", level="channel", channel="voice", reason="no calls")
    client.post(path, data=ONE_CLICK)
    assert engine.contact_at("c1").suppressions == ("channel voice", "global")
    assert len(received(engine)) == 3
    # Whoever complained since then is as far off the list as can be.
    engine.unsuppress("c1", reason="asked to be written to again")
    engine.ingest_event("email.complained", "c1")
    assert "regulatory" in engine.contact_at("c1").suppressions
    assert client.post(path, data=ONE_CLICK).status_code == 200
    assert [each["type"] for each in received(engine)][3:] == ["email.complained"]


def test_who_was_taken_off_the_list_is_heard_again_although_a_run_was_changed(
    tmp_path: Path,
) -> None:
    file = f"sqlite:///{tmp_path / 'dee.db'}"
    with opened(tmp_path, file) as engine, hooked(engine) as client:
        run_id = enroll(engine)
        path = unsubscribe_url(tmp_path)
        client.post(path, data=ONE_CLICK)
        engine.unsuppress("c1", reason="asked to be written to again")
        (first, *_) = engine._parts.store.read_stream(run_id)
        overwrite(engine, file, run_id, 1, first.state[:-1] + bytes([first.state[-1] ^ 1]))
        answer = client.post(path, data=ONE_CLICK)
        assert answer.status_code == 200, answer.text
        overwrite(engine, file, run_id, 1, first.state)
    with opened(tmp_path, file) as engine:
        assert engine.contact_at("c1").suppressions == ("global",)
        assert len(received(engine)) == 2


def test_a_link_with_the_run_of_another_unsubscribes_its_contact_alone(
    engine: Engine, client: Client
) -> None:
    """As after a run was carried elsewhere: the contact is what counts."""
    run_id = enroll(engine)
    links = Links(PUBLIC, LINK_SECRET)
    mixed = Link("c9", run_id, "hello")
    for _ in range(2):
        answer = client.post(
            f"/hooks/unsubscribe/{links.seal('unsubscribe', mixed)}", data=ONE_CLICK
        )
        assert answer.status_code == 200
    assert client.get(f"/hooks/open/{links.seal('open', mixed)}.gif").status_code == 200
    assert engine.contact_at("c9").suppressions == ("global",)
    assert engine.contact_at("c1").suppressions == ()
    assert engine.get_run(run_id).status == "waiting"
    (told,) = received(engine, "c9")
    assert (told["type"], told["step_id"]) == ("email.unsubscribed", "hello")
    assert "run_id" not in told


def test_a_link_is_heard_although_its_run_is_of_newer_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often, and whatever else of the contact can be read."""
    file = f"sqlite:///{tmp_path / 'dee.db'}"
    with monkeypatch.context() as newer, opened(tmp_path, file) as engine:
        newer.setattr(definitions, "RULES", rules.RULES + 1)
        newer.setattr(rules, "RULES", rules.RULES + 1)
        run_id = enroll(engine)
    path = unsubscribe_url(tmp_path)
    with opened(tmp_path, file) as engine, hooked(engine) as client:
        for _ in range(2):
            answer = client.post(path, data=ONE_CLICK)
            assert answer.status_code == 200, answer.text
        told = received(engine)
        assert {each["type"] for each in told} == {"email.unsubscribed"}
        assert all("run_id" not in each for each in told)
    monkeypatch.setattr(rules, "RULES", rules.RULES + 1)
    with opened(tmp_path, file) as engine:
        assert engine.contact_at("c1").suppressions == ("global",)
        assert engine.get_run(run_id).status == "waiting"


def test_a_link_outlives_its_run_and_its_contact(engine: Engine, client: Client) -> None:
    gone = Links(PUBLIC, LINK_SECRET).seal("unsubscribe", Link("c9", "run_" + "a" * 26, "hello"))
    assert client.post(f"/hooks/unsubscribe/{gone}", data=ONE_CLICK).status_code == 200
    assert engine.contact_at("c9").suppressions == ("global",)
    run_id = enroll(engine)
    engine.erase_contact("c1", "asked", certificate="memory://certificates")
    links = Links(PUBLIC, LINK_SECRET)
    erased = Link("c1", run_id, "hello")
    token = links.seal("unsubscribe", erased)
    assert client.post(f"/hooks/unsubscribe/{token}", data=ONE_CLICK).status_code == 200
    assert client.get(f"/hooks/open/{links.seal('open', erased)}.gif").status_code == 200
    target = replace(erased, target="https://example.com/")
    assert client.get(f"/hooks/click/{links.seal('click', target)}").status_code == 302


# --- opened and clicked ---------------------------------------------------------------------------


def test_an_image_tells_once_that_a_message_was_opened(engine: Engine, client: Client) -> None:
    run_id = enroll(engine)
    url = Links(PUBLIC, LINK_SECRET).open("c1", run_id=run_id, step_id="hello", message_id="msg_1")
    path = url.removeprefix(PUBLIC)
    for _ in range(3):
        answer = client.get(path)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/gif")
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
        assert answer.content.startswith(b"GIF89a")
        assert len(answer.content) < 50
    (told,) = received(engine)
    assert (told["type"], told["run_id"], told["step_id"]) == ("email.opened", run_id, "hello")
    assert told["personal"]["data"] == {"message_id": "msg_1"}
    other = path.replace(".gif", "")[:-1] + ".gif"
    refused = client.get(other)
    assert refused.status_code == 404
    assert refused.headers["cross-origin-resource-policy"] == "same-origin"


def test_a_link_leads_on_and_tells_once(engine: Engine, client: Client) -> None:
    run_id = enroll(engine)
    target = "https://example.com/a%20b?x=1&y=[2]#top"
    url = Links(PUBLIC, LINK_SECRET).click("c1", target, run_id=run_id, step_id="hello")
    for _ in range(2):
        answer = client.get(url.removeprefix(PUBLIC))
        assert (answer.status_code, answer.headers["location"]) == (302, target)
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    (told,) = received(engine)
    assert told["type"] == "email.clicked"
    assert target in json.dumps(told)


@pytest.mark.parametrize(
    "target",
    [
        "javascript:alert(1)",
        "//evil.example",
        "https://good.example@evil.example/",
        "https://example.com/\r\nSet-Cookie: a=b",
        "data:text/html,x",
        None,
    ],
)
def test_even_a_signed_link_leads_to_pages_only(
    engine: Engine, client: Client, target: str | None
) -> None:
    """As if a link had been signed by other code than ours."""
    before = engine.metrics().position
    token = Links(PUBLIC, LINK_SECRET).seal("click", Link("c1", target=target))
    answer = client.get(f"/hooks/click/{token}")
    assert answer.status_code in (404, 422)
    assert "location" not in answer.headers
    assert "set-cookie" not in answer.headers
    assert engine.metrics().position == before


def test_nobody_is_led_anywhere_that_was_not_signed(engine: Engine, client: Client) -> None:
    links = Links(PUBLIC, LINK_SECRET)
    good = links.seal("click", Link("c1", target="https://example.com/"))
    evil = Links(PUBLIC, "x" * 32).seal("click", Link("c1", target="https://evil.example/"))
    mixed = evil.partition(".")[0] + "." + good.partition(".")[2]
    other = [links.seal("open", Link("c1")), links.seal("unsubscribe", Link("c1"))]
    for token in (evil, mixed, "https:%2F%2Fevil.example", *other):
        answer = client.get(f"/hooks/click/{token}")
        assert answer.status_code == 404
        assert "location" not in answer.headers
    moved = client.get(f"/hooks/click/{good}?url=https://evil.example/&target=//evil.example")
    assert moved.headers["location"] == "https://example.com/"


def test_a_reader_is_served_when_nothing_can_be_recorded(
    engine: Engine, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*arguments: object, **named: object) -> None:
        raise StoreUnavailable("the database does not answer")

    monkeypatch.setattr(engine, "ingest_event", away)
    links = Links(PUBLIC, LINK_SECRET)
    target = links.seal("click", Link("c1", target="https://example.com/"))
    assert client.get(f"/hooks/click/{target}").status_code == 302
    assert client.get(f"/hooks/open/{links.seal('open', Link('c1'))}.gif").status_code == 200
    # Whoever unsubscribes must know that it did not work.
    token = links.seal("unsubscribe", Link("c1"))
    assert client.post(f"/hooks/unsubscribe/{token}", data=ONE_CLICK).status_code == 503


def test_a_link_in_a_body_comes_from_an_attribute(engine: Engine, tmp_path: Path) -> None:
    """Links that are recorded with the contact are the same on every replay."""
    links = links_of(config(tmp_path))
    assert links is not None
    engine.publish_template("intro", text="Stop: {{contact.stop}}")
    run = engine.execute(
        engine.get_plan("welcome"),
        {"id": "c2", "email": "c2@example.com", "stop": links.unsubscribe("c2")},
    )
    engine.tick()
    assert links.unsubscribe("c2") in header_of_the_only_mail(tmp_path).as_string().replace(
        "=\n", ""
    )
    assert engine.replay(run.id).identical


def test_what_is_told_of_an_archived_run_says_nothing_of_others(
    engine: Engine, client: Client, tmp_path: Path
) -> None:
    """The next enrolment has the same steps, and its message was neither opened nor followed."""
    gone = enroll(engine)
    engine.run_until_idle()
    before = engine.now().now + timedelta(seconds=1)
    engine.run_until(engine.now().tick + 10)
    assert engine.audit.archive(before, place=str(tmp_path / "archives")).runs == 1
    after = enroll(engine)
    version = engine.get_run(after).version
    links = Links(PUBLIC, LINK_SECRET)
    link = Link("c1", gone, "hello", "msg_1")
    assert client.get(f"/hooks/open/{links.seal('open', link)}.gif").status_code == 200
    target = replace(link, target="https://example.com/")
    assert client.get(f"/hooks/click/{links.seal('click', target)}").status_code == 302
    assert engine.get_run(after).version == version
    stop = links.seal("unsubscribe", Link("c1", gone, "hello"))
    assert client.post(f"/hooks/unsubscribe/{stop}", data=ONE_CLICK).status_code == 200
    assert engine.get_run(after).status_reason == "unsubscribed"
