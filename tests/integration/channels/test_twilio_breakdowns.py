"""The Twilio channel when things break, what stays secret then, and with an engine above it."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dee_es import Contact, create_plan, steps
from dee_es.adapters.channels.twilio import ChannelEvent, TwilioCallbacks, script_in
from dee_es.core.messages.message import message_id
from dee_es.ports import ChannelResult
from tests.support.channels.line import HEARD_BY_MACHINE, MENU, PLAIN, Line, reference, running_line
from tests.support.channels.mail import CONTEXT, a_call, an_email, key
from tests.support.channels.smtp import make_certificate, scripted_smtp
from tests.support.channels.twilio import ACCOUNT, SECRET, TOKEN, Person, running_twilio
from tests.support.engines import open_engine

PLAN = create_plan(
    id="call-first",
    name="Call first",
    steps=[
        steps.send_voice("call", "menu", voicemail="leave_message"),
        steps.branch(
            "check",
            [
                {"when": 'call.outcome("call") == "voicemail"', "goto": "machine"},
                {"when": "default", "goto": "person"},
            ],
        ),
        steps.end("machine", "machine"),
        steps.end("person", "person"),
    ],
)


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    with running_line(tmp_path) as running:
        yield running


# --- refusals and breakdowns ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "status, code, result, retryable",
    [
        (400, 21211, "failed", False),
        (429, 20429, "failed", True),
        (500, 20500, "unknown", False),
        (503, 20503, "unknown", False),
    ],
)
def test_an_answer_that_is_no_call(
    line: Line, status: int, code: int, result: str, retryable: bool
) -> None:
    line.twilio.fault = status
    got = line.send(PLAIN)
    assert (got.status, got.retryable, got.error) == (
        result,
        retryable,
        f"twilio {status} code {code}",
    )
    assert got.message_id is None
    assert line.twilio.requests == 1


def test_wrong_credentials_fail_without_showing_them(line: Line) -> None:
    got = line.send(PLAIN, auth_token="another-secret-token")
    assert (got.status, got.ours, got.error) == ("failed", True, "twilio 401 code 20003")
    assert "another-secret-token" not in repr(got)
    assert ACCOUNT not in repr(got)


def test_credentials_that_come_back_are_not_kept(line: Line) -> None:
    line.twilio.fault = 401
    got = line.send(PLAIN)
    assert got.detail["reply"] == "Authentication Error - token (token) of (sid) is wrong"


def test_nobody_there_is_a_failure_that_may_pass(line: Line) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    listener.close()
    got = line.send(PLAIN, api_url=f"http://127.0.0.1:{port}")
    assert (got.status, got.retryable) == ("failed", True)
    assert got.error == "twilio ConnectionRefusedError"


def test_a_name_nobody_knows_is_a_failure_that_may_pass(line: Line) -> None:
    got = line.send(PLAIN, api_url="https://twilio.invalid")
    assert (got.status, got.retryable, got.error) == ("failed", True, "twilio gaierror")


def _after_the_request(end: Callable[[socket.socket], None]) -> Callable[[socket.socket], None]:
    def behave(connection: socket.socket) -> None:
        got = b""
        while b"StatusCallbackMethod" not in got:
            got += connection.recv(65536)
        end(connection)

    return behave


def _reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@pytest.mark.parametrize(
    "end",
    [
        lambda connection: None,
        _reset,
        lambda connection: connection.sendall(b"HTTP/1.1 2"),
        lambda connection: connection.sendall(b"220 smtp.example ESMTP\r\n"),
        lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        lambda connection: connection.sendall(b"HTTP/1.1 303 Other\r\nLocation: /\r\n\r\n"),
        lambda connection: connection.sendall(b"HTTP/1.1 502 Bad\r\n\r\n<html>"),
    ],
    ids=["closed", "reset", "half", "no HTTP", "200", "303", "502"],
)
def test_whatever_happens_after_the_request_is_unknown(
    line: Line, end: Callable[[socket.socket], None]
) -> None:
    with scripted_smtp(_after_the_request(end)) as port:
        got = line.send(PLAIN, api_url=f"http://127.0.0.1:{port}")
    assert (got.status, got.retryable, got.message_id) == ("unknown", False, None)


def _says(status: int, content: object) -> Callable[[socket.socket], None]:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    return _after_the_request(lambda connection: connection.sendall(head + body))


@pytest.mark.parametrize(
    "status, result, retryable, ours",
    [
        (400, "failed", False, False),
        (403, "failed", False, False),
        (404, "failed", False, True),
        (408, "failed", False, False),
        (429, "failed", True, False),
        (499, "failed", False, False),
        (500, "unknown", False, False),
        (599, "unknown", False, False),
        (202, "unknown", False, False),
    ],
)
def test_the_status_alone_decides(
    line: Line, status: int, result: str, retryable: bool, ours: bool
) -> None:
    """Whatever else is said; a call may be asked for again only where there cannot be one."""
    with scripted_smtp(_says(status, {"sid": "CA" + "1" * 32, "code": "20001: no"})) as port:
        got = line.send(PLAIN, api_url=f"http://127.0.0.1:{port}")
    assert (got.status, got.retryable, got.ours) == (result, retryable, ours)
    assert (got.error, got.message_id) == (f"twilio {status}", None)
    assert line.calls.sids(key(0), 1) == []


def test_what_twilio_says_is_kept_in_characters_that_can_be(line: Line) -> None:
    said = "no\x00\r\n\u2028\ud800 " + "x" * 600
    with scripted_smtp(_says(400, {"message": said})) as port:
        got = line.send(PLAIN, api_url=f"http://127.0.0.1:{port}")
    reply = got.detail["reply"]
    assert reply == ("no    ? " + "x" * 600)[:500]
    assert reply.isprintable()


def test_only_a_name_that_twilio_would_give_is_kept(line: Line) -> None:
    for sid in ("CA", "RE" + "1" * 32, "CA" + "1" * 33):
        with scripted_smtp(_says(201, {"sid": sid})) as port:
            assert line.send(PLAIN, api_url=f"http://127.0.0.1:{port}").status == "pending"
    assert line.calls.sids(key(0), 1) == []
    with scripted_smtp(_says(201, b"[" * 60_000)) as port:
        assert line.send(PLAIN, api_url=f"http://127.0.0.1:{port}").status == "pending"
    chunked = b"HTTP/1.1 201 CREATED\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n"
    end = _after_the_request(lambda connection: connection.sendall(chunked))
    with scripted_smtp(end) as port:
        assert line.send(PLAIN, api_url=f"http://127.0.0.1:{port}").status == "pending"


def test_an_address_with_a_path_is_asked_there(line: Line) -> None:
    got = line.send(PLAIN, api_url=f"{line.twilio.url}/elsewhere/")
    assert (got.error, got.ours) == ("twilio 404 code 20404", True)
    asked: list[bytes] = []

    def behave(connection: socket.socket) -> None:
        asked.append(connection.recv(65536))

    with scripted_smtp(behave) as port:
        line.send(PLAIN, api_url=f"http://127.0.0.1:{port}/elsewhere/")
    assert asked[0].startswith(f"POST /elsewhere/2010-04-01/Accounts/{ACCOUNT}/Calls.json".encode())


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_what_never_was_a_connection_may_pass(line: Line, scheme: str) -> None:
    """A name that cannot be one, and a server that does not speak TLS."""
    port = line.twilio.url.rpartition(":")[2]
    url = f"https://127.0.0.1:{port}" if scheme == "https" else f"https://{'a' * 64}.example"
    got = line.send(PLAIN, api_url=url)
    assert (got.status, got.retryable, got.ours) == ("failed", True, False)
    assert got.detail == {"stage": "connect"}
    assert line.twilio.requests == 0


def test_only_calls_are_placed(line: Line) -> None:
    got = line.configure().send(an_email(0), CONTEXT)
    assert (got.status, got.retryable) == ("failed", False)
    assert got.error.startswith("invalid channel")
    assert line.twilio.requests == 0


def test_silence_after_the_request_is_unknown(line: Line) -> None:
    done = threading.Event()
    with scripted_smtp(_after_the_request(lambda connection: void(done.wait(60)))) as port:
        got = line.send(PLAIN, api_url=f"http://127.0.0.1:{port}", timeout_s=0.3)
        done.set()
    assert (got.status, got.error) == ("unknown", "twilio TimeoutError")


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 201 CREATED\r\nContent-Length: 60000\r\n\r\n"])
def test_an_answer_that_trickles_holds_nobody_up(line: Line, head: bytes) -> None:
    def trickle(connection: socket.socket) -> None:
        connection.sendall(head or b"HTTP/1.1 201 CREATED\r\nX: ")
        while True:
            time.sleep(0.02)
            connection.sendall(b"x")

    with scripted_smtp(_after_the_request(trickle)) as port:
        began = time.monotonic()
        got = line.send(PLAIN, api_url=f"http://127.0.0.1:{port}", timeout_s=0.5)
        assert time.monotonic() - began < 20
    assert got.status == ("pending" if head else "unknown")


def void(_: object) -> None:
    """Take a value where none is wanted."""


@pytest.mark.parametrize("rest", [b'{"sid": "CA', b"<html>", b"[]", b'{"sid": 7}', b""])
def test_a_call_that_was_created_is_pending_whatever_else_is_said(line: Line, rest: bytes) -> None:
    head = b"HTTP/1.1 201 CREATED\r\nContent-Length: 900\r\n\r\n"
    with scripted_smtp(_after_the_request(lambda connection: connection.sendall(head + rest))) as p:
        got = line.send(PLAIN, api_url=f"http://127.0.0.1:{p}")
    assert got == ChannelResult("pending", message_id(key(0)))


def test_a_call_whose_name_cannot_be_kept_is_pending(line: Line) -> None:
    line.calls.close()
    assert line.send(PLAIN).status == "pending"
    assert {ask.status for ask in line.twilio.call().asked} == {503}
    assert line.events == []


def test_tls_is_checked(line: Line, tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    with running_twilio(certificate) as twilio:
        got = line.send(PLAIN, api_url=twilio.url)
        assert (got.status, got.ours) == ("failed", True)
        assert got.error == "twilio SSLCertVerificationError"
        assert twilio.requests == 0
        got = line.send(PLAIN, api_url=twilio.url, ca_file=str(certificate[0]))
        assert got.status == "pending"
        assert twilio.call().problems == []


@pytest.mark.parametrize(
    "changes, error",
    [
        ({"to": "0555 0100"}, "invalid to: must be international"),
        ({"script": None}, "invalid script: is missing"),
        ({"script": {**PLAIN, "callerId": "Acme"}}, "invalid caller_id"),
        ({"script": {**PLAIN, "greeting": "&" * 20_000}}, "invalid script: has more"),
    ],
)
def test_what_is_no_call_is_not_sent(line: Line, changes: dict[str, Any], error: str) -> None:
    got = line.configure().send(a_call(0, **changes), CONTEXT)
    assert got.error.startswith(error)
    assert (got.status, got.retryable) == ("failed", False)
    assert line.twilio.requests == 0


def test_names_of_twilios_and_secrets_stay_inside(line: Line) -> None:
    line.twilio.person = Person(presses=("2",), answered_by="machine")
    results = [line.send({**MENU, "voicemail": "continue"}, record=True)]
    placed = line.twilio.call()
    line.twilio.fault = 401
    results.append(line.send(MENU))
    told = json.dumps([dict(event.data) for event in line.events])
    shown = repr([results, line.events, line.settings, line.configure(), line.doors.callbacks])
    for secret in (TOKEN, SECRET, placed.sid):
        assert secret not in told + shown
    assert line.calls.find(placed.sid) == reference()


# --- with the engine ------------------------------------------------------------------------------


@pytest.mark.parametrize("quirk", ["twice", "early", "backwards"])
def test_a_run_goes_on_by_the_outcome_of_its_call(line: Line, quirk: str) -> None:
    line.twilio.person = Person(answered_by="machine")
    setattr(line.twilio, quirk, True)
    channel: Any = line.configure()
    with open_engine(":memory:", channel=channel) as engine:

        def record(event: ChannelEvent) -> None:
            contact = engine.get_run(event.run_id).contact_id
            engine.ingest_event(
                event.type,
                contact,
                event.run_id,
                event.step_id,
                event.data,
                event.occurred_at,
                event.event_id,
            )

        line.record = record  # type: ignore[method-assign]
        line.doors.callbacks = TwilioCallbacks(
            line.settings,
            line.calls,
            lambda call: script_in(engine._history.events(call.run_id), call),
        )
        engine.publish_script("menu", greeting="Hello {{contact.name}}", steps=MENU["steps"])
        run = engine.execute(PLAN, contact=Contact(id="c1", phone="+15550100", name="Jane"))
        engine.tick()
        placed = line.twilio.call()
        engine.run_until_idle()
        assert placed.problems == []
        assert placed.spoken == HEARD_BY_MACHINE
        assert engine.get_run(run.id).outcome == "machine"
        received = [e for e in engine.get_timeline(run.id) if e.action == "event.received"]
        assert sorted(str(each.outcome) for each in received) == [
            "call.answered", "call.completed", "call.initiated", "call.ringing", "call.voicemail",
        ]  # fmt: skip
        assert engine.verify_audit_chain(run.id).valid
