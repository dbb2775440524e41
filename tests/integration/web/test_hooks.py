"""Webhooks: each believes only what is signed for it, and what it believes is recorded once."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from dee_es import Engine
from dee_es.adapters.channels.twilio import CallRef
from dee_es.adapters.channels.twilio.signature import sign as twilio_sign
from dee_es.adapters.channels.twilio.urls import CallbackUrls
from dee_es.bootstrap import open_call_events
from dee_es.core.runs import rules
from dee_es.engine import definitions
from dee_es.engine.links import Link, Links
from dee_es.errors import InvalidInput, StoreUnavailable
from dee_es.web.hook_settings import HookSettings, webhook_keys
from dee_es.web.hooks.email import MOST_BYTES
from dee_es.web.hooks.signatures import sign
from tests.support.channels.twilio import ACCOUNT, TOKEN
from tests.support.engines import EPOCH
from tests.support.web.application import SETTINGS, Client, served, sign_in, with_users
from tests.support.web.hooks import (
    CALL_SECRET,
    KEY,
    LINK_SECRET,
    NOW,
    ONE_CLICK,
    PUBLIC,
    WHSEC,
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


# --- email events ---------------------------------------------------------------------------------


def test_the_signature_is_that_of_standard_webhooks() -> None:
    # The example of the specification's own libraries.
    (key,) = webhook_keys("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    made = sign(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", b'{"test": 2432232314}')
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_events_are_taken_in_with_their_meaning(engine: Engine, client: Client) -> None:
    run_id = enroll(engine)
    engine.run_until(100)
    replied_at = (EPOCH + timedelta(seconds=40)).isoformat()
    answer = tell(
        client,
        event(type="email.delivered", runId=run_id, stepId="hello"),
        event(type="email.clicked", url="https://example.com/", messageId="msg_9"),
        event(type="email.replied", autoReply=True, occurredAt=replied_at),
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
    clicked, replied = received(engine)[1:3]
    told = clicked["personal"]["data"]
    assert (told["url"], told["message_id"]) == ("https://example.com/", "msg_9")
    assert (clicked["occurred_tick"], replied["occurred_tick"]) == (100, 40)


def test_every_message_counts_for_itself(engine: Engine, client: Client) -> None:
    """Two messages may say the same of one contact, and each may say it twice."""
    for number in range(20):
        told = tell(client, event(), event(), id=f"msg_{number}").json()
        assert (told["accepted"], told["known"]) == (2, 0)
    assert len(received(engine)) == 40


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


def test_the_same_webhook_many_times_at_once_counts_once(engine: Engine, client: Client) -> None:
    run_id = enroll(engine)
    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(lambda _: tell(client, event(type="email.clicked")), range(24)))
    assert {answer.status_code for answer in told} == {200}
    assert sum(answer.json()["accepted"] for answer in told) == 1
    assert len(received(engine)) == 1
    assert engine.verify_audit_chain(run_id).valid


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


@pytest.mark.parametrize(
    "id, stamp",
    [
        ("", str(int(NOW))),
        ("a.b", str(int(NOW))),
        ("a b", str(int(NOW))),
        ("x" * 129, str(int(NOW))),
        ("msg_1", ""),
        ("msg_1", "now"),
        ("msg_1", f"{NOW}"),
        ("msg_1", f"+{NOW:.0f}"),
        ("msg_1", f" {NOW:.0f}"),
        ("msg_1", "9" * 13),
        (f"msg_1.{NOW:.0f}", ""),
    ],
)
def test_a_signature_does_not_make_up_for_an_id_or_a_time_that_is_none(
    engine: Engine, client: Client, id: str, stamp: str
) -> None:
    """What is signed is id, time and body with dots between them, and must be read in one way."""
    before = engine.metrics().position
    body = json.dumps({"events": [event()]}).encode()
    headers = {
        "Content-Type": "application/json",
        "webhook-id": id,
        "webhook-timestamp": stamp,
        "webhook-signature": sign(KEY, id, stamp, body),
    }
    answer = client.post("/hooks/email", content=body, headers=headers)
    assert (answer.status_code, answer.json()["error"]) == (401, "SignatureRefused")
    assert engine.metrics().position == before


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


@pytest.mark.parametrize(
    "secret",
    ["short", "whsec_AAAA", "whsec_%%%%", f"{WHSEC} short"],
    ids=["short", "few bytes", "no base64", "one of two"],
)
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


def test_what_newer_code_alone_can_take_in_is_told_again_until_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As while an old server runs beside a new worker: nobody's reply is lost on the way, and
    whoever wants no more is heard at once."""

    def upgraded(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(definitions, "RULES", rules.RULES + 1)
        patch.setattr(rules, "RULES", rules.RULES + 1)

    file = f"sqlite:///{tmp_path / 'dee.db'}"
    replies = [event(type="email.replied", contactId=each) for each in ("c1", "c2")]
    with monkeypatch.context() as newer, opened(tmp_path, file) as engine:
        upgraded(newer)
        enroll(engine)
    with opened(tmp_path, file) as engine, hooked(engine) as client:
        enroll(engine, "c2")
        answer = tell(client, *replies)
        assert (answer.status_code, answer.json()["error"]) == (500, "UnknownEventVersion")
        assert "upgrade dee-es" in answer.json()["detail"]
        assert [each["type"] for each in received(engine, "c2")] == ["email.replied"]
        stop = event(type="email.unsubscribed")
        assert tell(client, stop, id="msg_2").json()["accepted"] == 1
    upgraded(monkeypatch)
    with opened(tmp_path, file) as engine, hooked(engine) as client:
        assert tell(client, *replies).json() == {
            "accepted": 1,
            "known": 1,
            "errors": 0,
            "faults": [],
        }
        assert [each["type"] for each in received(engine)] == [
            "email.unsubscribed",
            "email.replied",
        ]
        assert engine.contact_at("c1").suppressions


def test_what_comes_to_a_server_with_the_former_master_key_is_told_again(
    tmp_path: Path,
) -> None:
    file = f"sqlite:///{tmp_path / 'dee.db'}"
    with opened(tmp_path, file) as engine, hooked(engine) as client:
        with opened(tmp_path, file) as other:
            other.keys.rotate()
        answer = tell(client, event(type="email.unsubscribed"))
        assert (answer.status_code, answer.json()["error"]) == (503, "MasterKeyRotated")
    with opened(tmp_path, file) as again, hooked(again) as client:
        assert tell(client, event(type="email.unsubscribed")).json()["accepted"] == 1


def test_kinds_and_sizes_of_bodies_are_bounded(client: Client) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        assert tell(client, event(), **{"Content-Type": kind}).status_code == 415
    assert tell(client, body=b"x" * (MOST_BYTES + 1)).status_code == 413
    assert tell(client, body=b"x" * (2 * 1024 * 1024)).status_code == 413
    assert tell(client, body=b"[" * 5_000).status_code == 400
    assert tell(client, body=b"\xff\xfe").status_code == 422
    assert client.get("/hooks/email").status_code == 405


def test_nothing_is_looked_at_before_it_is_believed(client: Client) -> None:
    """Whoever is on the network may send it, as often as they like."""
    deep = b"[" * 5_000
    forged = tell(client, body=deep, key=b"x" * 32)
    assert (forged.status_code, forged.json()["error"]) == (401, "SignatureRefused")
    assert tell(client, body=deep).json()["error"] == "JsonTooDeep"
    kind = {"Content-Type": "application/json"}
    assert client.post("/hooks/nothing", content=deep, headers=kind).status_code == 404
    much = b" " * (MOST_BYTES + 1)
    for path in ("/hooks/nothing", "/hooks/twilio/status/x", "/hooks/unsubscribe/x"):
        assert client.post(path, content=much, headers=kind).status_code == 413


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
        # What Twilio asks is answered in its own language, and what is behind an address is signed.
        asked = urls.make("voice", call) + "?more=%20a"
        path = "/hooks/twilio/" + "/".join(asked.split("/")[-2:])
        spoken = client.post(
            path, data=form, headers={"X-Twilio-Signature": twilio_sign(TOKEN, asked, form.items())}
        )
        assert (spoken.status_code, spoken.headers["content-type"]) == (
            200,
            "text/xml; charset=utf-8",
        )
        assert spoken.text.endswith("<Response><Hangup /></Response>")
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


# --- how often somebody may come ------------------------------------------------------------------


def test_what_strangers_send_closes_nothing_to_others(engine: Engine, tmp_path: Path) -> None:
    """Behind a proxy all have one address: what is refused is counted by the kind of hook, and
    what was believed is refused for nobody's sake."""
    enroll(engine)
    links = Links(PUBLIC, LINK_SECRET)
    path = links.unsubscribe("c1").removeprefix(PUBLIC)
    settings, _ = with_users(tmp_path, unsafe_burst=5, unsafe_per_minute=6)
    settings = replace(
        settings, hooks=HookSettings(webhook_keys=(KEY,), links=links, now=lambda: NOW)
    )
    with served(engine, settings) as client:
        rubbish = [client.post("/hooks/unsubscribe/x").status_code for _ in range(7)]
        assert rubbish == [404] * 5 + [429] * 2
        assert [tell(client, event(), key=b"x" * 32).status_code for _ in range(7)] == (
            [401] * 5 + [429] * 2
        )
        last = client.post(f"/hooks/{'y' * 9}/x")
        assert last.status_code == 404, "another kind has a bucket of its own"
        assert [tell(client, event(), id=f"msg_{n}").status_code for n in range(7)] == [200] * 7
        assert client.post(path, data=ONE_CLICK).status_code == 200
        assert sign_in(client, "operator").status_code == 303
        answer = client.post("/hooks/unsubscribe/x")
        assert answer.json()["error"] == "TooManyRequests"
        assert 1 <= int(answer.headers["retry-after"]) <= 11


def test_one_link_that_is_followed_without_end_is_bounded_alone(
    engine: Engine, tmp_path: Path
) -> None:
    for contact in ("c1", "c2"):
        enroll(engine, contact)
    links = Links(PUBLIC, LINK_SECRET)
    first, other = (links.unsubscribe(each).removeprefix(PUBLIC) for each in ("c1", "c2"))
    settings = replace(
        SETTINGS, unsafe_burst=5, unsafe_per_minute=6, hooks=HookSettings(links=links)
    )
    with served(engine, settings) as client:
        codes = [client.post(first, data=ONE_CLICK).status_code for _ in range(7)]
        assert codes == [200] * 5 + [429] * 2
        assert client.post(other, data=ONE_CLICK).status_code == 200


def test_wrong_sign_ins_close_no_hook(engine: Engine, tmp_path: Path) -> None:
    settings, _ = with_users(tmp_path, unsafe_burst=5, unsafe_per_minute=6)
    settings = replace(settings, hooks=HookSettings(webhook_keys=(KEY,), now=lambda: NOW))
    with served(engine, settings) as client:
        codes = [sign_in(client, "nobody").status_code for _ in range(7)]
        assert codes == [403] * 5 + [429] * 2
        assert tell(client, event()).status_code == 200
