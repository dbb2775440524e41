"""Twilio's signature of its requests, header `X-Twilio-Signature`.

HMAC-SHA1 under the account's auth token, as base64, over the URL followed by the names and values
of the form, sorted by name, without anything between them. A body that is no form is covered by the
URL's own `bodySHA256` instead. (https://www.twilio.com/docs/usage/security)
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable
from typing import Final
from urllib.parse import parse_qs, urlsplit

_PORTS: Final = {"https": 443, "http": 80}


def sign(auth_token: str, url: str, form: Iterable[tuple[str, str]] = ()) -> str:
    """The signature of a request to `url` with this form. Equal pairs count once."""
    text = url + "".join(name + value for name, value in sorted(set(form)))
    mac = hmac.digest(auth_token.encode(), text.encode(), hashlib.sha1)
    return base64.b64encode(mac).decode()


def is_signed(
    auth_token: str,
    url: str,
    form: Iterable[tuple[str, str]],
    body: bytes,
    signature: str,
    fragment: str = "",
) -> bool:
    """Whether `signature` is Twilio's for this request; `url` is the one that Twilio was given.

    Twilio has signed URLs with and without the port that goes without saying, and it is not
    documented whether with the `fragment` that asks it to try again: any of them will do.
    """
    pairs = list(form)
    digest = parse_qs(urlsplit(url).query).get("bodySHA256")
    if digest is not None:
        if not hmac.compare_digest(digest[0].lower().encode(), _sha256(body)):
            return False
        pairs = []
    # Every form is compared, so that the time taken does not tell which one was near.
    found = False
    for each in _spellings(url):
        for signed in {each, each + fragment}:
            found |= hmac.compare_digest(
                sign(auth_token, signed, pairs).encode(), signature.encode()
            )
    return found


def _sha256(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest().encode()


def _spellings(url: str) -> set[str]:
    parts = urlsplit(url)
    host = parts.hostname or ""
    if ":" in host:
        host = f"[{host}]"
    port = parts.port or _PORTS.get(parts.scheme, 0)
    return {url} | {
        parts._replace(netloc=netloc).geturl()
        for netloc in ((f"{host}:{port}", host) if port == _PORTS.get(parts.scheme) else ())
    }
