"""Pages out of templates: what every page shows, and how values are written.

Everything that a template is given is escaped by Jinja; no template switches that off.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_context
from jinja2.runtime import Context

from dee_es.core.views import RunStatus
from dee_es.doors.times import changed, distance, iso, span, with_times
from dee_es.engine.facade import EngineApi
from dee_es.engine.models import Health
from dee_es.errors import DeeError
from dee_es.web.pages import times
from dee_es.web.pages.drawing import short
from dee_es.web.pages.typed import typed_in
from dee_es.web.routing import csrf_token
from dee_es.web.security.roles import Actor, Role
from dee_es.web.security.scopes import actor_in
from dee_es.web.static_files import static

_HEALTH_S: Final = 5.0
_PATIENCE_S: Final = 1.0
"""How long a page waits for a projection before it says how far that is."""
_AGAIN_S: Final = 2
"""After how long such a page loads itself again; see `behind.html`."""
_TEMPLATES: Final = Path(__file__).parent / "templates"
DONE: Final[Mapping[str, str]] = {
    "paused": "The run was paused.",
    "resumed": "The run was resumed; it acts from the next tick.",
    "cancelled": "The run was cancelled.",
    "retried": "The run was retried; it enters its step again at the next tick.",
    "resolved": "The outcome of the send was settled.",
    "suppressed": "The contact is suppressed now.",
    "suppressed-already": "Nothing changed: the contact was suppressed like that already.",
    "lifted": "The suppression was lifted.",
    "lifted-none": "Nothing changed: there was no such suppression.",
    "consent-given": "The consent is on record.",
    "consent-taken": "It is on record that the consent was taken back.",
    "zone": "Times are shown in that zone from now on, in this browser.",
    "checkpoint": "The log as it stands is under a signed checkpoint.",
    "stopping": "The job ends after the batch under way; what it has done stays done.",
}
"""What a page says after something was done; the address holds only the word."""


def _number(value: float) -> str:
    return f"{value:,.0f}"


def _pretty(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)


def _told(value: object) -> str:
    """A value of a run in one line."""
    if value is None:
        return "none"
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=str)


def brief(values: Mapping[str, Any]) -> str:
    """The plain values of a map in a line; a number, which says nothing alone, with its name."""
    told = []
    for name, value in values.items():
        if value and isinstance(value, str):
            told.append(value)
        elif value and isinstance(value, int):
            words = name.replace("_", " ")
            told.append(words if value is True else f"{words} {value}")
    return short("; ".join(told[:2]), 90)


def _sentence(text: str) -> str:
    ended = text if text.endswith((".", "!", "?")) else f"{text}."
    return ended[:1].upper() + ended[1:]


@pass_context
def _clock(context: Context, moment: datetime) -> str:
    """The time in the zone that the browser has chosen."""
    return times.written(moment, context["zone_name"])


@pass_context
def _zoned(context: Context, text: str) -> str:
    """A text of the engine's with the times in it in the zone that the browser has chosen."""
    zone_name = context["zone_name"]
    if zone_name == "UTC":
        return text
    return with_times(text, lambda moment: times.written(moment, zone_name))


@pass_context
def _changed(context: Context, value: Any, kind: str) -> Any:
    """A value of a run's change, with its times in the zone that the browser has chosen."""
    zone_name = context["zone_name"]
    if zone_name == "UTC":
        return value
    return changed(kind, value, lambda moment: times.written(moment, zone_name))


def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        number=_number,
        brief=brief,
        sentence=_sentence,
        pretty=_pretty,
        told=_told,
        utc=times.written,
        clock=_clock,
        zoned=_zoned,
        changed=_changed,
        iso=iso,
        span=span,
        short=short,
    )
    made.globals.update(
        distance=distance, static=static, statuses=[each.value for each in RunStatus]
    )
    return made


_ENVIRONMENT: Final = _environment()


def page(
    request: Request, engine: EngineApi, template: str, status: int = 200, **values: Any
) -> HTMLResponse:
    """A whole page: the template, with what every page shows around it."""
    found, problem = health_of(request, engine)
    shown = {
        "health": found,
        "health_problem": problem,
        "now": engine.now().now if problem is None else None,
        "done": DONE.get(request.query_params.get("done", "")),
        **values,
    }
    return bare(request, template, status, **shown)


def unless_level(request: Request, engine: EngineApi, projection: str) -> HTMLResponse | None:
    """A page that says how far a projection is, and loads itself again until it is level; None if
    it is level, or soon was, so that reading it holds nobody up."""
    found = engine.projections.catch_up(projection, within_s=_PATIENCE_S)
    if found.level:
        return None
    told = page(request, engine, "behind.html", 503, found=found, share=found.position / found.head)
    told.headers["Retry-After"] = str(_AGAIN_S)
    return told


def bare(request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """A page, or a part of one, for which the engine is not asked."""
    text = _ENVIRONMENT.get_template(template).render(**_around(request), **values)
    return HTMLResponse(text, status)


def _around(request: Request) -> dict[str, Any]:
    actor = actor_in(request.scope)
    return {
        "path": request.url.path,
        "actor": actor,
        "csrf": csrf_token(request),
        "may_act": may(actor, Role.OPERATOR),
        "may_admin": may(actor, Role.ADMIN),
        "new_key": lambda: secrets.token_urlsafe(18),
        "address": address,
        "zone_name": times.name_in(request),
        "typed": typed_in(request.scope),
    }


def may(actor: Actor | None, role: Role) -> bool:
    """Whether somebody is allowed what needs the role."""
    return actor is not None and actor.role.covers(role)


def by_htmx(request: Request) -> bool:
    """Whether a part of a page is asked for, to be put into one that is shown already."""
    return request.headers.get("hx-request") == "true"


def health_of(request: Request, engine: EngineApi) -> tuple[Health | None, str | None]:
    """How everything stands, looked at every few seconds at most; or why nobody can tell."""
    state = request.app.state
    looked: tuple[float, Health] | None = getattr(state, "health", None)
    if looked is not None and time.monotonic() - looked[0] < _HEALTH_S:
        return looked[1], None
    try:
        found = engine.health()
    except DeeError as error:
        return None, str(error)
    state.health = (time.monotonic(), found)
    return found, None


def address(path: str, query: Mapping[str, Any] | Sequence[tuple[str, Any]] = ()) -> str:
    """A path of this server with a query; what is None or empty is left out."""
    pairs = query.items() if isinstance(query, Mapping) else query
    flat: list[tuple[str, str]] = []
    for name, value in pairs:
        values = value if isinstance(value, list | tuple) else [value]
        flat += [(name, str(each)) for each in values if each not in (None, "")]
    return f"{path}?{urlencode(flat)}" if flat else path


def see(path: str, query: Mapping[str, Any] | None = None) -> RedirectResponse:
    """Go on to another page, after something was done."""
    return RedirectResponse(address(path, query or {}), 303)
