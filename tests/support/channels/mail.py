"""Actions to send, and values that try to become more than they are."""

from __future__ import annotations

import email.header
import hashlib
from email.message import Message as Parsed
from typing import Any

import msgspec

from dee_es.core.events import Message
from dee_es.ports import Action, SendContext

CONTEXT = SendContext(
    sender_address="sales@acme.example",
    sender_name="Acme Sales",
    postal_address="Acme Ltd, 1 High Street\nLondon",
    time_ms=1_740_821_400_000,  # 2025-03-01 09:30:00 UTC
    unsubscribe_url="https://acme.example/u?c=1&s=abc",
)
SCRIPT = {"greeting": "Hello Jane", "steps": [{"type": "speak", "text": "Good-bye"}]}

_KEYS: dict[str, Any] = {
    "run_id": f"run_{'a' * 26}",
    "step_id": "intro",
    "attempt": 1,
}


def an_email(seed: object = 0, **changes: Any) -> Action:
    """An email to send; `changes` are fields of the action, or else of the message."""
    ours = {**_KEYS, **{name: changes.pop(name) for name in list(changes) if name in _KEYS}}
    given: dict[str, Any] = {
        "to": "jane@example.com",
        "subject": "Hello Jane",
        "text": "Hi Jane,\nwelcome.\n",
        "html": "<p>Hi <b>Jane</b></p>",
        **changes,
    }
    return Action(channel="email", key=key(seed), message=Message(**given), **ours)


def a_call(seed: object = 0, **changes: Any) -> Action:
    """A call to place."""
    given: dict[str, Any] = {"to": "+15550100", "script": SCRIPT, **changes}
    return Action(channel="voice", key=key(seed), message=Message(**given), **_KEYS)


def key(seed: object) -> str:
    """An idempotency key."""
    return hashlib.sha256(repr(seed).encode()).hexdigest()


HEADERS = [
    "From",
    "To",
    "Subject",
    "Date",
    "Message-ID",
    "Reply-To",
    "List-Unsubscribe",
    "List-Unsubscribe-Post",
    "MIME-Version",
    "Content-Type",
]
"""The headers of an email with everything, in order."""


def context(**changes: Any) -> SendContext:
    """The context of a send, with `changes`."""
    return msgspec.structs.replace(CONTEXT, **changes)


def decoded(value: str) -> str:
    """A header as a reader shows it."""
    return str(email.header.make_header(email.header.decode_header(value)))


def parts(mail: Parsed) -> list[str]:
    """The texts of a message, decoded, with plain line ends."""
    return [
        part.get_payload(decode=True).decode().replace("\r\n", "\n")  # type: ignore[union-attr]
        for part in mail.walk()
        if not part.is_multipart()
    ]


_EVIL = "Bcc: evil@evil.example"
INJECTIONS: tuple[str, ...] = (
    # line ends of every kind, in front of a header of one's own
    f"x\r\n{_EVIL}",
    f"x\n{_EVIL}",
    f"x\r{_EVIL}",
    f"x\r\n {_EVIL}",
    f"x\r\n\t{_EVIL}",
    f"x\n\n{_EVIL}",
    f"x\r\n\r\n{_EVIL}\r\n\r\nbody",
    f"x\x0b{_EVIL}",
    f"x\x0c{_EVIL}",
    f"x\x1c{_EVIL}",
    f"x\x1d{_EVIL}",
    f"x\x1e{_EVIL}",
    f"x\x85{_EVIL}",
    f"x\u2028{_EVIL}",
    f"x\u2029{_EVIL}",
    f"x\x00\r\n{_EVIL}",
    f"x\x00{_EVIL}",
    f"\r\n{_EVIL}",
    f"{_EVIL}\r\n",
    "x\r\n",
    "\r\n.\r\nMAIL FROM:<evil@evil.example>\r\n",
    "\n.\nRCPT TO:<evil@evil.example>\n",
    ".\r\n",
    ".",
    "x\r\n.\r\nQUIT\r\n",
    # what a careless encoder or decoder turns into a line end
    f"x%0d%0a{_EVIL}",
    f"x%0A{_EVIL}",
    f"x\\r\\n{_EVIL}",
    f"x&#13;&#10;{_EVIL}",
    f"x\u010d\u010a{_EVIL}",
    f"x\uff0d\uff0a{_EVIL}",
    f"x\u560d\u560a{_EVIL}",
    f"x=0D=0A{_EVIL}",
    f"x\ufeff\r\n{_EVIL}",
    # encoded words
    "=?utf-8?q?x=0d=0aBcc:_evil@evil.example?=",
    "=?utf-8?b?eA0KQmNjOiBldmlsQGV2aWwuZXhhbXBsZQ==?=",
    "=?utf-7?q?x+AA0ACg-Bcc:_evil@evil.example?=",
    "=?us-ascii?Q?evil@evil.example?=, jane@example.com",
    "=?utf-8?q?unfinished",
    "=?utf-8?q?a?= =?utf-8?q?=2C_evil@evil.example?=",
    # more than one recipient, or another one
    "jane@example.com, evil@evil.example",
    "jane@example.com; evil@evil.example",
    "jane@example.com,evil@evil.example",
    "jane@example.com evil@evil.example",
    "jane@example.com\tevil@evil.example",
    "jane@example.com>,<evil@evil.example",
    "jane@example.com> RCPT TO:<evil@evil.example",
    "<evil@evil.example> jane@example.com",
    "Jane <evil@evil.example>",
    '"jane@example.com" <evil@evil.example>',
    "jane@example.com (comment) , evil@evil.example",
    "friends: jane@example.com, evil@evil.example;",
    "@evil.example:jane@example.com",
    "jane@example.com@evil.example",
    "jane%evil.example@example.com",
    "jane@example.com\u200b",
    "jane\u200d@example.com",
    "jane@example.com\u202e",
    "\u202emoc.elpmaxe@enaj",
    "\u200fjane@example.com",
    "jane@example\uff0ecom",
    "jane\uff20evil.example",
    "jane@example.com\uff0cevil@evil.example",
    "jane@exam\u00adple.com",
    "jane@[127.0.0.1]",
    "jane@example.com SIZE=1 BODY=8BITMIME",
    # quoting, parts and surrogates
    '"; filename="x.exe',
    "\\",
    '\\"',
    '"',
    "<script>alert(1)</script>",
    "--=_dee_",
    "Content-Type: text/html\r\n\r\n<b>x</b>",
    "\ud800",
    "x\udc0ax",
    "\u202e\u2066\u2069 right to left",
    "e\u0301" * 40,
    "x" * 3_000,
    "\U0001f600" * 200,
    "",
    " ",
)
"""At least 60 strings for any place where a value can stand."""
