"""Webhooks: each believes only what is signed for it, and what it believes is recorded once."""

from __future__ import annotations

import base64
import email
import json
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from dee_es import Engine, EngineConfig, create_plan, steps
from dee_es.adapters.channels.outbox import OutboxChannel
from dee_es.adapters.channels.twilio import CallRef
from dee_es.adapters.channels.twilio.signature import sign as twilio_sign
from dee_es.adapters.channels.twilio.urls import CallbackUrls
from dee_es.bootstrap import links_of, open_call_events
from dee_es.engine.links import Link, Links
from dee_es.errors import InvalidInput, StoreUnavailable
from dee_es.web.hook_settings import HookSettings, webhook_keys
from dee_es.web.hooks.email import MOST_BYTES
from dee_es.web.hooks.signatures import sign
from tests.support.engines import EPOCH
from tests.support.twilio import ACCOUNT, FROM, TOKEN
from tests.support.web import HOST, SETTINGS, Client, served

KEY = secrets.token_bytes(32)
WHSEC = "whsec_" + base64.b64encode(KEY).decode()
LINK_SECRET = "a-secret-for-links-of-32-characters"
CALL_SECRET = "a-secret-for-calls"
PUBLIC = f"http://{HOST}"
NOW = 1_800_000_000.0
ONE_CLICK = {"List-Unsubscribe": "One-Click"}


def config(folder: Path, **more: Any) -> EngineConfig:
    return EngineConfig(
        ":memory:",
        clock="manual",
        epoch=EPOCH,
        outbox=str(folder / "outbox"),
        public_url=PUBLIC,
        link_secret=LINK_SECRET,
        twilio_account_sid=ACCOUNT,
        twilio_auth_token=TOKEN,
        twilio_from_number=FROM,
        twilio_callback_url="https://calls.example/hooks/twilio",
        twilio_callback_secret=CALL_SECRET,
        twilio_calls=str(folder / "calls.db"),
        **more,
    )


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    chosen = config(tmp_path)
    with Engine(chosen, channels={"email": OutboxChannel(chosen.outbox)}) as engine:
        engine.publish_template("intro", text="Hello {{contact.firstName}}")
        engine.publish_sender(address="team@example.com", unsubscribe_url="https://example.com/u")
        engine.publish_plan(
            create_plan(
                id="welcome",
                name="Welcome",
                steps=[
                    steps.send_email("hello", template_id="intro", subject="Hello"),
                    steps.wait("pause", duration={"days": 3}),
                    steps.end("done", outcome="finished"),
                ],
            )
        )
        yield engine


@contextmanager
def hooked(engine: Engine, **hooks: Any) -> Iterator[Client]:
    given: dict[str, Any] = {
        "webhook_keys": (KEY,),
        "links": Links(PUBLIC, LINK_SECRET),
        "now": lambda: NOW,
        **hooks,
    }
    with served(engine, replace(SETTINGS, hooks=HookSettings(**given))) as client:
        yield client


@pytest.fixture
def client(engine: Engine) -> Iterator[Client]:
    with hooked(engine) as client:
        yield client


def enroll(engine: Engine, contact_id: str = "c1") -> str:
    run = engine.execute(
        engine.get_plan("welcome"),
        {"id": contact_id, "email": f"{contact_id}@example.com", "firstName": "Ada"},
    )
    engine.tick()
    return run.id


def event(**more: Any) -> dict[str, Any]:
    return {"type": "email.opened", "contactId": "c1", **more}


def tell(
    client: Client,
    *events: dict[str, Any],
    body: bytes | None = None,
    id: str = "msg_1",
    at: float = NOW,
    key: bytes = KEY,
    sent: bytes | None = None,
    **headers: str | bytes,
) -> httpx.Response:
    signed = json.dumps({"events": events}).encode() if body is None else body
    stamp = str(int(at))
    given: dict[str, Any] = {
        "Content-Type": "application/json",
        "webhook-id": id,
        "webhook-timestamp": stamp,
        "webhook-signature": sign(key, id, stamp, signed),
        **headers,
    }
    return client.post("/hooks/email", content=signed if sent is None else sent, headers=given)


def received(engine: Engine, contact_id: str = "c1") -> list[dict[str, Any]]:
    return [
        entry.data
        for entry in engine.get_contact_logs(contact_id)
        if entry.stream.startswith("contact") and entry.data.get("event_id")
    ]


