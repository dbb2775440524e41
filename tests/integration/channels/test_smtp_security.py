"""The SMTP channel's side of TLS, login, settings, and addresses outside of ASCII."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dee_es.adapters.channels import smtp
from dee_es.adapters.channels.smtp import SmtpChannel, SmtpSettings
from dee_es.adapters.channels.trust import trusting
from dee_es.errors import InvalidInput
from tests.support.channels.mail import CONTEXT, an_email
from tests.support.channels.smtp import (
    Connect,
    make_certificate,
    running_smtp,
    scripted_smtp,
    smtp_channels,
)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture
def connect() -> Iterator[Connect]:
    with smtp_channels() as make:
        yield make


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_tls_and_login(connect: Connect, security: Any, certificate: tuple[Path, Path]) -> None:
    with running_smtp(
        security=security, certificate=certificate, credentials=("me", "s3cret")
    ) as server:
        settings = {"security": security, "ca_file": server.ca_file, "username": "me"}
        channel = connect(server, password="s3cret", **settings)
        for number in range(3):
            assert channel.send(an_email(number), CONTEXT).status == "delivered"
        assert [(got.tls, got.authenticated) for got in server.taken] == [(True, True)] * 3
        assert server.counts["connect"] == 1
        wrong = connect(server, password="wr0ng", **settings).send(an_email(4), CONTEXT)
        assert (wrong.status, wrong.error, wrong.ours) == ("failed", "smtp 535", True)
        assert "wr0ng" not in repr(wrong)
        assert server.counts["accept"] == 3


def test_what_the_server_can_do_is_asked_anew_under_tls(
    connect: Connect, certificate: tuple[Path, Path]
) -> None:
    """What was said before may have been put in by somebody on the way."""
    with running_smtp(security="starttls", certificate=certificate) as server:
        channel = connect(server, security="starttls", ca_file=server.ca_file)
        assert channel.send(an_email(1, to="jané@example.com"), CONTEXT).status == "delivered"
        (got,) = server.taken
    assert got.tls
    assert "SMTPUTF8" in got.mail_options
    assert any(option.startswith("SIZE=") for option in got.mail_options)


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_an_unknown_certificate_is_not_trusted(
    connect: Connect, security: Any, certificate: tuple[Path, Path]
) -> None:
    with running_smtp(security=security, certificate=certificate) as server:
        result = connect(server, security=security).send(an_email(1), CONTEXT)
        assert (result.status, result.ours) == ("failed", True)
        assert result.error == "smtp SSLCertVerificationError"
        assert server.counts["MAIL"] == 0


def test_nothing_less_than_a_checked_certificate_will_do(certificate: tuple[Path, Path]) -> None:
    for ca_file in (None, str(certificate[0])):
        context = trusting(ca_file, "smtp.ca_file")
        assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
        assert context.minimum_version >= ssl.TLSVersion.TLSv1_2


def test_a_certificate_for_another_host_is_not_trusted(connect: Connect, tmp_path: Path) -> None:
    other = make_certificate(tmp_path, host="mail.example")
    with running_smtp(security="starttls", certificate=other) as server:
        channel = connect(server, security="starttls", ca_file=server.ca_file)
        assert channel.send(an_email(1), CONTEXT).error == "smtp SSLCertVerificationError"
        assert server.counts["MAIL"] == 0


def test_a_server_without_starttls_is_not_used_in_plain(connect: Connect) -> None:
    with running_smtp() as server:
        result = connect(server, security="starttls").send(an_email(1), CONTEXT)
        assert (result.status, result.error) == ("failed", "smtp SMTPNotSupportedError")
        assert (result.ours, result.detail["stage"]) == (True, "starttls")
        assert server.counts["MAIL"] == 0


@pytest.mark.parametrize(
    "greeting, later, ours",
    [
        ("554 no service here", (), True),
        ("421 try later", (), False),
        ("220 hi", ("502 no", "502 no"), True),
        ("220 hi", ("250 hello", "530 5.7.0 Must issue a STARTTLS command first"), True),
        ("220 hi", ("250 hello", "250 OK", "530 5.7.1 Authentication required"), True),
        ("220 hi", ("250 hello", "534 5.7.9 Authentication mechanism is too weak"), True),
        ("220 hi", ("250 hello", "250 OK", "535 5.7.8 log in anew"), True),
        ("220 hi", ("250 hello", "538 5.7.11 Encryption required"), True),
        ("220 hi", ("250 hello", "550 you are not welcome"), False),
        ("220 hi", ("250 hello", "451 busy"), False),
    ],
)
def test_what_is_a_fault_of_our_own_settings(
    connect: Connect, greeting: str, later: tuple[str, ...], ours: bool
) -> None:
    def behave(connection: socket.socket) -> None:
        connection.sendall(greeting.encode() + b"\r\n")
        for reply in later:
            connection.recv(65_536)
            connection.sendall(reply.encode() + b"\r\n")

    with scripted_smtp(behave) as port:
        result = connect(port).send(an_email(1), CONTEXT)
    assert (result.status, result.ours) == ("failed", ours)
    assert result.retryable is (greeting, *later)[-1].startswith("4")


def test_plain_text_where_tls_is_spoken_is_a_fault_of_our_own(connect: Connect) -> None:
    with running_smtp() as server:
        result = connect(server, security="tls").send(an_email(1), CONTEXT)
        assert (result.status, result.error, result.ours) == ("failed", "smtp SSLError", True)


def test_a_handshake_that_was_cut_off_may_work_the_next_time(connect: Connect) -> None:
    def behave(connection: socket.socket) -> None:
        connection.recv(65_536)

    with scripted_smtp(behave) as port:
        result = connect(port, security="tls").send(an_email(1), CONTEXT)
    # Which of the two depends on the patch release of Python.
    assert result.error in ("smtp SSLEOFError", "smtp SSLZeroReturnError")
    assert result.status == "failed"
    assert (result.ours, result.retryable) == (False, True)


def test_no_common_way_to_log_in_is_a_fault_of_our_own(connect: Connect) -> None:
    def behave(connection: socket.socket) -> None:
        connection.sendall(b"220 hi\r\n")
        connection.recv(65_536)
        connection.sendall(b"250-hello\r\n250 AUTH GSSAPI\r\n")
        connection.recv(65_536)

    with scripted_smtp(behave) as port:
        result = connect(port, username="me", password="s3cret").send(an_email(1), CONTEXT)
    assert (result.status, result.error, result.ours) == ("failed", "smtp SMTPException", True)


def test_a_server_without_a_login_is_a_fault_of_our_own(connect: Connect) -> None:
    with running_smtp() as server:
        result = connect(server, username="me", password="s3cret").send(an_email(1), CONTEXT)
        assert (result.status, result.ours, server.counts["MAIL"]) == ("failed", True, 0)


def test_a_wrong_password_is_not_tried_for_every_message(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    def behave(connection: socket.socket) -> None:
        connection.sendall(b"220 hi\r\n")
        for reply in (
            "250-hello\r\n250 AUTH PLAIN",
            "535 not you: jane@example.com, wr0ng",
            "221 bye",
        ):
            connection.recv(65_536)
            connection.sendall(reply.encode() + b"\r\n")

    with scripted_smtp(behave) as port:
        channel = connect(port, username="me", password="wr0ng", timeout_s=0.3)
        first = channel.send(an_email(1), CONTEXT)
        again = channel.send(an_email(2), CONTEXT)
        assert (first.error, again.error, again.ours) == ("smtp 535", "smtp 535", True)
        # A server may repeat what it refuses.
        assert first.detail == again.detail == {"stage": "auth"}
        monkeypatch.setattr(smtp, "_BARRED_S", 0.0)
        assert channel.send(an_email(3), CONTEXT).ours is False


def test_what_is_said_of_one_recipient_is_told_of_no_other(connect: Connect) -> None:
    with running_smtp(
        replies={"RCPT": "530 log in before you write to <jane@example.com>"}
    ) as server:
        channel = connect(server)
        first = channel.send(an_email(1), CONTEXT)
        again = channel.send(an_email(2, to="john@example.com"), CONTEXT)
        assert "jane@example.com" in first.detail["reply"]
        assert (again.error, again.ours, again.detail) == ("smtp 530", True, {"stage": "rcpt"})
        assert server.counts["RCPT"] == 1


def test_an_international_domain_needs_nothing_of_the_server(connect: Connect) -> None:
    action = an_email(1, to="Jane@exämple.com", reply_to="Jörg <jorg@bücher.example>")
    sending = msgspec.structs.replace(CONTEXT, sender_address="sales@äcme.example")
    with running_smtp(smtputf8=False) as server:
        assert connect(server).send(action, sending).status == "delivered"
        (got,) = server.taken
    assert (got.mail_from, got.recipients) == (
        "sales@xn--cme-pla.example",
        ("Jane@xn--exmple-cua.com",),
    )
    assert got.content.isascii()
    assert b"To: Jane@xn--exmple-cua.com\r\n" in got.content
    assert b"\r\n <jorg@xn--bcher-kva.example>\r\n" in got.content


def test_an_address_outside_of_ascii_needs_a_server_that_takes_it(connect: Connect) -> None:
    action = an_email(1, to="jané@exämple.com")
    with running_smtp() as server:
        assert connect(server).send(action, CONTEXT).status == "delivered"
        (got,) = server.taken
        assert got.recipients == ("jané@exämple.com",)
        assert {"SMTPUTF8", "BODY=8BITMIME"} <= set(got.mail_options)
        assert "To: jané@exämple.com\r\n".encode() in got.content
    with running_smtp(smtputf8=False) as server:
        channel = connect(server)
        result = channel.send(action, CONTEXT)
        assert (result.status, result.retryable) == ("failed", False)
        assert result.error == "smtp server without SMTPUTF8"
        assert channel.send(an_email(2), CONTEXT).status == "delivered"
        assert (server.counts["MAIL"], server.counts["connect"]) == (1, 1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"security": "ssl"},
        {"port": 0},
        {"port": 65_536},
        {"host": ""},
        {"timeout_s": 0},
        {"connections": 0},
        {"username": "me"},
        {"password": "s3cret", "security": "tls"},
        {"username": "me", "password": "pässword"},
        {"username": "me", "password": "s3cret"},
    ],
)
def test_settings_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match=r"^smtp\.") as raised:
        SmtpSettings(**{"host": "mail.example", **wrong})
    assert "s3cret" not in str(raised.value)


def test_a_password_is_never_shown() -> None:
    settings = SmtpSettings("mail.example", 465, "tls", "me", "s3cret")
    assert "s3cret" not in repr(settings) + repr(SmtpChannel(settings)) + str(settings)
    assert replace(settings, port=587).password == "s3cret"
