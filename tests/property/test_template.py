"""Templates and mail for any input: an error of ours or a result, and never anything else."""

from __future__ import annotations

from email import message_from_bytes
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from dee_es.adapters.channels.mime import build_mail
from dee_es.core.messages.template import TemplateError, parse, paths, render
from dee_es.errors import InvalidInput
from tests.support.channels.mail import CONTEXT, an_email, decoded, parts

NAMES = st.sampled_from(["a", "b", "items", "__class__", "__init__", "x y", "0", "keys", "é"])
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)
SCOPES = st.dictionaries(NAMES, VALUES, max_size=6)
PIECES = st.sampled_from(
    [
        *("{{", "}}", "{{{", "}}}", "#", "/", "if", "each", "unless", "else", "{{else}}", "^", "~"),
        *(
            "{{#if a}}",
            "{{/if}}",
            "{{#each items}}",
            "{{/each}}",
            "{{this}}",
            "{{@index}}",
            "!",
            "--",
        ),
        *(
            "a",
            "b.x",
            "items.0",
            ".",
            "..",
            " ",
            "\n",
            "\r\n",
            "\\",
            "[",
            "]",
            "[x y]",
            "<",
            "é",
            "@",
        ),
    ]
)
TEXTS = st.text() | st.lists(PIECES, max_size=25).map("".join)


class Trap:
    """What must never be touched: each way to look at it fails the test."""

    def __getattribute__(self, name: str) -> Any:
        if name == "__class__":  # isinstance may ask
            return Trap
        raise AssertionError(f"{name} was read")

    def __str__(self) -> str:
        raise AssertionError("was turned into text")

    def __bool__(self) -> bool:
        raise AssertionError("was asked whether it is true")


@given(TEXTS, SCOPES, st.booleans())
def test_it_renders_or_says_where_it_cannot(text: str, scope: Any, escape: bool) -> None:
    try:
        template = parse(text)
        first = render(template, scope, escape=escape)
    except TemplateError as error:
        assert_inside(text, error)
        return
    assert parse(text) == template
    assert render(template, scope, escape=escape) == first


def assert_inside(text: str, error: TemplateError) -> None:
    lines = text.split("\n")
    assert 1 <= error.line <= len(lines)
    assert 1 <= error.column <= len(lines[error.line - 1]) + 1


@given(TEXTS)
def test_no_python_object_can_be_reached(text: str) -> None:
    trap = Trap()
    scope: dict[str, Any] = {"a": trap, "b": {"x": trap}, "items": [trap], "é": trap}
    try:
        template = parse(text)
        result = render(template, scope, escape=False)
    except TemplateError:
        return
    assert "object at 0x" not in result
    assert all(isinstance(path, str) for path in paths(template))


@given(st.text())
def test_no_value_opens_a_tag_in_html(value: str) -> None:
    template = parse("<a title=\"{{x}}\" id='{{x}}' class={{x}}>{{x}}</a>")
    shown = render(template, {"x": value}, escape=True)
    inside = shown.removeprefix('<a title="').removesuffix("</a>")
    assert inside.count("<") == 0
    assert shown.count(">") == 2
    assert shown.count('"') == shown.count("'") == 2
    assert shown.count("=") == 3
    assert render(parse("{{x}}"), {"x": value}, escape=False) == value


@given(st.text(st.characters(exclude_characters="{\\")))
def test_text_without_braces_means_itself(text: str) -> None:
    assert render(parse(text), {}, escape=True) == text


@given(SCOPES)
def test_what_is_in_a_value_is_never_read_as_a_template(scope: Any) -> None:
    scope["a"] = "{{b}}{{#if x}}"
    assert render(parse("{{a}}"), scope, escape=False) == "{{b}}{{#if x}}"


# --- mail ---------------------------------------------------------------------------------------

LINES = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=120)
BODIES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=400)


@given(LINES, LINES, BODIES, BODIES)
def test_a_mail_says_what_it_was_given(subject: str, name: str, text: str, html: str) -> None:
    context = msgspec.structs.replace(CONTEXT, sender_name=name, postal_address=None)
    mail = build_mail(an_email(subject=subject, text=text, html=html), context)
    assert mail.content.isascii()
    lines = mail.content.split(b"\r\n")
    assert all(len(line) <= 998 and b"\r" not in line and b"\n" not in line for line in lines)
    parsed = message_from_bytes(mail.content)
    assert decoded(parsed["Subject"]) == subject
    assert parsed["From"].endswith("<sales@acme.example>" if name.strip() else "sales@acme.example")
    assert parts(parsed) == [plain(text), plain(html)]


@given(st.text(), st.text(), st.text(), st.text())
def test_a_mail_is_made_or_refused(to: str, subject: str, name: str, url: str) -> None:
    context = msgspec.structs.replace(CONTEXT, sender_name=name, unsubscribe_url=url)
    try:
        mail = build_mail(an_email(to=to, subject=subject), context)
    except InvalidInput:
        return
    assert mail == build_mail(an_email(to=to, subject=subject), context)
    head = mail.content.partition(b"\r\n\r\n")[0]
    assert head.count(b"\r\nTo: ") == 1
    assert mail.recipient == to.strip()


def plain(text: str) -> str:
    """The text with plain line ends, one of them last."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text if text.endswith("\n") else f"{text}\n"
