"""Signed links in messages: to unsubscribe, to see that a message was opened, and on to a page.

A link says whom it is about in the engine's own opaque names and is signed for its one purpose, so
nothing has to be kept for it and it is of no use for anything else. It holds no personal data but
the page that a link of the purpose `click` leads to. Links do not expire: a message is read when
somebody reads it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args
from urllib.parse import urlsplit

from dee_es.core.ids import length_prefixed
from dee_es.core.values import check_id, check_url
from dee_es.errors import InvalidInput

Purpose = Literal["unsubscribe", "open", "click"]
LEAST_SECRET: Final = 32
"""Fewest characters of a secret."""
MOST_TARGET: Final = 2_000
_MOST_BASE: Final = 300
"""A link to unsubscribe has to fit into one line of a header."""
_MAC_BYTES: Final = 16
_PURPOSES: Final[tuple[Purpose, ...]] = get_args(Purpose)
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{1,4000}\.[A-Za-z0-9_-]{22}\Z")
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class Link:
    """What a link is about: a contact, maybe one of its runs with a step and a message of it
    (the engine's own id), and for `click` the page to go on to."""

    contact_id: str
    run_id: str | None = None
    step_id: str | None = None
    message_id: str | None = None
    target: str | None = None

    def event_id(self, purpose: Purpose) -> str:
        """The id of the channel event that following it means: the same however often."""
        parts = [purpose, *(value or "" for value in _held(self))]
        digest = hashlib.sha256(length_prefixed([part.encode() for part in parts]))
        return f"link-{digest.hexdigest()[:48]}"


class Links:
    """Makes links under a public address, and reads what was made under one of the secrets."""

    def __init__(self, public_url: str, secrets: str) -> None:
        """`secrets` are separated by spaces: the first one signs, all of them are believed.

        Raises `InvalidInput` naming the setting.
        """
        self._base = _checked_base(public_url)
        given = secrets.split()
        if not given or any(len(secret) < LEAST_SECRET for secret in given):
            raise InvalidInput("link_secret", f"needs {LEAST_SECRET} characters or more")
        # A key for each purpose: no link can be taken for one of another.
        self._keys = {
            purpose: [_derived(secret, purpose) for secret in given] for purpose in _PURPOSES
        }

    def __repr__(self) -> str:
        return f"Links({self._base!r})"

    @property
    def general_unsubscribe(self) -> str:
        """The address for unsubscribing that is nobody's own; where a message that is sent has it,
        its contact's own link takes its place."""
        return f"{self._base}/hooks/unsubscribe"

    def unsubscribe(
        self, contact_id: str, *, run_id: str | None = None, step_id: str | None = None
    ) -> str:
        """Where the contact unsubscribes from everything. Raises `InvalidInput`."""
        link = _checked(Link(contact_id, run_id, step_id))
        return f"{self._base}/hooks/unsubscribe/{self.seal('unsubscribe', link)}"

    def open(
        self,
        contact_id: str,
        *,
        run_id: str | None = None,
        step_id: str | None = None,
        message_id: str | None = None,
    ) -> str:
        """An image of one pixel that tells when it is shown. Raises `InvalidInput`."""
        link = _checked(Link(contact_id, run_id, step_id, message_id))
        return f"{self._base}/hooks/open/{self.seal('open', link)}.gif"

    def click(
        self,
        contact_id: str,
        target: str,
        *,
        run_id: str | None = None,
        step_id: str | None = None,
        message_id: str | None = None,
    ) -> str:
        """A link that tells and goes on to `target`, an http or https URL without a user name.

        Raises `InvalidInput`.
        """
        link = _checked(Link(contact_id, run_id, step_id, message_id, checked_target(target)))
        return f"{self._base}/hooks/click/{self.seal('click', link)}"

    def seal(self, purpose: Purpose, link: Link) -> str:
        """The link as text that needs no escaping in a URL."""
        payload = json.dumps(_held(link), separators=(",", ":")).encode()
        return f"{_text(payload)}.{_text(_mac(self._keys[purpose][0], payload))}"

    def read(self, purpose: Purpose, token: str) -> Link | None:
        """What a token says; None unless it was sealed here, for this purpose, and as it is."""
        if _TOKEN.match(token) is None:
            return None
        body, _, mac = token.partition(".")
        payload, given = _bytes(body), _bytes(mac)
        found = False
        for key in self._keys[purpose]:
            found |= hmac.compare_digest(given, _mac(key, payload))
        # Of several spellings in base64 only the one that was made counts.
        if not found or _text(payload) != body or _text(given) != mac:
            return None
        held: list[Any] = json.loads(payload)
        return Link(*held)


def checked_target(target: str) -> str:
    """`target` if a link may lead there; raises `InvalidInput`."""
    check_url("target", target)
    try:
        parts = urlsplit(target)
        usable = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        raise InvalidInput("target", "is not a URL") from None
    # Browsers read a backslash as a slash, and what stands before an @ passes for the host.
    if not usable or "@" in parts.netloc or "\\" in target:
        raise InvalidInput("target", "must be a URL with a host and without a user name")
    if len(target) > MOST_TARGET:
        raise InvalidInput("target", f"is longer than {MOST_TARGET} characters")
    return target


def _checked(link: Link) -> Link:
    check_id("contact_id", link.contact_id)
    for name in ("run_id", "step_id", "message_id"):
        value = getattr(link, name)
        if value is not None:
            check_id(name, value)
    return link


def _checked_base(url: str) -> str:
    check_url("public_url", url)
    try:
        parts = urlsplit(url)
        usable = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        raise InvalidInput("public_url", "is not a URL") from None
    if not usable or "@" in parts.netloc or "\\" in url or parts.query or parts.fragment:
        raise InvalidInput("public_url", "must be a URL without user name, query and fragment")
    if len(url) > _MOST_BASE:
        raise InvalidInput("public_url", f"is longer than {_MOST_BASE} characters")
    if parts.scheme != "https" and parts.hostname not in _LOOPBACK:
        raise InvalidInput("public_url", "must begin with https://")
    return url.rstrip("/")


def _held(link: Link) -> list[str | None]:
    return [link.contact_id, link.run_id, link.step_id, link.message_id, link.target]


def _derived(secret: str, purpose: str) -> bytes:
    return hmac.digest(secret.encode(), b"dee-es link 1 " + purpose.encode(), hashlib.sha256)


def _mac(key: bytes, payload: bytes) -> bytes:
    return hmac.digest(key, payload, hashlib.sha256)[:_MAC_BYTES]


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError:
        return b""
