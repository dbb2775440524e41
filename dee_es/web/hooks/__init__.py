"""Webhooks: routers under /hooks/, called by other services and by those who read messages.

    email.py        what happened to messages, signed as in Standard Webhooks
    calls.py        what Twilio tells and asks about calls, signed by Twilio
    unsubscribe.py  one-click unsubscribing (RFC 8058), by a signed link
    tracking.py     messages opened and links followed, by signed links
    signatures.py   the check of a webhook's signature

Nobody is signed in there and no CSRF token is asked for: each handler checks the signature of what
it is told before it believes any of it. Routers made by `dee_es.web.routing.hook_router` go into
`ROUTERS`. Host names, body size, JSON depth and request rate are checked as everywhere.
"""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter

from dee_es.web.hooks import calls, email, tracking, unsubscribe

ROUTERS: Final[tuple[APIRouter, ...]] = (
    email.router,
    calls.router,
    unsubscribe.router,
    tracking.router,
)
