"""What the webhooks read from a request, and how they refuse one."""

from __future__ import annotations

from fastapi import Request

from dee_es.web.problems import Refused


def raw_body(request: Request) -> bytes:
    """The body as it came, which is what was signed; it was read within bounds before."""
    body: bytes = request.scope["dee.body"]
    return body


def not_set_up() -> Refused:
    """The refusal of what this server has no secret for: as if it were not there."""
    return Refused(404, "NotFound", "there is nothing at this address")
