"""Routes that name the role they need, and what their handlers are given.

    @router.post("/runs/{run_id}/pause", openapi_extra=OPERATOR)
    def pause(run_id: Id, engine: EngineDep, actor: ActorDep, command: CommandDep) -> ExecutionRun:
        ...

The role is checked before the body is looked at. Handlers are plain functions, so that they run in
a thread of the pool while the engine works.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Header, Path, Request, Response
from fastapi.params import Form as FormInfo
from fastapi.routing import APIRoute

from dee_es.core.values import ID_PATTERN
from dee_es.engine.facade import EngineApi
from dee_es.web.held import HeldFiles
from dee_es.web.idempotency import command_id_of, once
from dee_es.web.jobs import Jobs
from dee_es.web.problems import Refused
from dee_es.web.security.roles import Actor, Role
from dee_es.web.security.scopes import actor_in, is_unsafe, media_type
from dee_es.web.settings import WebSettings

_ROLE: Final = "x-dee-role"
_JOB: Final = "x-dee-job"
Extra = dict[str, Any]

VIEWER: Final[Extra] = {_ROLE: Role.VIEWER.value}
OPERATOR: Final[Extra] = {_ROLE: Role.OPERATOR.value}
ADMIN: Final[Extra] = {_ROLE: Role.ADMIN.value}


def job(role: Extra, **more: Any) -> Extra:
    """What marks a route that starts a job: its key leads to the job, not to a kept answer."""
    return {**role, _JOB: True, **more}


def unkept(role: Extra, **more: Any) -> Extra:
    """What marks a route whose answers are not kept: its handler sees to what a key stands for."""
    return job(role, **more)


class GuardedRoute(APIRoute):
    """A route that checks the role first, and answers a repeated Idempotency-Key as before."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler behind the checks; a route without a role is a mistake of ours."""
        handle = super().get_route_handler()
        extra = self.openapi_extra or {}
        if _ROLE not in extra and self.path != "/login" and not self.path.startswith("/hooks/"):
            raise TypeError(f"{self.path}: names no role")
        needed = Role(extra[_ROLE]) if _ROLE in extra else None
        kept = not extra.get(_JOB, False)
        # Forms are read by what they are; JSON that is called something else would pass for text.
        takes_json = self.body_field is not None and not isinstance(
            self.body_field.field_info, FormInfo
        )

        async def guarded(request: Request) -> Response:
            if needed is not None:
                _check_role(request, needed)
            if takes_json:
                _check_kind(request)
            key = request.headers.get("idempotency-key")
            actor = actor_in(request.scope)
            if key is None or not kept or actor is None or not is_unsafe(request.scope):
                return await handle(request)
            engine: EngineApi = request.app.state.engine
            return await once(engine.idempotency, actor.name, key, request, handle)

        return guarded


def _check_kind(request: Request) -> None:
    """Raise `Refused` for a body that does not say it is JSON."""
    kind = media_type(request.scope)
    json = kind.startswith("application/") and kind.endswith(("/json", "+json"))
    if request.scope.get("dee.body") and not json:
        raise Refused(415, "UnsupportedMediaType", "send application/json")


def _check_role(request: Request, needed: Role) -> None:
    actor = actor_in(request.scope)
    if actor is None:
        raise Refused(401, "NotSignedIn", "sign in first")
    if not actor.role.covers(needed):
        raise Refused(
            403,
            "NotAllowed",
            f"this needs the role {needed.value}; {actor.name} has {actor.role.value}",
            {"Connection": "close"},
        )


def api_router(tag: str) -> APIRouter:
    """A router of resources under /api/v1."""
    return APIRouter(prefix="/api/v1", tags=[tag], route_class=GuardedRoute)


def page_router() -> APIRouter:
    """A router of pages for people, left out of the API's description."""
    return APIRouter(route_class=GuardedRoute, include_in_schema=False)


def hook_router() -> APIRouter:
    """A router of webhooks, which check signatures of their own."""
    return APIRouter(prefix="/hooks", route_class=GuardedRoute, include_in_schema=False)


# --- what handlers are given ----------------------------------------------------------------------


async def _engine(request: Request) -> EngineApi:
    engine: EngineApi = request.app.state.engine
    return engine


async def _jobs(request: Request) -> Jobs:
    jobs: Jobs = request.app.state.jobs
    return jobs


async def _held(request: Request) -> HeldFiles:
    held: HeldFiles = request.app.state.held
    return held


async def _settings(request: Request) -> WebSettings:
    settings: WebSettings = request.app.state.settings
    return settings


async def _actor(request: Request) -> Actor:
    actor = actor_in(request.scope)
    if actor is None:
        raise Refused(401, "NotSignedIn", "sign in first")
    return actor


async def _command(
    request: Request,
    key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            description="Repeated under the same key, the call never acts twice. 1 to 128 "
            "printable characters of ASCII, the caller's own.",
            min_length=1,
            max_length=128,
            pattern="^[!-~]+$",
        ),
    ] = None,
) -> str | None:
    actor = actor_in(request.scope)
    return None if key is None or actor is None else command_id_of(actor.name, key)


EngineDep = Annotated[EngineApi, Depends(_engine)]
JobsDep = Annotated[Jobs, Depends(_jobs)]
HeldDep = Annotated[HeldFiles, Depends(_held)]
SettingsDep = Annotated[WebSettings, Depends(_settings)]
ActorDep = Annotated[Actor, Depends(_actor)]
CommandDep = Annotated[str | None, Depends(_command)]
Id = Annotated[str, Path(pattern=ID_PATTERN)]


def csrf_token(request: Request) -> str:
    """The token that forms of this session have to send back; empty if there is no session."""
    actor = actor_in(request.scope)
    return "" if actor is None or actor.csrf is None else actor.csrf


__all__ = [
    "ADMIN",
    "ActorDep",
    "CommandDep",
    "EngineDep",
    "GuardedRoute",
    "HeldDep",
    "Id",
    "JobsDep",
    "OPERATOR",
    "SettingsDep",
    "VIEWER",
    "api_router",
    "csrf_token",
    "hook_router",
    "job",
    "page_router",
    "unkept",
]
