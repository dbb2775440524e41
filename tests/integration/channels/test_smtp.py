"""The SMTP channel against a real server: what arrives, and what is said when it does not."""

from __future__ import annotations

import smtplib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from email import message_from_bytes
from typing import Any

import pytest

from dee_es.adapters.channels import smtp
from dee_es.adapters.channels.smtp_server import Server
from dee_es.core.messages.message import message_id
from dee_es.ports import ChannelResult
from tests.support.channels.mail import CONTEXT, HEADERS, an_email, context, decoded, key, parts
from tests.support.channels.smtp import (
    Connect,
    RunningSmtp,
    running_smtp,
    scripted_smtp,
    smtp_channels,
)
from tests.support.waiting import eventually


@pytest.fixture
def server() -> Iterator[RunningSmtp]:
    with running_smtp() as running:
        yield running


@pytest.fixture
def connect() -> Iterator[Connect]:
    with smtp_channels() as make:
        yield make


# --- what arrives -------------------------------------------------------------------------------


def test_the_whole_message_arrives(server: RunningSmtp, connect: Connect) -> None:
    action = an_email(
        1, subject="Grüße, Jane", text="Hi Jané\n.\n..dots\n.", reply_to="A <a@b.example>"
    )
    assert connect(server).send(action, CONTEXT) == ChannelResult("delivered", message_id(key(1)))
    (got,) = server.taken
    assert (got.mail_from, got.recipients) == ("sales@acme.example", ("jane@example.com",))
    mail = message_from_bytes(got.content)
    assert mail.keys() == HEADERS
    assert mail["From"] == "Acme Sales <sales@acme.example>"
    assert mail["To"] == "jane@example.com"
    assert decoded(mail["Subject"]) == "Grüße, Jane"
    assert mail["Date"] == "Sat, 01 Mar 2025 09:30:00 +0000"
    assert mail["Message-ID"] == f"<{key(1)}@acme.example>"
    assert mail["Reply-To"] == "A <a@b.example>"
    assert mail["List-Unsubscribe"] == "<https://acme.example/u?c=1&s=abc>"
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    text, html = parts(mail)
    assert text == "Hi Jané\n.\n..dots\n.\n\nAcme Ltd, 1 High Street\nLondon\n"
    assert html == "<p>Hi <b>Jane</b></p>\n<p>Acme Ltd, 1 High Street<br>\nLondon</p>\n"


def test_the_same_attempt_gives_the_same_bytes(server: RunningSmtp, connect: Connect) -> None:
    for _ in range(2):
        connect(server).send(an_email(1, text="Grüße " * 99), CONTEXT)
    assert server.taken[0].content == server.taken[1].content


def test_what_is_not_there_is_left_out(server: RunningSmtp, connect: Connect) -> None:
    bare = context(sender_name=None, postal_address=None, unsubscribe_url=None)
    connect(server).send(an_email(1, html=None), bare)
    mail = message_from_bytes(server.taken[0].content)
    assert mail["From"] == "sales@acme.example"
    assert mail.keys() == [
        *HEADERS[:5],
        "MIME-Version",
        "Content-Type",
        "Content-Transfer-Encoding",
    ]
    assert mail.get_payload() == "Hi Jane,\r\nwelcome.\r\n"


def test_one_click_is_promised_for_https_only(server: RunningSmtp, connect: Connect) -> None:
    connect(server).send(an_email(1), context(unsubscribe_url="mailto:stop@acme.example"))
    mail = message_from_bytes(server.taken[0].content)
    assert mail["List-Unsubscribe"] == "<mailto:stop@acme.example>"
    assert mail["List-Unsubscribe-Post"] is None


@pytest.mark.parametrize(
    "text", ["a" * 5_000, "日本語" * 500, "é" * 5_000, " x \n" * 50, "\x1b\x07\t x"]
)
def test_any_text_survives_the_way(server: RunningSmtp, connect: Connect, text: str) -> None:
    connect(server).send(an_email(1, text=text, html=None), context(postal_address=None))
    (got,) = server.taken
    assert got.content.isascii()
    assert max(map(len, got.content.split(b"\r\n"))) <= 998
    assert parts(message_from_bytes(got.content)) == [text if text.endswith("\n") else f"{text}\n"]


def test_the_footer_goes_inside_of_the_html_body(server: RunningSmtp, connect: Connect) -> None:
    footed = context(postal_address="1 <Street> & Co")
    connect(server).send(an_email(1, html="<html><body>x</BODY></html>"), footed)
    _, html = parts(message_from_bytes(server.taken[0].content))
    assert html == "<html><body>x<p>1 &lt;Street&gt; &amp; Co</p>\n</BODY></html>\n"


