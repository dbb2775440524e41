"""Callbacks about calls: Twilio's requests, checked, recorded and answered as by `dee worker`."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import Path, Request, Response

from dee_es.web.hooks.requests import not_set_up, raw_body
from dee_es.web.routing import SettingsDep, hook_router

router: Final = hook_router()


@router.post("/twilio/{kind}/{token}")
def twilio(
    request: Request,
    settings: SettingsDep,
    kind: Annotated[str, Path(max_length=16)],
    token: Annotated[str, Path(max_length=4_000)],
) -> Response:
    """Answer a callback; `DEE_TWILIO_CALLBACK_URL` is the public address of /hooks/twilio."""
    calls = settings.hooks.calls
    if calls is None:
        raise not_set_up()
    query = request.url.query
    url = f"/{kind}/{token}" + (f"?{query}" if query else "")
    reply = calls.answer("POST", url, dict(request.headers.items()), raw_body(request))
    return Response(reply.body, reply.status, {"Content-Type": reply.content_type})
