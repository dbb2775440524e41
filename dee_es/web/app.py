"""The whole of the web door as one ASGI application."""

from __future__ import annotations

from typing import Final

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from dee_es.engine.facade import EngineApi
from dee_es.web import api, description, hooks, pages, problems
from dee_es.web.api import run_files
from dee_es.web.heads import Heads
from dee_es.web.held import HeldFiles
from dee_es.web.jobs import Jobs
from dee_es.web.pages.errors import ErrorPages
from dee_es.web.security.authentication import Authentication, Doorkeeper
from dee_es.web.security.csrf import Csrf
from dee_es.web.security.headers import SecureHeaders
from dee_es.web.security.hosts import Hosts, allowed_hosts
from dee_es.web.security.limits import Bodies, Rates
from dee_es.web.security.login import login_router
from dee_es.web.security.proxies import behind
from dee_es.web.settings import WebSettings
from dee_es.web.static_files import Static

_CONTACTS: Final = ("text/csv", "multipart/form-data")
UPLOADS: Final = {
    "/api/v1/runs/bulk-execute": _CONTACTS,
    "/api/v1/runs/import": (run_files.MEDIA_TYPE,),
    "/enroll": _CONTACTS,
}
"""Paths that stream a file, and the media types by which they know one."""


class WebApp:
    """The application behind its checks; `close` ends its jobs, not the engine."""

    def __init__(self, app: ASGIApp, jobs: Jobs, held: HeldFiles) -> None:
        self._app = app
        self._jobs = jobs
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        await self._app(scope, receive, send)

    def close(self) -> None:
        """Ask the jobs to end after their batch, and wait for them."""
        self._jobs.close()
        self._held.let_go()


def create_app(engine: EngineApi, settings: WebSettings | None = None) -> WebApp:
    """The application on an engine. Raises `InvalidInput` for settings that would not be safe."""
    chosen = settings or WebSettings()
    doorkeeper = Doorkeeper(chosen)
    routers = (*api.ROUTERS, *pages.ROUTERS, *hooks.ROUTERS, login_router(doorkeeper))
    inner = FastAPI(
        # The routes themselves: a router that is included is worked out anew for each application,
        # under its first request.
        routes=[route for router in routers for route in router.routes],
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    inner.state.engine = engine
    inner.state.settings = chosen
    inner.state.jobs = jobs = Jobs(chosen.job_workers, chosen.jobs_waiting, engine.idempotency.same)
    inner.state.held = held = HeldFiles()
    inner.openapi = lambda: description.describe(inner)  # type: ignore[method-assign]
    problems.install(inner)
    inner.mount("/static", Static())
    # From the inside out: the last one is asked first.
    app: ASGIApp = Csrf(inner)
    app = Bodies(app, chosen, UPLOADS)
    app = Rates(app, chosen)
    app = Authentication(app, doorkeeper)
    schemes = ("http",) if doorkeeper.local else ("http", "https")
    app = Hosts(app, allowed_hosts(chosen), schemes)
    app = behind(app, chosen.trusted_proxies)
    return WebApp(Heads(SecureHeaders(ErrorPages(app))), jobs, held)