# --- email events ---------------------------------------------------------------------------------


def test_the_signature_is_that_of_standard_webhooks() -> None:
    # The example of the specification's own libraries.
    (key,) = webhook_keys("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    made = sign(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", b'{"test": 2432232314}')
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_events_are_taken_in_with_their_meaning(engine: Engine, client: Client) -> None:
    run_id = enroll(engine)
    answer = tell(
        client,
        event(type="email.delivered", runId=run_id, stepId="hello"),
        event(type="email.clicked", url="https://example.com/", messageId="msg_9"),
        event(type="email.replied", autoReply=True, occurredAt="2026-01-01T00:00:00Z"),
        event(type="email.bounced", bounce="soft", contactId=None, runId=run_id, stepId="hello"),
        event(type="email.opened", contactId="nobody-yet"),
    )
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"accepted": 5, "known": 0, "errors": 0, "faults": []}
    kinds = [(each["type"], each.get("kind")) for each in received(engine)]
    assert kinds == [
        ("email.delivered", None),
        ("email.clicked", None),
        ("email.replied", "auto"),
        ("email.bounced", "soft"),
    ]
    assert engine.get_run(run_id).status == "waiting"


@pytest.mark.parametrize(
    "what, outcome",
    [
        ({"type": "email.bounced", "bounce": "hard"}, "undeliverable"),
        ({"type": "email.complained"}, "complained"),
        ({"type": "email.unsubscribed"}, "unsubscribed"),
    ],
)
def test_what_ends_runs_ends_them(
    engine: Engine, client: Client, what: dict[str, str], outcome: str
) -> None:
    run_id = enroll(engine)
    assert tell(client, event(**what)).json()["accepted"] == 1
    run = engine.get_run(run_id)
    assert run.status.ended
    assert outcome in (run.outcome or "") + (run.status_reason or "")


def test_a_webhook_told_twice_counts_once(engine: Engine, client: Client) -> None:
    first = tell(client, event(), event(type="email.clicked"))
    assert (first.json()["accepted"], first.json()["known"]) == (2, 0)
    again = tell(client, event(), event(type="email.clicked"), at=NOW + 20)
    assert again.status_code == 200
    assert (again.json()["accepted"], again.json()["known"]) == (0, 2)
    # Durably: a server that knows nothing of the first time says the same.
    with hooked(engine) as other:
        assert tell(other, event()).json()["known"] == 1
    assert len(received(engine)) == 2


def test_a_message_cannot_be_told_again_under_another_id(engine: Engine, client: Client) -> None:
    overheard = sign(KEY, "msg_1", str(int(NOW)), json.dumps({"events": [event()]}).encode())
    assert tell(client, event()).status_code == 200
    replay = tell(client, event(), id="msg_2", **{"webhook-signature": overheard})
    assert (replay.status_code, replay.json()["error"]) == (401, "SignatureRefused")
    assert len(received(engine)) == 1


@pytest.mark.parametrize("off, status", [(-300, 200), (300, 200), (-301, 401), (301, 401)])
def test_a_message_is_good_for_five_minutes(
    engine: Engine, client: Client, off: int, status: int
) -> None:
    assert tell(client, event(), at=NOW + off).status_code == status
    assert len(received(engine)) == (status == 200)


@pytest.mark.parametrize(
    "altered",
    [
        {"key": b"x" * 32},
        {"sent": b'{"events": [{"type": "email.unsubscribed", "contactId": "c1"}]}'},
        {"sent": b""},
        {"webhook-id": "msg_2"},
        {"webhook-id": ""},
        {"webhook-id": "a.b"},
        {"webhook-id": "x" * 129},
        {"webhook-timestamp": str(int(NOW) + 1)},
        {"webhook-timestamp": "now"},
        {"webhook-timestamp": "-1"},
        {"webhook-timestamp": "9" * 400},
        {"webhook-signature": ""},
        {"webhook-signature": "v1,"},
        {"webhook-signature": "v1,AAAA"},
        {"webhook-signature": "v1a,AAAA"},
        {"webhook-signature": "é".encode()},
    ],
)
def test_forged_and_altered_messages_are_refused_and_change_nothing(
    engine: Engine, client: Client, altered: dict[str, Any]
) -> None:
    run_id = enroll(engine)
    before = engine.metrics().position
    answer = tell(client, event(), **altered)
    assert answer.status_code == 401, answer.text
    assert answer.json()["error"] == "SignatureRefused"
    assert "c1" not in answer.text
    assert engine.metrics().position == before
    assert engine.get_run(run_id).status == "waiting"


