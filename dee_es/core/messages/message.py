"""From definitions and values to the message that is handed to a channel.

What is rendered here goes into the log and is sent as it is, so every rule about what a header or
an address may hold is applied before anything is decided: a step fails here rather than in a
channel. Errors name the field and never its value.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

import msgspec

from dee_es.core.contact import check_phone, check_shape
from dee_es.core.events import Message
from dee_es.core.messages.script import check_script, texts_applied
from dee_es.core.messages.template import Template, TemplateError, parse, render
from dee_es.core.values import check_map, check_text
from dee_es.errors import InvalidInput

__all__ = [
    "MAX_MESSAGE_BYTES",
    "build_call",
    "build_email",
    "check_header",
    "check_header_template",
    "check_mailbox",
    "check_script",
    "check_template",
    "message_digest",
    "message_id",
    "split_mailbox",
]

MAX_MESSAGE_BYTES: Final = 240 * 1024
"""Largest message as JSON, in bytes: it has to fit into an event's payload."""
MAX_HEADER: Final = 500
"""Longest subject or display name, in characters."""

# "sorted", unlike "deterministic", does not depend on the order of the fields in `Message` either.
_encoder: Final = msgspec.json.Encoder(order="sorted")
# Whatever ends a line for some reader, and what has no place in a header at all.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_ATEXT = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]+\Z")
_DOMAIN = re.compile(r"[A-Za-z0-9.-]+\Z")
_ESCAPED = re.compile(r"\\(.)")
_NAMED = re.compile(r"(?P<name>[^<>]*)<(?P<address>[^<>]+)>\Z")


def build_email(
    subject_template: str,
    template_definition: Mapping[str, Any],
    scope: Mapping[str, object],
    to: str,
    reply_to: str | None = None,
) -> Message:
    """The email to `to`, rendered from the step's subject and the template's `text` and `html`.

    `reply_to` is a template too, of `address` or `Name <address>`. Only values in the HTML part are
    escaped. Raises `TemplateError` naming the part and the path of a missing value, and
    `InvalidInput` naming the field.
    """
    subject = check_header("subject", _render("subject", subject_template, scope))
    if not subject.strip():
        raise InvalidInput("subject", "is blank once its values are filled in")
    reply = None
    if reply_to is not None:
        reply = check_header("reply_to", _render("reply_to", reply_to, scope)).strip()
        split_mailbox("reply_to", reply)
    html = template_definition.get("html")
    message = Message(
        to=check_mailbox("contact.email", to),
        subject=subject,
        text=check_text("text", _render("text", template_definition["text"], scope)),
        html=None
        if html is None
        else check_text("html", _render("html", html, scope, escape=True)),
        reply_to=reply,
    )
    return _fitting(message)


def build_call(
    script_definition: Mapping[str, Any],
    scope: Mapping[str, object],
    to: str,
    caller_id: str | None = None,
    max_duration: int | None = None,
    voicemail: str | None = None,
) -> Message:
    """The call to `to`: the script with all its texts rendered, and the step's settings.

    `script_definition` is what `check_script` gave; `max_duration` is in seconds. Settings that are
    None are left out. Raises `TemplateError` and `InvalidInput` as `build_email` does.
    """
    script = texts_applied(
        script_definition, lambda field, text: check_text(field, _render(field, text, scope))
    )
    settings = {"callerId": caller_id, "maxDuration": max_duration, "voicemail": voicemail}
    script.update({name: value for name, value in settings.items() if value is not None})
    if caller_id is not None:
        check_header("caller_id", caller_id)
    return _fitting(Message(to=check_phone("contact.phone", to), script=script))


def message_digest(message: Message) -> str:
    """SHA-256, as 64 hex digits, of the message as JSON with sorted keys and without defaults."""
    return hashlib.sha256(_encoder.encode(message)).hexdigest()


def message_id(key: str) -> str:
    """The engine's own id of a message: the same for every attempt under one idempotency key."""
    return f"msg_{key[:32]}"


