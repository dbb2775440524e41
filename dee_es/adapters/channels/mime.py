"""An email as bytes on the wire (RFC 5322, 2045-2047), made from an action and its context.

Written out here rather than by `email.message.EmailMessage`: that class decodes encoded words found
in values (so a contact's attribute could become a header), folds differently from one Python
release to the next, and takes ten times as long. What is needed is small: the same action and
context give the same bytes on every machine, and every value is checked or encoded before it
becomes part of a line.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import lru_cache
from typing import Final

from dee_es.core.contact import domain_in_ascii
from dee_es.core.messages.message import check_header, check_mailbox, split_mailbox
from dee_es.core.values import check_text
from dee_es.errors import InvalidInput
from dee_es.ports import Action, SendContext

_MAX_LINE: Final = 76
_MAX_URL: Final = 900
"""A header line may have 998 characters, and a URL cannot be folded."""

_KEY = re.compile(r"[A-Za-z0-9._-]{1,128}\Z")
_URL = re.compile(r"[!#-;=?-~]+\Z")  # printable ASCII without space, quotes and angle brackets
_PLAIN_HEADER = re.compile(r"[!-~]+(?: [!-~]+)*\Z")
_PHRASE = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?: [A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*\Z")
_SEVEN_BIT = re.compile(rb"(?:[\t -~]{0,900}\r\n)*\Z")
_BREAK = re.compile(r"\r\n|\r|\n")
_BODY_END = re.compile(r"</body\s*>", re.IGNORECASE)
_HTML: Final = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "\n": "<br>\n"}
_WORD_BYTES: Final = 39
"""Bytes in one encoded word: with the header's name, a line stays within the 76 allowed."""


@dataclass(frozen=True, slots=True)
class Mail:
    """A message with its envelope: exactly one recipient. `content` ends with CRLF.

    It is ASCII throughout unless `smtputf8`, when addresses are UTF-8 (RFC 6532).
    """

    sender: str = field(repr=False)
    recipient: str = field(repr=False)
    content: bytes = field(repr=False)
    smtputf8: bool


def build_mail(action: Action, context: SendContext) -> Mail:
    """The email of `action`. Raises `InvalidInput`, naming the field, if it would not be one.

    `List-Unsubscribe-Post` (one click) goes with HTTPS addresses only, as RFC 8058 requires; the
    sender's postal address is put under both texts.
    """
    message = action.message
    if not _KEY.match(action.key):
        raise InvalidInput("key", "is not an idempotency key")
    sender = domain_in_ascii(check_mailbox("sender.address", context.sender_address))
    recipient = domain_in_ascii(check_mailbox("to", message.to))
    domain = sender.rpartition("@")[2]
    lines = [
        "From: " + _mailbox("sender.name", context.sender_name or "", sender, 6),
        "To: " + recipient,
        "Subject: " + _unstructured(check_header("subject", message.subject or ""), 9),
        "Date: " + _date(context.time_ms),
        f"Message-ID: <{action.key}@{domain}>",
    ]
    if message.reply_to is not None:
        name, address = split_mailbox("reply_to", message.reply_to)
        lines.append("Reply-To: " + _mailbox("reply_to", name, domain_in_ascii(address), 10))
    if context.unsubscribe_url is not None:
        lines.extend(_unsubscribe(context.unsubscribe_url))
    lines.append("MIME-Version: 1.0")
    head = "\r\n".join(lines).encode() + b"\r\n"
    content = head + _body(action, context.postal_address)
    return Mail(sender, recipient, content, smtputf8=not head.isascii())


# --- headers ------------------------------------------------------------------------------------


def _mailbox(field_name: str, name: str, address: str, used: int) -> str:
    name = check_header(field_name, name).strip()
    if not name:
        return address
    if "=?" not in name and len(name) <= _MAX_LINE - used:
        if _PHRASE.match(name):
            return _joined(name, address, used)
        if name.isascii():
            quoted = name.replace("\\", "\\\\").replace('"', '\\"')
            return _joined(f'"{quoted}"', address, used)
    return f"{_encoded_words(name)}\r\n <{address}>"


def _joined(name: str, address: str, used: int) -> str:
    fold = "\r\n" if used + len(name) + len(address) + 3 > _MAX_LINE else ""
    return f"{name}{fold} <{address}>"


