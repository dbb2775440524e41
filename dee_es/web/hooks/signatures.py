"""The signature of a webhook, as in Standard Webhooks (https://www.standardwebhooks.com).

`webhook-signature` holds, separated by spaces, `v1,` and the base64 of HMAC-SHA256 over
`<webhook-id>.<webhook-timestamp>.<raw body>`. The id is part of what is signed, so a message that
was overheard cannot be told again under another one; under its own it is known.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Sequence
from typing import Final

from starlette.types import Scope

from dee_es.web.problems import Refused
from dee_es.web.security.scopes import header

TOLERANCE_S: Final = 300
"""Seconds by which the sender's clock may differ from ours."""
_MOST_SIGNATURES: Final = 10
# Without a dot, so that id, time and body can be told apart in one way only.
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,128}\Z")
_TIME: Final = re.compile(r"[0-9]{1,12}\Z")


def sign(key: bytes, webhook_id: str, timestamp: str, body: bytes) -> str:
    """The signature of a message."""
    signed = f"{webhook_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


def verified(keys: Sequence[bytes], scope: Scope, body: bytes, now: float) -> str:
    """The id of a message that was signed with one of the keys, within five minutes of `now`.

    Raises `Refused`.
    """
    webhook_id = header(scope, b"webhook-id") or ""
    timestamp = header(scope, b"webhook-timestamp") or ""
    given = (header(scope, b"webhook-signature") or "").split(" ")[:_MOST_SIGNATURES]
    if _ID.match(webhook_id) is None or _TIME.match(timestamp) is None:
        raise _refused("webhook-id, webhook-timestamp and webhook-signature are needed")
    found = False
    # All are compared, so that the time taken does not tell which one was near.
    for key in keys:
        made = sign(key, webhook_id, timestamp, body).encode()
        for each in given:
            found |= hmac.compare_digest(made, each.encode("latin-1"))
    if not found:
        raise _refused("the signature is not one of ours")
    if abs(now - int(timestamp)) > TOLERANCE_S:
        raise _refused(f"webhook-timestamp is more than {TOLERANCE_S} seconds off")
    return webhook_id


def _refused(detail: str) -> Refused:
    return Refused(401, "SignatureRefused", detail)
