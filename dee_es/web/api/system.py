"""How the whole stands, who asks, and what this API is."""

from __future__ import annotations

from typing import Any, Final

from fastapi import Request

from dee_es.engine.models import Answer, Health, Metrics
from dee_es.web.api.models import shown
from dee_es.web.routing import VIEWER, ActorDep, EngineDep, api_router
from dee_es.web.security.roles import Role

router: Final = api_router("system")


class Whoami(Answer):
    """Who makes the requests, and the token that a browser sends back as `X-CSRF-Token`; a program
    with a token of its own needs none."""

    actor: str
    role: Role
    csrf_token: str | None


@router.get(
    "/health", openapi_extra=VIEWER, response_model=shown(Health), summary="How everything stands"
)
def health(engine: EngineDep) -> Health:
    """How the database, its scheduler and its projections stand, with every problem."""
    return engine.health()


@router.get(
    "/metrics", openapi_extra=VIEWER, response_model=shown(Metrics), summary="Numbers to watch"
)
def metrics(engine: EngineDep) -> Metrics:
    """Numbers as they are now. `dee worker --metrics-port` has them in the format of Prometheus."""
    return engine.metrics()


@router.get("/session", openapi_extra=VIEWER, summary="Who I am")
def session(actor: ActorDep) -> Whoami:
    """Who makes this request."""
    return Whoami(actor=actor.name, role=actor.role, csrf_token=actor.csrf)


@router.get(
    "/openapi.json", openapi_extra=VIEWER, include_in_schema=False, response_model=dict[str, Any]
)
def description(request: Request) -> dict[str, Any]:
    """This API's description."""
    found: dict[str, Any] = request.app.openapi()
    return found
