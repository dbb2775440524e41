"""Texts that try to become more than they are, on their way through the whole engine.

Each is put wherever a stranger's text can stand and sent by a real engine to a real SMTP server. It
is refused at the door, or fails its step, or arrives as what it is: to one recipient, under the
headers that were meant, each once.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Callable, Iterator
from email import message_from_bytes
from email.utils import parseaddr
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from dee_es import Engine, EngineConfig, ExecutionPlan, create_plan, steps
from dee_es.core.events import StepDispatched
from dee_es.errors import InvalidInput, PlanValidationError
from tests.support.channels.mail import HEADERS, INJECTIONS, decoded, parts
from tests.support.channels.smtp import Received, RunningSmtp, running_smtp

_BREAKS = ["\r\n", "\n", "\r", "\x00", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029"]
_DISGUISED = ["%0a", "%0d%0a", "\\r\\n", "&#10;", "=0D=0A", "\u560a", "\uff0a", "\\u000a"]
_TAILS = [
    "Bcc: evil@evil.example",
    "To: evil@evil.example",
    "Content-Type: text/html",
    "Subject: mine\r\n\r\nbody",
    ".\r\nRCPT TO:<evil@evil.example>",
]
_TEMPLATES = [
    "{{contact.email}}",
    "{{{contact.email}}}",
    "{{contact.__class__}}",
    "{{#each contact}}{{this}}{{/each}}",
    "{{> partial}}",
    "{{!-- comment --}}",
    "{{unclosed",
    "}}",
    "{{{{raw}}}}{{{{/raw}}}}",
    "{%7b{",
    "${contact.email}",
    "{{sender.address}}\r\n.\r\n",
]
_SEPARATORS = [", ", ",", ";", "; ", " ", "\t", ">,<", "|", "\u3000", "\uff0c", "\uff1b", "\u037e"]
_UNSEEN = [*"\u200b\u200c\u200d\u2060\ufeff\u00ad\u202a\u202b\u202d\u202e\u2066\u2067\u200f\u061c"]
_WORDS = [
    "=?utf-8?b?LCBldmlsQGV2aWwuZXhhbXBsZQ==?=",
    "=?utf-8?q?=2C=20evil=40evil.example?=",
    "=?utf-8?q?=0D=0ABcc:_evil=40evil.example?= tail",
    "=?iso-2022-jp?b?GyRCJCIbKEI=?=",
    "=?x?",
    "?=",
]
_MIME = [
    "--=_dee_",
    "\r\n--=_dee_\r\nContent-Type: text/html\r\n\r\n<b>mine</b>\r\n--=_dee_--\r\n",
    "--\r\n",
    "..",
    "\r\n..\r\n.",
    "\n.\n",
    "\r.\r",
    "=",
    "=\r\n",
    "=3D=0A",
    "\x1b[31m",
    "\x7f",
    "\x08\x08",
    "<!--",
    "]]>",
    "</body></html>",
    "<img src=x onerror=alert(1)>",
    "javascript:alert(1)",
    "'",
    '"\\"',
    '" <evil@evil.example>',
    "\\",
    "(comment)",
    "@",
    "a@b",
    ":;",
    "\ud83d",
    "\udc80 lone",
    "x\ud800\r\n",
    "\U0010ffff",
    "\ufdd0",
    "x" * 997,
    "x" * 20_000,
    "é" * 600,
    "a " * 400,
    "\u0301" * 300,
    "\r\n" * 200,
    "." * 1_000,
    "x" * 300_000,
]
CORPUS: Final = tuple(
    dict.fromkeys(
        [
            *INJECTIONS,
            *(f"x{cut}{tail}" for cut in [*_BREAKS, *_DISGUISED] for tail in _TAILS),
            *_TEMPLATES,
            *(f"jane@example.com{by}evil@evil.example" for by in _SEPARATORS),
            *(f"ja{mark}ne@example.com" for mark in _UNSEEN),
            *(f"jane@example.com{mark}" for mark in _UNSEEN),
            *_WORDS,
            *_MIME,
        ]
    )
)
TO: Final = "jane@example.com"
SENDER: Final = "team@acme.example"


class Case(NamedTuple):
    """A text in its place, ready to be enrolled."""

    contact: dict[str, Any]
    variables: dict[str, Any]
    plan: ExecutionPlan


Place = Callable[[Engine, int, str], Case]


def a_plan(number: int = 0, subject: str = "Hello", template: str = "plain") -> ExecutionPlan:
    return create_plan(
        id=f"plan-{template}-{number}",
        name="One letter",
        steps=[steps.send_email("letter", template, subject), steps.end("done", "done")],
    )


PLAIN: Final = a_plan()
TOLD: Final = a_plan(subject="For {{note}}", template="noted")


def _person(number: int, **changes: Any) -> dict[str, Any]:
    return {"id": f"c{number}", "email": TO, "firstName": "Jane", **changes}


def _sender(engine: Engine, number: int, **changes: str) -> Case:
    engine.publish_sender(**{"address": SENDER, "name": "Team", **changes})
    return Case(_person(number), {}, PLAIN)


PLACES: Final[dict[str, Place]] = {
    "email": lambda _, n, text: Case(_person(n, email=text), {}, PLAIN),
    "timezone": lambda _, n, text: Case(_person(n, timezone=text), {}, PLAIN),
    "attribute": lambda _, n, text: Case(_person(n, note=text), {}, TOLD),
    "attribute's name": lambda _, n, text: Case(
        _person(n, attributes={text: "x", "firstName": "Jane"}), {}, PLAIN
    ),
    "variable": lambda _, n, text: Case(_person(n), {"note": text}, TOLD),
    "subject": lambda _, n, text: Case(_person(n), {}, a_plan(n, text)),
    "sender's name": lambda engine, n, text: _sender(engine, n, name=text),
    "sender's address": lambda engine, n, text: _sender(engine, n, address=text),
    "postal address": lambda engine, n, text: _sender(engine, n, postal_address=text),
    "unsubscribe url": lambda engine, n, text: _sender(engine, n, unsubscribe_url=text),
}
# How many of the texts arrive at the least: without that, refusing everything would do.
ARRIVE: Final = {
    "email": 1,
    "timezone": 150,
    "attribute": 80,
    "attribute's name": 150,
    "variable": 80,
    "subject": 70,
    "sender's name": 70,
    "sender's address": 1,
    "postal address": 150,
    "unsubscribe url": 0,
}


@pytest.fixture
def server() -> Iterator[RunningSmtp]:
    with running_smtp() as running:
        yield running


@pytest.fixture
def engine(server: RunningSmtp, tmp_path: Path) -> Iterator[Engine]:
    config = EngineConfig(
        f"sqlite:///{tmp_path / 'dee.db'}",
        clock="manual",
        email="smtp",
        smtp_host=server.host,
        smtp_port=server.port,
        smtp_security="none",
    )
    with Engine(config) as opened:
        opened.publish_template("plain", text="Dear {{contact.firstName}}", html="<p>Dear</p>")
        opened.publish_template("noted", text="Note: {{note}}|", html="<p>{{note}}</p>")
        opened.publish_sender(address=SENDER, name="Team")
        yield opened


def test_there_are_enough_texts() -> None:
    assert len(CORPUS) >= 200


@pytest.mark.parametrize("place", PLACES)
def test_a_text_is_refused_or_fails_or_arrives_as_what_it_is(
    engine: Engine, server: RunningSmtp, place: str
) -> None:
    # What the place needs apart from the texts is published first, so that a refusal adds nothing.
    for plan in (PLAIN, TOLD):
        engine.publish_plan(plan)
    enrolled: dict[str, tuple[str, Case]] = {}
    for number, text in enumerate(CORPUS):
        before = engine.health().position
        try:
            case = PLACES[place](engine, number, text)
            run = engine.execute(case.plan, case.contact, case.variables)
        except (InvalidInput, PlanValidationError):
            assert engine.health().position == before, ascii(text)
            continue
        enrolled[run.id] = (text, case)
        engine.run_until_idle()
    taken = {key_of(got): got for got in server.taken}
    assert len(taken) == len(server.taken)
    arrived = 0
    for run_id, (text, case) in enrolled.items():
        got = taken.pop(sent_key(engine, run_id) or "", None)
        run = engine.get_run(run_id)
        if got is None:
            assert run.status == "failed", (ascii(text), run)
            continue
        arrived += 1
        assert run.status == "completed", (ascii(text), run)
        check_arrived(got, place, text, case)
    assert not taken
    assert arrived >= ARRIVE[place]
    assert engine.verify_log().valid


def key_of(got: Received) -> str:
    """The idempotency key that a message names."""
    (found,) = re.findall(rb"^Message-ID: <([0-9a-f]{64})@", got.content, re.MULTILINE)
    return bytes(found).decode()


def sent_key(engine: Engine, run_id: str) -> str | None:
    """The key of the run's one intent; None if it made none."""
    recorded = engine._journal.open(engine._parts.store.read_stream(run_id))
    keys = [each.event.key for each in recorded if isinstance(each.event, StepDispatched)]
    assert len(keys) <= 1
    return keys[0] if keys else None