def test_headers_given_twice_are_refused(client: Client) -> None:
    body = json.dumps({"events": [event()]}).encode()
    good = sign(KEY, "msg_1", str(int(NOW)), body)
    headers = [
        ("content-type", "application/json"),
        ("webhook-id", "msg_1"),
        ("webhook-timestamp", str(int(NOW))),
        ("webhook-signature", good),
    ]
    assert client.post("/hooks/email", content=body, headers=headers).status_code == 200
    for name, value in headers[1:]:
        twice = [*headers, (name, value)]
        assert client.post("/hooks/email", content=body, headers=twice).status_code == 401


def test_several_secrets_are_believed_while_one_takes_the_place_of_another(engine: Engine) -> None:
    keys = webhook_keys(f"{WHSEC} {'plain-secret-of-24-or-more'}")
    assert keys[0] == KEY
    with hooked(engine, webhook_keys=keys) as client:
        for number, key in enumerate(keys):
            assert tell(client, event(), id=f"msg_{number}", key=key).status_code == 200
        # A sender that changes its secret signs with both.
        stamp, body = str(int(NOW)), json.dumps({"events": [event()]}).encode()
        signed = " ".join(sign(key, "msg_3", stamp, body) for key in (b"unknown" * 5, keys[1]))
        assert tell(client, event(), id="msg_3", **{"webhook-signature": signed}).status_code == 200


@pytest.mark.parametrize("secret", ["short", "whsec_AAAA", "whsec_%%%%", f"{WHSEC} short"])
def test_secrets_that_could_be_guessed_are_refused(secret: str) -> None:
    with pytest.raises(InvalidInput, match="webhook_secret"):
        webhook_keys(secret)


@pytest.mark.parametrize(
    "body, field",
    [
        ({"events": [event(email="jane@example.com")]}, "events.0.email"),
        ({"events": [event()], "more": 1}, "more"),
        ({"events": []}, "events"),
        ({"events": [event()] * 1_001}, "events"),
        ([event()], "body"),
        ({"events": [event(type="call.completed")]}, "events.0.type"),
        ({"events": [event(type="email.bounced")]}, "events.0.bounce"),
        ({"events": [event(), event(bounce="hard")]}, "events.1.bounce"),
        ({"events": [event(url="https://x.example")]}, "events.0.url"),
        ({"events": [event(autoReply=True)]}, "events.0.autoReply"),
        ({"events": [event(contactId="jane@example.com")]}, "events.0.contactId"),
        ({"events": [event(contactId=None)]}, "events.0.contactId"),
        ({"events": [event(occurredAt="2026-01-01T00:00:00")]}, "events.0.occurredAt"),
        ({"events": [event(occurredAt=5)]}, "events.0.occurredAt"),
    ],
)
def test_what_is_not_understood_is_refused_as_a_whole(
    engine: Engine, client: Client, body: Any, field: str
) -> None:
    before = engine.metrics().position
    answer = tell(client, body=json.dumps(body).encode())
    assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert "jane" not in answer.text
    assert engine.metrics().position == before


def test_one_event_that_cannot_be_used_does_not_stop_the_rest(client: Client) -> None:
    unknown = event(runId="run_" + "a" * 26)
    answer = tell(client, event(), unknown, event(type="email.clicked"))
    told = answer.json()
    assert (answer.status_code, told["accepted"], told["errors"]) == (200, 2, 1)
    assert [(each["index"], each["error"]) for each in told["faults"]] == [(1, "RunNotFound")]


def test_kinds_and_sizes_of_bodies_are_bounded(client: Client) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        assert tell(client, event(), **{"Content-Type": kind}).status_code == 415
    assert tell(client, body=b"x" * (MOST_BYTES + 1)).status_code == 413
    assert tell(client, body=b"x" * (2 * 1024 * 1024)).status_code == 413
    assert tell(client, body=b"[" * 5_000).status_code == 400
    assert tell(client, body=b"\xff\xfe").status_code == 422
    assert client.get("/hooks/email").status_code == 405


