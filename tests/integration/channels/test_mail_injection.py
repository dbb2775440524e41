"""Values that try to become headers, recipients or commands, against a real SMTP server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from email import message_from_bytes

import msgspec
import pytest

from dee_es.adapters.channels.smtp import SmtpChannel, SmtpSettings
from dee_es.core.messages.message import build_email
from dee_es.core.messages.template import message_scope
from dee_es.errors import InvalidInput
from tests.support.channels.mail import CONTEXT, HEADERS, INJECTIONS, an_email, decoded, parts
from tests.support.channels.mail import context as changed
from tests.support.channels.smtp import Received, RunningSmtp, running_smtp


@pytest.fixture
def server() -> Iterator[RunningSmtp]:
    with running_smtp() as running:
        yield running


@pytest.fixture
def channel(server: RunningSmtp) -> Iterator[SmtpChannel]:
    opened = SmtpChannel(SmtpSettings(server.host, server.port, timeout_s=20, helo_name="here"))
    yield opened
    opened.close()


MESSAGE_FIELDS = ("to", "subject", "reply_to", "text", "html")
CONTEXT_FIELDS = ("sender_address", "sender_name", "postal_address", "unsubscribe_url")


def test_there_are_enough_injections() -> None:
    assert len(set(INJECTIONS)) >= 60


@pytest.mark.parametrize("place", [*MESSAGE_FIELDS, *CONTEXT_FIELDS])
def test_no_value_becomes_a_header_or_a_recipient(
    server: RunningSmtp, channel: SmtpChannel, place: str
) -> None:
    arrived = 0
    for value in INJECTIONS:
        changes = {"reply_to": "replies@acme.example"}
        context = CONTEXT
        if place in MESSAGE_FIELDS:
            changes[place] = value
        else:
            context = changed(**{place: value})
        action = an_email(value, **changes)
        result = channel.send(action, context)
        if result.status == "delivered":
            arrived += 1
            assert_intended(server.taken[-1], action.message.to, context.sender_address)
            if place == "subject":
                assert decoded(message_from_bytes(server.taken[-1].content)["Subject"]) == value
        else:
            # Refused before anything was sent, and for good.
            assert (result.status, result.retryable) == ("failed", False), value
            assert result.error.startswith("invalid "), value
        assert len(server.taken) == arrived, value
    # Most texts must get through, or this would prove nothing.
    assert arrived >= {"text": 70, "html": 70, "subject": 40, "sender_name": 40}.get(place, 0)


def test_no_attribute_of_a_contact_becomes_one_either(
    server: RunningSmtp, channel: SmtpChannel
) -> None:
    definition = {"text": "Hi {{firstName}}", "html": "<p>{{contact.firstName}}</p>"}
    refused: list[str] = []
    arrived = 0
    for value in INJECTIONS:
        scope = message_scope({"id": "c"}, {}, {"firstName": value}, {}, None, {}, None)
        try:
            message = build_email("For {{firstName}}", definition, scope, "jane@example.com")
        except InvalidInput as error:
            refused.append(str(error))
            continue
        action = msgspec.structs.replace(an_email(value), message=message)
        assert channel.send(action, CONTEXT).status == "delivered"
        arrived += 1
        got = server.taken[-1]
        assert_intended(got, "jane@example.com", "sales@acme.example", without={"Reply-To"})
        mail = message_from_bytes(got.content)
        assert decoded(mail["Subject"]) == f"For {value}"
        assert "<script" not in parts(mail)[1]
    assert len(server.taken) == arrived >= 40
    assert refused
    assert not any("evil" in problem for problem in refused)


def assert_intended(
    got: Received, to: str, sender: str, *, without: frozenset[str] | set[str] = frozenset()
) -> None:
    """Exactly one recipient, exactly the headers that were meant, in raw bytes and as parsed."""
    assert got.recipients == (to.strip(),)
    assert got.mail_from == sender.strip()
    head, _, body = got.content.partition(b"\r\n\r\n")
    unfolded = re.sub(rb"\r\n[ \t]", b" ", head)
    assert not re.search(rb"[\x00-\x08\x0b-\x1f\x7f]", unfolded.replace(b"\r\n", b"")), head
    assert b"\n" not in got.content.replace(b"\r\n", b"")
    assert b"\r" not in got.content.replace(b"\r\n", b"")
    names = [line.split(b":")[0].decode() for line in unfolded.split(b"\r\n")]
    optional = {"List-Unsubscribe-Post", *without}
    assert [name for name in names if name not in optional] == [
        name for name in HEADERS if name not in optional
    ]
    assert all(len(line) <= 998 for line in got.content.split(b"\r\n"))
    mail = message_from_bytes(got.content)
    assert b"\r\nTo: " + to.strip().encode() + b"\r\n" in head
    assert mail.get_content_type() == "multipart/alternative"
    assert [(part.get_content_type(), part.keys()) for part in [*mail.walk()][1:]] == [
        ("text/plain", ["Content-Type", "Content-Transfer-Encoding"]),
        ("text/html", ["Content-Type", "Content-Transfer-Encoding"]),
    ]
    assert not mail.defects
    assert body.endswith(b"--\r\n")