def check_arrived(got: Received, place: str, text: str, case: Case) -> None:
    """One recipient, the intended headers, each once, and the text in its place unchanged."""
    shown = ascii(text)
    to = str(case.contact["email"]).strip()
    sender = text.strip() if place == "sender's address" else SENDER
    assert (got.mail_from, got.recipients) == (sender, (to,)), shown
    assert not re.search(rb"(?<!\r)\n|\r(?!\n)|\x00", got.content), shown
    head, _, _ = got.content.partition(b"\r\n\r\n")
    unfolded = re.sub(rb"\r\n[ \t]", b" ", head).split(b"\r\n")
    names = [line.partition(b":")[0].decode() for line in unfolded]
    absent = {"Reply-To", "List-Unsubscribe", "List-Unsubscribe-Post"}
    if place == "unsubscribe url":
        absent = {"Reply-To", *absent - {"List-Unsubscribe"}}
    assert names == [name for name in HEADERS if name not in absent], shown
    assert b"\r\nTo: " + to.encode() + b"\r\n" in head, shown
    mail = message_from_bytes(got.content)
    assert not mail.defects, shown
    kinds = [part.get_content_type() for part in mail.walk()]
    assert kinds == ["multipart/alternative", "text/plain", "text/html"], shown
    letter, page = parts(mail)
    if place == "subject" and "{{" not in text:
        assert decoded(str(mail["Subject"])) == text, shown
    if place == "sender's name":
        name, address = parseaddr(str(mail["From"]).replace("\r\n", ""))
        assert (decoded(name), address) == (text.strip(), SENDER), shown
    if place in ("attribute", "variable"):
        assert decoded(str(mail["Subject"])) == f"For {text}", shown
        assert letter == f"Note: {text}|\n", shown
        inner = page.removeprefix("<p>").removesuffix("</p>\n")
        assert "<" not in inner, shown
        assert html.unescape(inner) == text, shown
    if place == "email":
        beyond = [mark for mark in to if not mark.isascii()]
        assert all(unicodedata.category(mark)[0] in "LMN" for mark in beyond), shown
        assert to.count("@") == 1, shown
