"""Pages for people: a router a page, `templates/` and `static/` beside them.

Routers made by `dee_es.web.routing.page_router` go into `ROUTERS`. A page finds who acts in
`ActorDep`, and puts `csrf_token(request)` into a hidden field `csrf_token` of each of its forms
(or sends it as `X-CSRF-Token`). Files in `static/` are served under /static/ to everybody;
`static(name)` in a template is the address of one. A page that reads a lazy projection asks
`rendering.unless_level` first. The policy of `dee_es.web.security.headers` allows neither inline
scripts nor inline styles.
"""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter

from dee_es.web.pages import (
    audit,
    bulk,
    contacts,
    enroll,
    jobs,
    plans,
    projections,
    run,
    run_actions,
    runs,
    system,
    zones,
)

ROUTERS: Final[tuple[APIRouter, ...]] = (
    runs.router,
    bulk.router,
    run.router,
    run_actions.router,
    contacts.router,
    enroll.router,
    plans.router,
    audit.router,
    projections.router,
    jobs.router,
    system.router,
    zones.router,
    system.open_router,
)