# --- refusals and breakdowns --------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["MAIL", "RCPT", "DATA", "dot"])
@pytest.mark.parametrize("code", [421, 450, 550])
def test_a_refusal_is_a_failure(connect: Connect, stage: str, code: int) -> None:
    with running_smtp(replies={stage: f"{code} no <jane@example.com> here"}) as server:
        channel = connect(server)
        result = channel.send(an_email(1), CONTEXT)
        assert (result.status, result.error) == ("failed", f"smtp {code}")
        assert result.retryable is (code != 550)
        assert "jane@example.com" in result.detail["reply"]
        assert server.taken == []
        assert server.counts["MAIL"] == 1
        # The next message is not bothered by it.
        server.replies.clear()
        assert channel.send(an_email(2), CONTEXT).status == "delivered"
        assert len(server.taken) == 1
        # With 421 the server hangs up; all else was said about the message.
        assert server.counts["connect"] == (2 if code == 421 else 1)


def test_what_a_server_says_is_kept_in_characters_that_can_be(connect: Connect) -> None:
    said = "450 no\x07\u2028! " + "x" * 600
    with scripted_smtp(lambda connection: talk(connection, "250 hello", said)) as port:
        result = connect(port).send(an_email(1), CONTEXT)
    assert result.detail["reply"] == ("no  ! " + "x" * 600)[:500]


@pytest.mark.parametrize("stage", ["greeting", "MAIL", "RCPT", "DATA"])
def test_a_connection_lost_before_the_text_is_a_failure(connect: Connect, stage: Any) -> None:
    with running_smtp(drop=stage) as server:
        channel = connect(server)
        result = channel.send(an_email(1), CONTEXT)
        assert (result.status, result.retryable) == ("failed", True)
        assert server.counts["MAIL"] <= 1
        server.drop = None
        assert channel.send(an_email(1, attempt=2), CONTEXT).status == "delivered"
        assert len(server.taken) == 1


def test_a_connection_lost_after_the_dot_is_unknown(connect: Connect) -> None:
    with running_smtp(drop="dot") as server:
        channel = connect(server)
        result = channel.send(an_email(1), CONTEXT)
        assert (result.status, result.message_id) == ("unknown", None)
        assert server.counts["MAIL"] == server.counts["accept"] == 1
        server.drop = None
        assert channel.send(an_email(2), CONTEXT).status == "delivered"


