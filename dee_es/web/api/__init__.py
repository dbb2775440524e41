"""The resources under /api/v1, a router a file; a new one is a file and a line here."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter

from dee_es.web.api import (
    audit,
    bulk,
    channel_events,
    contacts,
    evidence,
    jobs,
    plans,
    projections,
    run_history,
    runs,
    system,
    templates,
)

ROUTERS: Final[tuple[APIRouter, ...]] = (
    bulk.router,
    runs.router,
    run_history.router,
    plans.router,
    templates.router,
    contacts.router,
    channel_events.router,
    audit.router,
    evidence.router,
    projections.router,
    jobs.router,
    system.router,
)
