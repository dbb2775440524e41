"""How everything stands, with every problem in a sentence."""

from __future__ import annotations

from typing import Final

from fastapi import Request, Response

from dee_es.web.pages import rendering
from dee_es.web.routing import VIEWER, EngineDep, page_router

router: Final = page_router()


@router.get("/health", openapi_extra=VIEWER)
def health(request: Request, engine: EngineDep) -> Response:
    """The database, its scheduler and its projections, looked at anew."""
    request.app.state.health = None
    return rendering.page(request, engine, "health.html", metrics=engine.metrics())
