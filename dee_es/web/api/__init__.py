"""The resources under /api/v1, a router a file; a new one is a file and a line here."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter

from dee_es.web.api import runs, system

ROUTERS: Final[tuple[APIRouter, ...]] = (runs.router, system.router)
