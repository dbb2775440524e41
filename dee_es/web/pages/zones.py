"""The time zone in which somebody wants to read times; what is typed without a zone stays UTC."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import Form, Request, Response

from dee_es.errors import InvalidInput
from dee_es.web.pages import rendering, times
from dee_es.web.routing import VIEWER, EngineDep, SettingsDep, page_router

router: Final = page_router()

_KEPT_S: Final = 365 * 86_400


@router.get("/time-zone", openapi_extra=VIEWER)
def ask(request: Request, engine: EngineDep) -> Response:
    """Where a zone is chosen."""
    return rendering.page(request, engine, "time_zone.html", zones=times.known())


@router.post("/time-zone", openapi_extra=VIEWER)
def choose(settings: SettingsDep, zone: Annotated[str, Form(max_length=100)] = "UTC") -> Response:
    """Remember a zone in this browser."""
    if zone not in times.known():
        raise InvalidInput("zone", "is none of the time zones that are known here")
    answer = rendering.see("/time-zone", {"done": "zone"})
    answer.set_cookie(
        times.COOKIE,
        zone,
        max_age=_KEPT_S,
        path="/",
        secure=settings.secure_cookies,
        httponly=True,
        samesite="lax",
    )
    return answer
