"""Webhooks: routers under /hooks/, called by other services.

Nobody is signed in there and no CSRF token is asked for: each handler checks the signature of what
it is told before it believes any of it. Routers made by `dee_es.web.routing.hook_router` go into
`ROUTERS`. Host names, body size, JSON depth and request rate are checked as everywhere.
"""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter

ROUTERS: Final[tuple[APIRouter, ...]] = ()
