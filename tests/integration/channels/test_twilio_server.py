"""The small host for callbacks: what it takes, what it turns away, and how it ends."""

from __future__ import annotations

import http.client
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from http.server import ThreadingHTTPServer
from typing import Any

import pytest

from dee_es.adapters.channels.twilio import ChannelEvent, Reply, serve_callbacks
from dee_es.adapters.channels.twilio import server as hosting
from tests.support.waiting import eventually

EVENT = ChannelEvent("call.ringing", "run_1", "call", "twilio-1", {})


class Callbacks:
    """Answers everything with one event, and remembers."""

    def __init__(self, act: Callable[[], object] = lambda: None) -> None:
        self.asked: list[tuple[str, str, bytes]] = []
        self.settled: list[Reply] = []
        self.act = act

    def handle(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> Reply:
        self.act()
        self.asked.append((method, url, body))
        return Reply(200, "text/xml", b"<Response/>", (EVENT,))

    def recorded(self, reply: Reply) -> None:
        self.settled.append(reply)


def ask(port: int, method: str = "POST", body: bytes = b"a=1", **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, "/x?y=1", body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def answered(port: int) -> bool:
    try:
        return ask(port)[0] == 200
    except ConnectionError:
        return False


def raw(port: int, sent: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), 20) as connection:
        connection.sendall(sent)
        got = b""
        while more := connection.recv(65536):
            got += more
        return got


def test_a_request_is_handled_and_its_events_recorded_before_the_answer() -> None:
    events: list[ChannelEvent] = []
    callbacks = Callbacks()
    with serve_callbacks(callbacks, events.append) as server:
        assert ask(server.port) == (200, b"<Response/>")
    assert callbacks.asked == [("POST", "/x?y=1", b"a=1")]
    assert events == [EVENT]
    assert len(callbacks.settled) == 1


def test_the_largest_request_is_read_whole() -> None:
    callbacks = Callbacks()
    with serve_callbacks(callbacks, print) as server:
        assert ask(server.port, body=b"x" * 65_536)[0] == 200
    assert len(callbacks.asked[0][2]) == 65_536


def test_nothing_is_said_of_requests_and_nothing_listens_afterwards(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """An address holds what was pressed."""
    before = set(threading.enumerate())

    def under_way() -> set[threading.Thread]:
        return set(threading.enumerate()) - before - {server._thread}

    def act() -> None:
        raise OSError("away")

    with serve_callbacks(Callbacks(act), lambda event: None) as server:
        assert ask(server.port)[0] == 500
        assert raw(server.port, b"POST /secret HTTP/1.0\r\nContent-Length: x\r\n\r\n")
        eventually(lambda: not under_way())
        with socket.create_connection(("127.0.0.1", server.port), 20) as gone:
            gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            gone.sendall(b"POST /secret HTTP/1.0\r\nContent-Length: 9\r\n\r\n")
            eventually(lambda: bool(under_way()))
    assert capfd.readouterr() == ("", "")
    with pytest.raises(ConnectionRefusedError):
        ask(server.port)
    assert not server._thread.is_alive()


def test_it_listens_on_this_machine_only() -> None:
    with serve_callbacks(Callbacks(), print) as server:
        assert server._server.server_address[0] == "127.0.0.1"


def test_what_cannot_be_recorded_is_not_confirmed() -> None:
    errors: list[Exception] = []
    callbacks = Callbacks()

    def record(event: ChannelEvent) -> None:
        raise OSError("away")

    with serve_callbacks(callbacks, record, on_error=errors.append) as server:
        assert ask(server.port)[0] == 500
        assert [str(error) for error in errors] == ["away"]
    # Also if nobody wants to hear of it.
    with serve_callbacks(callbacks, record) as server:
        assert ask(server.port) == (500, b"try again later")
    assert callbacks.settled == []


@pytest.mark.parametrize(
    "sent, status",
    [
        (b"POST /x HTTP/1.0\r\n\r\n", b"411"),
        (b"POST /x HTTP/1.0\r\nContent-Length: -1\r\n\r\n", b"411"),
        (b"POST /x HTTP/1.0\r\nContent-Length: 1_0\r\n\r\n", b"411"),
        (b"POST /x HTTP/1.0\r\nContent-Length: \xb2\r\n\r\nab", b"411"),
        (b"POST /x HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", b"411"),
        (b"POST /x HTTP/1.0\r\nContent-Length: 65537\r\n\r\n", b"413"),
        (b"POST /x HTTP/1.0\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", b"413"),
        (b"GET /x HTTP/1.0\r\n\r\n", b"405"),
        (b"DELETE /x HTTP/1.0\r\n\r\n", b"501"),
        (b"POST /" + b"x" * 70_000, b"414"),
        (b"nonsense\r\n\r\n", b"400"),
    ],
)
def test_what_is_turned_away(sent: bytes, status: bytes) -> None:
    callbacks = Callbacks()
    with serve_callbacks(callbacks, print) as server:
        got = raw(server.port, sent)
    assert status in got[:400]
    assert callbacks.asked == []


def test_nobody_can_keep_it_busy_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosting, "_DEADLINE_S", 0.3)
    callbacks = Callbacks()
    with serve_callbacks(callbacks, print) as server:
        assert raw(server.port, b"POST /x HTTP/1.0\r\nContent-Length: 10\r\n\r\nabc") == b""
    assert callbacks.asked == []


def test_more_than_it_can_do_is_turned_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosting, "_MAX_REQUESTS", 1)
    busy, go = threading.Event(), threading.Event()

    def act() -> None:
        busy.set()
        go.wait(60)

    answers: list[Any] = []
    with serve_callbacks(Callbacks(act), lambda event: None) as server:
        first = threading.Thread(target=lambda: answers.append(ask(server.port)))
        first.start()
        assert busy.wait(60)
        with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
            ask(server.port)
        go.set()
        first.join(60)
        # The place is free a moment after the answer has gone out, not before it.
        eventually(lambda: answered(server.port))
    assert answers == [(200, b"<Response/>")]


def test_a_request_that_gets_no_thread_takes_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(hosting, "_MAX_REQUESTS", 1)
    monkeypatch.setattr(ThreadingHTTPServer, "process_request", exhausted)
    with serve_callbacks(Callbacks(), lambda event: None) as server:
        for _ in range(3):
            with pytest.raises(ConnectionError):
                ask(server.port)
        monkeypatch.undo()
        assert answered(server.port)


def test_nothing_is_left_of_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosting, "_DEADLINE_S", 10_000)
    before = set(threading.enumerate())
    with serve_callbacks(Callbacks(), lambda event: None) as server:
        for _ in range(5):
            assert ask(server.port)[0] == 200
        eventually(lambda: set(threading.enumerate()) - before == {server._thread})


def test_a_request_under_way_is_finished() -> None:
    busy, go = threading.Event(), threading.Event()

    def act() -> None:
        busy.set()
        go.wait(60)

    answers: list[Any] = []
    server = serve_callbacks(Callbacks(act), lambda event: None)
    client = threading.Thread(target=lambda: answers.append(ask(server.port)))
    client.start()
    assert busy.wait(60)
    threading.Timer(0.2, go.set).start()
    server.close()
    assert go.is_set(), "it waits for what is under way"
    client.join(60)
    assert answers == [(200, b"<Response/>")]