def test_what_is_not_set_up_is_not_there(engine: Engine) -> None:
    with hooked(engine, webhook_keys=(), links=None) as client:
        assert tell(client, event()).status_code == 404
        assert tell(client, event(), key=b"").status_code == 404
        token = Links(PUBLIC, LINK_SECRET).seal("unsubscribe", Link("c1"))
        assert client.post(f"/hooks/unsubscribe/{token}", data=ONE_CLICK).status_code == 404
        assert client.get(f"/hooks/open/{token}.gif").status_code == 404
        assert client.get(f"/hooks/click/{token}").status_code == 404
        assert client.post("/hooks/twilio/status/x").status_code == 404
    assert received(engine) == []


def test_hosts_are_checked_and_origins_are_not(engine: Engine, client: Client) -> None:
    assert tell(client, event(), Host="evil.example").status_code == 421
    assert tell(client, event(), Origin="https://provider.example").status_code == 200
    # Elsewhere a foreign origin stays out, also of a path that only begins like a webhook's.
    for path in ("/api/v1/runs", "/hooksx/email"):
        answer = client.post(path, json={}, headers={"Origin": "https://provider.example"})
        assert answer.status_code == 403


def test_a_webhook_has_no_rights_beyond_itself(client: Client) -> None:
    """Nobody is signed in under /hooks/, and dots do not lead out of it."""
    for path in ("/hooks/../api/v1/runs", "/hooks/%2e%2e/api/v1/runs", "/hooks//api/v1/runs"):
        answer = client.request("POST", path, json={})
        assert answer.status_code in (403, 404, 405), path


def test_when_the_database_is_away_the_sender_hears_it(
    engine: Engine, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*arguments: object, **named: object) -> None:
        raise StoreUnavailable("the database does not answer")

    monkeypatch.setattr(engine, "ingest_events", away)
    assert tell(client, event()).status_code == 503
    monkeypatch.undo()
    assert tell(client, event()).json()["accepted"] == 1


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


# --- calls ----------------------------------------------------------------------------------------


def test_callbacks_about_calls_are_those_of_the_worker(engine: Engine, tmp_path: Path) -> None:
    run_id = enroll(engine)
    chosen = config(tmp_path)
    errors: list[Exception] = []
    call = CallRef(run_id, "hello", "e" * 64, 1)
    urls = CallbackUrls(chosen.twilio_callback_url or "", CALL_SECRET)
    asked = urls.make("status", call)
    path = "/hooks/twilio/" + "/".join(asked.split("/")[-2:])
    form = {"AccountSid": ACCOUNT, "CallSid": "CA" + "1" * 32, "CallStatus": "ringing"}
    signature = twilio_sign(TOKEN, asked, form.items())
    with (
        open_call_events(engine, chosen, errors.append) as calls,
        hooked(engine, calls=calls) as client,
    ):
        for _ in range(2):
            good = client.post(path, data=form, headers={"X-Twilio-Signature": signature})
            assert good.status_code == 200, good.text
        for headers, data in (
            ({}, form),
            ({"X-Twilio-Signature": "x"}, form),
            ({"X-Twilio-Signature": signature}, {**form, "CallStatus": "completed"}),
        ):
            assert client.post(path, data=data, headers=headers).status_code == 403
        assert client.get(path).status_code == 405
        assert client.post("/hooks/twilio/else/x", data=form).status_code == 404
        big = client.post(path, content=b"x" * 70_000)
        assert big.status_code == 413
    assert [each["type"] for each in received(engine)] == ["call.ringing"]
    assert errors == []


def test_a_callback_that_cannot_be_recorded_is_not_confirmed(
    engine: Engine, tmp_path: Path
) -> None:
    chosen = config(tmp_path)
    errors: list[Exception] = []
    call = CallRef("run_" + "a" * 26, "hello", "e" * 64, 1)
    asked = CallbackUrls(chosen.twilio_callback_url or "", CALL_SECRET).make("status", call)
    form = {"AccountSid": ACCOUNT, "CallSid": "CA" + "1" * 32, "CallStatus": "ringing"}
    signature = twilio_sign(TOKEN, asked, form.items())
    path = "/hooks/twilio/" + "/".join(asked.split("/")[-2:])
    with (
        open_call_events(engine, chosen, errors.append) as calls,
        hooked(engine, calls=calls) as client,
    ):
        answer = client.post(path, data=form, headers={"X-Twilio-Signature": signature})
    assert answer.status_code == 500
    assert [type(error).__name__ for error in errors] == ["RunNotFound"]


def test_the_time_is_that_of_the_wall() -> None:
    assert abs(HookSettings().now() - time.time()) < 5