def check_template(definition: object) -> dict[str, Any]:
    """The definition of a message template, `text` and maybe `html`, in its one stored form.

    Raises `InvalidInput` naming the field, with line and column of what is wrong inside of it.
    """
    given = check_map("template", definition)
    for name in given:
        if name not in ("text", "html"):
            raise InvalidInput(f"template.{name[:64]}", "is not known; there are text and html")
    checked = {"text": check_text("template.text", given.get("text"), blank=False)}
    if given.get("html") is not None:
        checked["html"] = check_text("template.html", given["html"], blank=False)
    for name, text in checked.items():
        try:
            _parsed(text)
        except TemplateError as error:
            raise InvalidInput(f"template.{name}", str(error)) from None
    return checked


def check_header(field: str, value: str) -> str:
    """Return `value` if it can stand in a header; raises `InvalidInput` if it could end one."""
    if _CONTROL.search(value):
        raise InvalidInput(field, "holds a line break or another control character")
    if len(value) > MAX_HEADER:
        raise InvalidInput(field, f"is longer than {MAX_HEADER} characters")
    return value


def check_header_template(field: str, text: str, *, mailbox: bool = False) -> None:
    """Refuse a template for a header that would fail whatever the values are: one that is none, or
    whose own words cannot stand there. Raises `TemplateError` and `InvalidInput`."""
    nodes = _parsed(text).nodes
    words = [node for node in nodes if isinstance(node, str)]
    fixed = check_header(field, "".join(words))
    if len(words) < len(nodes):
        return
    if not fixed.strip():
        raise InvalidInput(field, "is blank")
    if mailbox:
        split_mailbox(field, fixed)


def check_mailbox(field: str, value: object) -> str:
    """Return `value` if it is one address that no mail program can read as anything else.

    Stricter than what a contact may have: outside of ASCII only letters, marks and digits, and
    nothing that looks like an encoded word. Raises `InvalidInput`.
    """
    address = check_shape(field, value)
    local, _, domain = address.rpartition("@")
    if "=?" in local:
        raise InvalidInput(field, "holds an encoded word, which readers would decode")
    if _ATEXT.match(local) and _DOMAIN.match(domain):
        return address
    for part, ascii_part in ((local, _ATEXT), (domain, _DOMAIN)):
        plain = "".join(char for char in part if char.isascii())
        if plain and not ascii_part.match(plain):
            raise InvalidInput(field, "holds a character that has no place in an address")
        # Letters, marks and digits only: what is left are marks that some program takes for a
        # dot or a comma, and characters that nobody sees.
        if any(unicodedata.category(char)[0] not in "LMN" for char in part if not char.isascii()):
            raise InvalidInput(field, "holds a character that has no place in an address")
    return address


def split_mailbox(field: str, value: str) -> tuple[str, str]:
    """Display name (maybe empty) and address of `address` or `Name <address>`, one and no more."""
    named = _NAMED.match(value.strip())
    if named is None:
        return "", check_mailbox(field, value)
    name = check_header(field, named["name"].strip())
    if len(name) > 1 and name[0] == name[-1] == '"':
        name = _ESCAPED.sub(r"\1", name[1:-1])
    return name, check_mailbox(field, named["address"])


@lru_cache(maxsize=256)
def _parsed(text: str) -> Template:
    """Templates are few and contacts many, so each text is parsed once."""
    return parse(text)


def _render(part: str, text: str, scope: Mapping[str, object], *, escape: bool = False) -> str:
    try:
        return render(_parsed(text), scope, escape=escape)
    except TemplateError as error:
        raise TemplateError(error.line, error.column, error.problem, part) from None


def _fitting(message: Message) -> Message:
    size = len(_encoder.encode(message))
    if size > MAX_MESSAGE_BYTES:
        problem = f"{size} bytes are more than the {MAX_MESSAGE_BYTES} a message may have"
        raise InvalidInput("message", problem)
    return message