def test_a_dot_of_which_nobody_knows_whether_it_left_is_unknown(
    server: RunningSmtp, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = Server.send

    def broken(self: Server, sent: str | bytes) -> None:
        send(self, sent)
        if sent == b".\r\n":
            raise OSError("the network is down")

    monkeypatch.setattr(Server, "send", broken)
    result = connect(server).send(an_email(1), CONTEXT)
    assert (result.status, result.retryable, result.error) == ("unknown", False, "smtp OSError")
    eventually(lambda: server.counts["accept"] == 1)


def test_silence_after_the_dot_is_unknown(connect: Connect) -> None:
    with running_smtp(silent_s=1.5) as server:
        result = connect(server, timeout_s=0.3).send(an_email(1), CONTEXT)
        assert (result.status, result.error) == ("unknown", "smtp TimeoutError")
        assert server.counts["accept"] == 1


def test_nobody_there_is_a_failure(connect: Connect) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    result = connect(port).send(an_email(1), CONTEXT)
    assert (result.status, result.retryable) == ("failed", True)
    assert result.error == "smtp ConnectionRefusedError"


def test_a_silent_server_is_a_failure(connect: Connect) -> None:
    with scripted_smtp(lambda connection: time.sleep(1)) as port:
        result = connect(port, timeout_s=0.2).send(an_email(1), CONTEXT)
    assert (result.status, result.retryable, result.error) == ("failed", True, "smtp TimeoutError")


def talk(connection: socket.socket, *replies: str) -> None:
    """Greet, and answer one line after the other."""
    connection.sendall(b"220 here\r\n")
    talk_on(connection, *replies)


def talk_on(connection: socket.socket, *replies: str) -> None:
    """Answer one line after the other."""
    for reply in replies:
        line = b""
        while not line.endswith(b"\r\n"):
            line += connection.recv(1)
        connection.sendall(reply.encode() + b"\r\n")


UP_TO_DATA = ("250 hello", "250 sender", "250 recipient", "354 go on")


@pytest.mark.parametrize("reset", [True, False])
def test_a_connection_lost_in_the_text_is_a_failure(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, reset: bool
) -> None:
    gone = threading.Event()

    def behave(connection: socket.socket) -> None:
        talk(connection, *UP_TO_DATA)
        while not connection.recv(65_536).endswith(b"--\r\n"):
            pass
        if reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
        gone.set()

    speaks = smtp.speaks

    def later(server: smtplib.SMTP) -> bool:
        # The loss has to be seen before the dot leaves; on a fast machine that is a race.
        gone.wait(60)
        return speaks(server)

    monkeypatch.setattr(smtp, "speaks", later)
    with scripted_smtp(behave) as port:
        result = connect(port).send(an_email(1), CONTEXT)
    assert (result.status, result.retryable) == ("failed", True)


@pytest.mark.parametrize("code", [421, 452, 552])
def test_a_refusal_in_the_middle_of_the_text_holds_the_dot_back(
    connect: Connect, code: int
) -> None:
    received: list[bytes] = []
    closed = threading.Event()

    def behave(connection: socket.socket) -> None:
        talk(connection, *UP_TO_DATA[:3], f"354 go on\r\n{code} too much")
        while chunk := connection.recv(65_536):
            received.append(chunk)
        closed.set()

    with scripted_smtp(behave) as port:
        result = connect(port).send(an_email(1), CONTEXT)
        assert closed.wait(60), "whatever is said next might be taken for text"
    assert (result.status, result.error) == ("failed", f"smtp {code}")
    assert result.retryable is (code < 500)
    assert not b"".join(received).endswith(b"\r\n.\r\n")


def test_a_server_that_trickles_its_greeting_holds_nobody_up(connect: Connect) -> None:
    def behave(connection: socket.socket) -> None:
        while True:
            connection.sendall(b"220-")
            time.sleep(0.02)
            connection.sendall(b"still here\r\n")

    with scripted_smtp(behave) as port:
        began = time.monotonic()
        result = connect(port, timeout_s=0.5).send(an_email(1), CONTEXT)
        assert time.monotonic() - began < 20
    assert (result.status, result.error) == ("failed", "smtp TimeoutError")
    assert (result.retryable, result.ours) == (True, False)


def test_a_server_that_trickles_its_answer_to_the_dot_leaves_it_unknown(connect: Connect) -> None:
    def behave(connection: socket.socket) -> None:
        talk(connection, *UP_TO_DATA)
        received = b""
        while not received.endswith(b"\r\n.\r\n"):
            received += connection.recv(65_536)
        while True:
            connection.sendall(b"250-")
            time.sleep(0.02)
            connection.sendall(b"wait\r\n")

    with scripted_smtp(behave) as port:
        began = time.monotonic()
        result = connect(port, timeout_s=0.5).send(an_email(1), CONTEXT)
        assert time.monotonic() - began < 20
    assert (result.status, result.error) == ("unknown", "smtp TimeoutError")


@pytest.mark.parametrize("reply", ["hello?", "199 wait", "354 go on", "250" + "x" * 9_000])
def test_an_answer_to_the_dot_that_is_none_is_unknown(connect: Connect, reply: str) -> None:
    def behave(connection: socket.socket) -> None:
        talk(connection, *UP_TO_DATA)
        received = b""
        while not received.endswith(b"\r\n.\r\n"):
            received += connection.recv(65_536)
        connection.sendall(reply.encode() + b"\r\n")

    with scripted_smtp(behave) as port:
        assert connect(port).send(an_email(1), CONTEXT).status == "unknown"


@pytest.mark.parametrize("reply", ["hello?", "199 wait", "250" + "x" * 9_000])
def test_an_answer_before_it_that_is_none_is_a_failure(connect: Connect, reply: str) -> None:
    with scripted_smtp(lambda connection: talk(connection, "250 hello", reply)) as port:
        assert connect(port).send(an_email(1), CONTEXT).status == "failed"


@pytest.mark.parametrize(
    "verb, reply",
    [
        ("MAIL", "199 wait"),
        ("MAIL", "354 go on"),
        ("RCPT", "199 wait"),
        ("RCPT", "354 go on"),
        ("DATA", "199 wait"),
        ("DATA", "250 taken"),
        ("DATA", "300 go on"),
    ],
)
def test_nothing_follows_an_answer_to_something_else(
    connect: Connect, verb: str, reply: str
) -> None:
    """Whoever answers like that may take each of the next answers for another one's, too."""
    heard: list[str] = []

    def behave(connection: socket.socket) -> None:
        connection.sendall(b"220 here\r\n")
        with connection.makefile("rb") as lines:
            for line in lines:
                heard.append(line[:4].decode())
                usual = "354 go on" if heard[-1] == "DATA" else "250 fine"
                said = reply if heard[-1] == verb else usual
                connection.sendall(said.encode() + b"\r\n")

    with scripted_smtp(behave) as port:
        result = connect(port).send(an_email(1), CONTEXT)
    assert (result.status, result.retryable, result.error) == ("failed", True, f"smtp {reply[:3]}")
    assert heard[-1] == verb


def test_a_message_the_server_finds_too_large_is_refused_for_good(connect: Connect) -> None:
    with running_smtp(max_bytes=10_000) as server:
        result = connect(server).send(an_email(1, text="x" * 20_000), CONTEXT)
        assert (result.status, result.retryable, result.error) == ("failed", False, "smtp 552")
        assert server.counts["DATA"] == 0


# --- connections --------------------------------------------------------------------------------


def test_a_connection_is_used_again(server: RunningSmtp, connect: Connect) -> None:
    channel = connect(server)
    for number in range(20):
        assert channel.send(an_email(number), CONTEXT).status == "delivered"
    assert server.counts["connect"] == 1
    assert server.counts["accept"] == 20


def test_a_connection_that_is_used_again_has_all_its_time(
    server: RunningSmtp, connect: Connect
) -> None:
    channel = connect(server, timeout_s=0.5)
    assert channel.send(an_email(1), CONTEXT).status == "delivered"
    time.sleep(2.1)
    assert channel.send(an_email(2), CONTEXT).status == "delivered"
    assert server.counts["connect"] == 1


def test_a_stale_connection_is_opened_anew(connect: Connect) -> None:
    with running_smtp() as first:
        channel = connect(first)
        assert channel.send(an_email(1), CONTEXT).status == "delivered"
    with running_smtp(port=first.port) as second:
        assert channel.send(an_email(2), CONTEXT).status == "delivered"
        assert second.counts["accept"] == 1


def test_a_server_that_had_enough_of_a_connection_gets_a_new_one(
    server: RunningSmtp, connect: Connect
) -> None:
    channel = connect(server)
    channel.send(an_email(1), CONTEXT)
    server.replies["MAIL"] = "421 too many messages in one session"
    result = channel.send(an_email(2), CONTEXT)
    # Both connections were told so: a transaction never began, and there was no third try.
    assert (result.error, result.retryable) == ("smtp 421", True)
    assert (server.counts["MAIL"], server.counts["connect"]) == (3, 2)


def test_a_connection_that_was_quiet_for_too_long_is_opened_anew(
    server: RunningSmtp, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It still answers, but a firewall on the way might have forgotten it without a word."""
    channel = connect(server)
    channel.send(an_email(1), CONTEXT)
    monkeypatch.setattr(smtp, "_IDLE_S", 0.0)
    assert channel.send(an_email(2), CONTEXT).status == "delivered"
    assert server.counts["connect"] == 2


def test_a_connection_whose_answers_are_behind_is_not_used_again(connect: Connect) -> None:
    """What answers the recipient comes late: on that connection, each answer would be taken for
    the one to what was said after it."""
    closed = threading.Event()

    def behave(connection: socket.socket) -> None:
        talk(connection, "250 hello", "250 sender", "199 wait\r\n250 recipient")
        while connection.recv(65_536):
            pass
        closed.set()

    with scripted_smtp(behave) as port:
        result = connect(port).send(an_email(1), CONTEXT)
        assert (result.status, result.retryable) == ("failed", True)
        assert closed.wait(60)


def test_where_a_second_connection_breaks_is_told(connect: Connect) -> None:
    """The first was given up at MAIL; nobody greets on the second."""
    told = threading.Event()

    def behave(connection: socket.socket) -> None:
        talk(connection, *UP_TO_DATA)
        received = b""
        while not received.endswith(b"\r\n.\r\n"):
            received += connection.recv(65_536)
        connection.sendall(b"250 taken\r\n")
        talk_on(connection, "250 as new", "421 enough")
        told.wait(60)

    with scripted_smtp(behave) as port:
        channel = connect(port, timeout_s=0.3)
        assert channel.send(an_email(1), CONTEXT).status == "delivered"
        result = channel.send(an_email(2), CONTEXT)
        told.set()
    assert (result.error, result.retryable, result.ours) == ("smtp TimeoutError", True, False)
    assert result.detail == {"stage": "connect"}


def test_no_more_connections_than_allowed(connect: Connect) -> None:
    with running_smtp(silent_s=0.02) as server:
        channel = connect(server, connections=2)
        threads = [
            threading.Thread(target=channel.send, args=(an_email(number), CONTEXT))
            for number in range(12)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert server.counts["accept"] == 12
        assert server.counts["connect"] == 2


def test_a_closed_channel_sends_nothing(server: RunningSmtp, connect: Connect) -> None:
    channel = connect(server)
    channel.close()
    result = channel.send(an_email(1), CONTEXT)
    assert (result.status, result.retryable) == ("failed", True), "the next process has another"
    assert server.counts["connect"] == 0