def _unstructured(value: str, used: int) -> str:
    """Text of a header: as it is where that is safe, folded at spaces, else in encoded words.

    What looks like an encoded word is encoded itself, so that a reader shows it instead of
    decoding it.
    """
    if not value:
        return ""
    if "=?" in value or not _PLAIN_HEADER.match(value):
        return _encoded_words(value)
    if used + len(value) <= _MAX_LINE:
        return value
    lines, line = [], ""
    for word in value.split(" "):
        if len(word) > _MAX_LINE - used - 1:
            return _encoded_words(value)
        if line and used + len(line) + 1 + len(word) > _MAX_LINE:
            lines.append(line)
            line, used = word, 1
        else:
            line = f"{line} {word}" if line else word
    return "\r\n ".join([*lines, line])


def _encoded_words(value: str) -> str:
    """Base64 words (RFC 2047) of whole characters; readers drop the white space between them."""
    words, chunk = [], b""
    for char in value:
        coded = char.encode()
        if len(chunk) + len(coded) > _WORD_BYTES:
            words.append(chunk)
            chunk = b""
        chunk += coded
    words.append(chunk)
    return "\r\n ".join(f"=?utf-8?B?{base64.b64encode(word).decode()}?=" for word in words)


@lru_cache(maxsize=64)
def _date(time_ms: int) -> str:
    try:
        return format_datetime(datetime.fromtimestamp(time_ms // 1000, UTC))
    except (OverflowError, ValueError, OSError):
        raise InvalidInput("time", "is outside of the years 1 to 9999") from None


def _unsubscribe(url: str) -> Iterator[str]:
    if not _URL.match(url) or len(url) > _MAX_URL:
        raise InvalidInput("unsubscribe_url", "is not a URL that a header can hold")
    yield f"List-Unsubscribe: <{url}>"
    if url[:8].lower() == "https://":
        yield "List-Unsubscribe-Post: List-Unsubscribe=One-Click"


# --- bodies -------------------------------------------------------------------------------------


def _body(action: Action, postal_address: str | None) -> bytes:
    message = action.message
    if message.text is None and message.html is None:
        raise InvalidInput("text", "is missing: the message has no text at all")
    boundary = f"=_dee_{action.key[:32]}"
    parts = []
    if message.text is not None:
        parts.append(_part("plain", check_text("text", message.text), postal_address, boundary))
    if message.html is not None:
        parts.append(_part("html", check_text("html", message.html), postal_address, boundary))
    if len(parts) == 1:
        return parts[0]
    mark = f"--{boundary}".encode()
    return b"".join(
        (
            f'Content-Type: multipart/alternative;\r\n boundary="{boundary}"\r\n\r\n'.encode(),
            *(mark + b"\r\n" + part + b"\r\n" for part in parts),
            mark + b"--\r\n",
        )
    )


def _part(kind: str, text: str, postal_address: str | None, boundary: str) -> bytes:
    """One part with its headers; ends with CRLF."""
    if postal_address is not None and postal_address.strip():
        address = _BREAK.sub("\n", check_text("sender.postal_address", postal_address)).strip()
        text = _html_footer(text, address) if kind == "html" else f"{text.rstrip()}\n\n{address}\n"
    data = _BREAK.sub("\r\n", text).encode()
    if not data.endswith(b"\r\n"):
        data += b"\r\n"
    encoding, coded = _encoded(data, boundary.encode())
    head = (
        f'Content-Type: text/{kind}; charset="utf-8"\r\nContent-Transfer-Encoding: {encoding}\r\n'
    )
    return head.encode() + b"\r\n" + coded


def _encoded(data: bytes, boundary: bytes) -> tuple[str, bytes]:
    """The transfer encoding, chosen by the content alone: as it is, mostly readable, or packed."""
    if data.isascii() and boundary not in data and _SEVEN_BIT.match(data):
        return "7bit", data
    # Quoted-printable spends three bytes on each that is not ASCII, base64 four on three of any.
    if len(data.translate(None, bytes(range(128)))) * 6 > len(data):
        packed = base64.b64encode(data).decode()
        lines = (packed[at : at + _MAX_LINE] for at in range(0, len(packed), _MAX_LINE))
        return "base64", "\r\n".join(lines).encode() + b"\r\n"
    return "quoted-printable", binascii.b2a_qp(data, istext=True)


def _html_footer(html: str, address: str) -> str:
    escaped = "".join(_HTML.get(char, char) for char in address)
    footer = f"<p>{escaped}</p>\n"
    ends = list(_BODY_END.finditer(html))
    if not ends:
        return f"{html.rstrip()}\n{footer}"
    return html[: ends[-1].start()] + footer + html[ends[-1].start() :]
