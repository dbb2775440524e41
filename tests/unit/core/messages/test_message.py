"""Messages: what is rendered, what is refused, and that the same input gives the same digest."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from dee_es.core.events import Message
from dee_es.core.messages.message import (
    MAX_HEADER,
    build_call,
    build_email,
    check_mailbox,
    check_script,
    check_template,
    message_digest,
    message_id,
    split_mailbox,
)
from dee_es.core.messages.template import TemplateError
from dee_es.errors import InvalidInput
from tests.support.channels.mail import INJECTIONS

SCOPE: dict[str, Any] = {
    "contact": {"firstName": "J&J"},
    "run": {"id": "run_1"},
    "evil": "x\nBcc: e@e.e",
}
TEMPLATE = {"text": "Hi {{contact.firstName}}", "html": "<p>{{contact.firstName}}</p>"}
TO = "jane@example.com"


def test_an_email() -> None:
    message = build_email(
        "For {{contact.firstName}}", TEMPLATE, SCOPE, TO, "Us <r+{{run.id}}@acme.example>"
    )
    assert message == Message(
        to=TO,
        subject="For J&J",
        text="Hi J&J",
        html="<p>J&amp;J</p>",
        reply_to="Us <r+run_1@acme.example>",
    )
    assert build_email("x", {"text": "y"}, SCOPE, f" {TO} ") == Message(TO, "x", "y")


@pytest.mark.parametrize(
    "subject, reply_to, field",
    [
        ("{{evil}}", None, "subject"),
        ("a\u2028b", None, "subject"),
        (" ", None, "subject"),
        ("x" * (MAX_HEADER + 1), None, "subject"),
        ("x", "{{evil}}", "reply_to"),
        ("x", "a@b.example, c@d.example", "reply_to"),
        ("x", "A <a@b.example> <c@d.example>", "reply_to"),
        ("x", "nobody", "reply_to"),
    ],
)
def test_headers_are_checked_once_they_are_rendered(
    subject: str, reply_to: str | None, field: str
) -> None:
    with pytest.raises(InvalidInput) as raised:
        build_email(subject, TEMPLATE, SCOPE, TO, reply_to)
    assert raised.value.field == field
    assert "e@e.e" not in str(raised.value)


@pytest.mark.parametrize(
    "subject, definition, part",
    [
        ("{{x}}", TEMPLATE, "subject"),
        ("s", {"text": "{{x}}"}, "text"),
        ("s", {"text": "t", "html": "\n{{x}}"}, "html"),
    ],
)
def test_a_missing_value_names_its_part(
    subject: str, definition: dict[str, Any], part: str
) -> None:
    with pytest.raises(TemplateError, match=rf"^{part}, line \d, column 1: .*x") as raised:
        build_email(subject, definition, SCOPE, TO)
    assert raised.value.part == part


def test_a_message_that_no_event_can_hold_is_refused() -> None:
    definition = {"text": "x" * 130_000, "html": "x" * 130_000}
    with pytest.raises(InvalidInput, match="message"):
        build_email("s", definition, SCOPE, TO)


def test_an_address_is_one_address() -> None:
    for value in INJECTIONS:
        try:
            address = check_mailbox("to", value)
        except InvalidInput:
            continue
        assert address.count("@") == 1
        assert not set(address) & set(' \t\r\n,;:<>()[]\\"\x00')
    for good in ("a@b.example", "a.b+c%d=e@b-c.example", "jané@exämple.com", "用户@例子.公司"):
        assert check_mailbox("to", f" {good}\n") == good
    for bad in (
        "jane@example\uff0ecom",
        "ja\u200dne@b.example",
        "=?utf-8?q?x?=@b.example",
        "a@b_c.d",
    ):
        with pytest.raises(InvalidInput):
            check_mailbox("to", bad)


def test_a_named_address_is_taken_apart() -> None:
    assert split_mailbox("x", "a@b.example") == ("", "a@b.example")
    assert split_mailbox("x", "A, B <a@b.example>") == ("A, B", "a@b.example")
    assert split_mailbox("x", r'"A \"the\" B" <a@b.example>') == ('A "the" B', "a@b.example")


def test_the_digest_depends_on_the_content_only() -> None:
    message = build_email("x", TEMPLATE, SCOPE, TO)
    assert message_digest(message) == message_digest(build_email("x", TEMPLATE, SCOPE, TO))
    assert message_digest(message) != message_digest(build_email("y", TEMPLATE, SCOPE, TO))
    one = Message("t", script={"a": 1, "b": {"c": 2, "d": 3}})
    two = Message("t", script={"b": {"d": 3, "c": 2}, "a": 1})
    assert message_digest(one) == message_digest(two)
    # Digests are in the log for ever, so what they are taken of must never change.
    canonical = '{"subject":"ü","text":"t","to":"a@b.example"}'
    digest = message_digest(Message("a@b.example", "ü", "t"))
    assert digest == hashlib.sha256(canonical.encode()).hexdigest()
    assert message_id("ab" * 32) == "msg_" + "ab" * 16


@pytest.mark.parametrize(
    "definition, field",
    [
        ("text", "template"),
        ({}, "template.text"),
        ({"text": " "}, "template.text"),
        ({"text": 3}, "template.text"),
        ({"text": "{{#if}}"}, "template.text"),
        ({"text": "x", "html": "{{{"}, "template.html"),
        ({"text": "x", "html": ""}, "template.html"),
        ({"text": "x\x00"}, "template.text"),
        ({"text": "x", "subject": "y"}, "template.subject"),
    ],
)
def test_templates_are_checked_when_published(definition: object, field: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        check_template(definition)
    assert raised.value.field == field


def test_a_template_without_html_is_stored_without_it() -> None:
    assert check_template({"text": "x", "html": None}) == {"text": "x"}


# --- calls --------------------------------------------------------------------------------------

GATHER = {"type": "gather", "name": "wish", "prompt": "Press 1, {{contact.firstName}}"}
SPEAK = {"type": "speak", "text": "Bye {{contact.firstName}}"}
BRANCH = {"type": "branch", "on": "wish", "cases": {"1": [SPEAK]}, "default": [SPEAK]}
SCRIPT = {"greeting": "Hi {{contact.firstName}}", "steps": [GATHER, BRANCH]}


def test_a_call() -> None:
    message = build_call(check_script(SCRIPT), SCOPE, "+1 555 0100", "+15550199", 60, "hangup")
    said = {"type": "speak", "text": "Bye J&J"}
    assert message == Message(
        to="+1 555 0100",
        script={
            "greeting": "Hi J&J",
            "steps": [
                {
                    "type": "gather",
                    "name": "wish",
                    "prompt": "Press 1, J&J",
                    "maxDigits": 1,
                    "timeout": 5,
                    "attempts": 1,
                },
                {"type": "branch", "on": "wish", "cases": {"1": [said]}, "default": [said]},
            ],
            "callerId": "+15550199",
            "maxDuration": 60,
            "voicemail": "hangup",
        },
    )


def test_a_call_without_settings_has_none() -> None:
    script = build_call(check_script({"greeting": "x"}), SCOPE, "+15550100").script
    assert script == {"greeting": "x", "steps": []}


def test_a_checked_script_stays_as_it_is() -> None:
    checked = check_script(SCRIPT)
    assert check_script(checked) == checked


def test_a_call_fails_on_a_missing_value_in_any_branch() -> None:
    script = check_script(
        {"greeting": "x", "steps": [GATHER, {**BRANCH, "default": [{**SPEAK, "text": "{{x}}"}]}]}
    )
    with pytest.raises(TemplateError, match=r"script\.steps\[1\]\.default\[0\]\.text"):
        build_call(script, SCOPE, "+15550100")
    with pytest.raises(InvalidInput, match="phone"):
        build_call(check_script({"greeting": "x"}), SCOPE, "jane")


def nested(depth: int) -> dict[str, Any]:
    step: dict[str, Any] = SPEAK
    for _ in range(depth):
        step = {"type": "branch", "on": "wish", "cases": {"1": [step]}}
    return {"greeting": "x", "steps": [GATHER, step]}


@pytest.mark.parametrize(
    "definition, field",
    [
        ([], "script"),
        ({}, "script.greeting"),
        ({"greeting": " "}, "script.greeting"),
        ({"greeting": "{{"}, "script.greeting"),
        ({"greeting": "x", "end": 1}, "script.end"),
        ({"greeting": "x", "steps": "speak"}, "script.steps"),
        ({"greeting": "x", "steps": [{}]}, "script.steps[0]"),
        ({"greeting": "x", "steps": [{"type": "sing"}]}, "script.steps[0]"),
        ({"greeting": "x", "steps": [{"type": "speak"}]}, "script.steps[0].text"),
        (
            {"greeting": "x", "steps": [{"type": "speak", "text": "{{/if}}"}]},
            "script.steps[0].text",
        ),
        ({"greeting": "x", "steps": [{**GATHER, "maxDigits": 0}]}, "script.steps[0].maxDigits"),
        ({"greeting": "x", "steps": [BRANCH]}, "script.steps[0].on"),
        ({"greeting": "x", "steps": [BRANCH, GATHER]}, "script.steps[0].on"),
        ({"greeting": "x", "steps": [GATHER, {**BRANCH, "cases": {}}]}, "script.steps[1].cases"),
        ({"greeting": "x", "steps": [SPEAK] * 201}, "script.steps"),
        (nested(20), "script.steps"),
    ],
)
def test_scripts_are_checked_when_published(definition: object, field: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        check_script(definition)
    assert raised.value.field == field


def test_branches_may_be_nested() -> None:
    assert check_script(nested(5))
