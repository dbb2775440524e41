"""What a person may do with a run; each form is sent once, however often it is clicked."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import Form, Response

from dee_es.core.values import check_one_of
from dee_es.engine.lifecycle import KEEPS, OUTCOMES
from dee_es.web.pages import rendering
from dee_es.web.pages.acting import ActDep
from dee_es.web.problems import Refused
from dee_es.web.routing import OPERATOR, Id, page_router

router: Final = page_router()

Short = Annotated[str, Form(max_length=40)]


def _back(run_id: str, done: str) -> Response:
    return rendering.see(f"/runs/{run_id}", {"done": done})


def _confirmed(confirm: str) -> None:
    if confirm != "yes":
        raise Refused(409, "NotConfirmed", "nothing was done: tick the box that says you mean it")


@router.post("/runs/{run_id}/pause", openapi_extra=OPERATOR)
def pause(act: ActDep, run_id: Id, keep: Short = "deadline") -> Response:
    """Stop a run until it is resumed."""
    kept = check_one_of("keep", keep, KEEPS)
    act.engine.pause_run(run_id, act.reason, keep=kept, **act.by)
    return _back(run_id, "paused")


@router.post("/runs/{run_id}/resume", openapi_extra=OPERATOR)
def resume(act: ActDep, run_id: Id) -> Response:
    """Let a paused run go on."""
    act.engine.resume_run(run_id, act.reason, **act.by)
    return _back(run_id, "resumed")


@router.post("/runs/{run_id}/cancel", openapi_extra=OPERATOR)
def cancel(act: ActDep, run_id: Id, confirm: Short = "") -> Response:
    """End a run for good."""
    why = act.why
    _confirmed(confirm)
    act.engine.cancel_run(run_id, why, **act.by)
    return _back(run_id, "cancelled")


@router.post("/runs/{run_id}/retry", openapi_extra=OPERATOR)
def retry(act: ActDep, run_id: Id, confirm: Short = "") -> Response:
    """Let a failed run enter its step again."""
    why = act.why
    _confirmed(confirm)
    act.engine.retry_run(run_id, why, **act.by)
    return _back(run_id, "retried")


@router.post("/runs/{run_id}/resolve", openapi_extra=OPERATOR)
def resolve(act: ActDep, run_id: Id, outcome: Short, confirm: Short = "") -> Response:
    """Settle a send whose outcome nobody knows."""
    chosen = check_one_of("outcome", outcome, OUTCOMES)
    why = act.why
    _confirmed(confirm)
    act.engine.resolve_step(run_id, chosen, reason=why, **act.by)
    return _back(run_id, "resolved")
