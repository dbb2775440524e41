"""How everything stands, with every problem in a sentence."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from dee_es.web.pages import rendering
from dee_es.web.routing import VIEWER, EngineDep, page_router

router: Final = page_router()
open_router: Final = APIRouter(include_in_schema=False)
"""For what a browser asks for before anybody has signed in."""


@router.get("/health", openapi_extra=VIEWER)
def health(request: Request, engine: EngineDep) -> Response:
    """The database, its scheduler and its projections, looked at anew."""
    request.app.state.health = None
    return rendering.page(request, engine, "health.html", metrics=engine.metrics())


@open_router.get("/favicon.ico")
def icon() -> Response:
    """Where the icon is; the page for signing in names none."""
    return RedirectResponse("/static/mark.svg", 308)
