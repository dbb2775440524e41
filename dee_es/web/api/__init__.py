"""The resources under /api/v1, a router a file; a new one is a file and a line here."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter

from dee_es.web.api import (
    archives,
    audit,
    bulk,
    channel_events,
    contacts,
    debugging,
    definitions,
    evidence,
    holds,
    jobs,
    plans,
    projections,
    proofs,
    replays,
    run_files,
    run_history,
    runs,
    suppressions,
    system,
    templates,
)

ROUTERS: Final[tuple[APIRouter, ...]] = (
    bulk.router,
    replays.router,
    run_files.router,
    runs.router,
    run_history.router,
    debugging.router,
    plans.router,
    templates.router,
    definitions.router,
    contacts.router,
    suppressions.router,
    holds.router,
    channel_events.router,
    audit.router,
    proofs.router,
    archives.router,
    evidence.router,
    projections.router,
    jobs.router,
    system.router,
)
