"""What a person may do with a run; each form is sent once, however often it is clicked."""

from __future__ import annotations

from typing import Annotated, Final, Literal, cast

from fastapi import Form, Response

from dee_es.web.idempotency import command_id_of
from dee_es.web.pages import inputs, rendering
from dee_es.web.problems import Refused
from dee_es.web.routing import OPERATOR, ActorDep, EngineDep, Id, page_router

router: Final = page_router()

Short = Annotated[str, Form(max_length=40)]


def _back(run_id: str, done: str) -> Response:
    return rendering.see(f"/runs/{run_id}", {"done": done})


def _confirmed(confirm: str) -> None:
    if confirm != "yes":
        raise Refused(409, "NotConfirmed", "nothing was done: tick the box that says you mean it")


@router.post("/runs/{run_id}/pause", openapi_extra=OPERATOR)
def pause(
    engine: EngineDep,
    actor: ActorDep,
    run_id: Id,
    key: inputs.Key,
    reason: inputs.Text = "",
    keep: Short = "deadline",
) -> Response:
    """Stop a run until it is resumed."""
    kept = cast(
        Literal["deadline", "remaining"], inputs.one_of("keep", keep, ("deadline", "remaining"))
    )
    command = command_id_of(actor.name, key)
    engine.pause_run(run_id, inputs.optional(reason), actor.name, kept, command_id=command)
    return _back(run_id, "paused")


@router.post("/runs/{run_id}/resume", openapi_extra=OPERATOR)
def resume(
    engine: EngineDep, actor: ActorDep, run_id: Id, key: inputs.Key, reason: inputs.Text = ""
) -> Response:
    """Let a paused run go on."""
    command = command_id_of(actor.name, key)
    engine.resume_run(run_id, inputs.optional(reason), actor.name, command_id=command)
    return _back(run_id, "resumed")


@router.post("/runs/{run_id}/cancel", openapi_extra=OPERATOR)
def cancel(
    engine: EngineDep,
    actor: ActorDep,
    run_id: Id,
    key: inputs.Key,
    reason: inputs.Text = "",
    confirm: Short = "",
) -> Response:
    """End a run for good."""
    why = inputs.required_reason(reason)
    _confirmed(confirm)
    engine.cancel_run(run_id, why, actor.name, command_id=command_id_of(actor.name, key))
    return _back(run_id, "cancelled")


@router.post("/runs/{run_id}/retry", openapi_extra=OPERATOR)
def retry(
    engine: EngineDep,
    actor: ActorDep,
    run_id: Id,
    key: inputs.Key,
    reason: inputs.Text = "",
    confirm: Short = "",
) -> Response:
    """Let a failed run enter its step again."""
    why = inputs.required_reason(reason)
    _confirmed(confirm)
    engine.retry_run(run_id, why, actor.name, command_id=command_id_of(actor.name, key))
    return _back(run_id, "retried")


@router.post("/runs/{run_id}/resolve", openapi_extra=OPERATOR)
def resolve(
    engine: EngineDep,
    actor: ActorDep,
    run_id: Id,
    key: inputs.Key,
    outcome: Short,
    reason: inputs.Text = "",
    confirm: Short = "",
) -> Response:
    """Settle a send whose outcome nobody knows."""
    allowed = ("delivered", "failed", "resend")
    chosen = cast(
        Literal["delivered", "failed", "resend"], inputs.one_of("outcome", outcome, allowed)
    )
    why = inputs.required_reason(reason)
    _confirmed(confirm)
    command = command_id_of(actor.name, key)
    engine.resolve_step(run_id, chosen, reason=why, actor=actor.name, command_id=command)
    return _back(run_id, "resolved")
