"""What an attempt to send comes to: an intent, or what the policy gate has done instead."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from dee_es.core import commands as c
from dee_es.core import events as e
from dee_es.core.gate import Allow, Denial, Snapshot
from dee_es.core.gate import evaluate as gate
from dee_es.core.messages.message import message_digest
from dee_es.core.messages.template import TemplateError
from dee_es.core.runs.rendering import render
from dee_es.core.runs.state import RunState
from dee_es.core.steps import SendStep
from dee_es.errors import InvalidInput

SendEvent = e.StepDispatched | e.StepSkipped | e.StepDeferred | e.RunPaused | e.StepFailed


class Attempt(Struct, frozen=True, gc=False):
    """One attempt: its key and number, the step before it, and whether it repeats a message that
    bounced softly."""

    key: str
    number: int
    previous_step: tuple[str, str] | None
    resend: bool = False


def attempt_to_send(
    materials: c.Materials,
    state: RunState,
    step: SendStep,
    command: c.Advance,
    attempt: Attempt,
) -> SendEvent:
    """Ask the gate, render the message, and say what is to be recorded."""
    channel, tick = str(step.channel), command.meta.tick
    snapshot = command.snapshots.get(channel)
    if snapshot is None:
        snapshot = Snapshot(tick, materials.scale, channel, state.plan_id)
    verdict = gate(materials.policy, snapshot)
    if isinstance(verdict, Denial):
        return _denied(verdict, step.id, tick, attempt)
    try:
        message = render(materials, state, step, attempt.previous_step)
    except (TemplateError, InvalidInput) as error:
        return _failed(f"cannot be rendered: {error}", step.id, verdict, attempt)
    return e.StepDispatched(
        step.id,
        channel,
        attempt.key,
        attempt.number,
        command.lease_epoch,
        message_digest(message),
        verdict.reads,
        tuple([(*used.key, used.amount, used.limit) for used in verdict.counters]),
        attempt.resend,
        replace(message, gate=verdict.personal) if verdict.personal else message,
    )


def _denied(denial: Denial, step_id: str, tick: int, attempt: Attempt) -> SendEvent:
    rule, detail, reads = denial.rule, denial.detail, denial.reads
    seen = e.Seen(denial.personal) if denial.personal else None
    if denial.effect == "skip":
        return e.StepSkipped(step_id, rule, detail, reads, attempt.resend, seen)
    if denial.effect == "defer":
        assert denial.until_tick is not None, "a step is deferred to a tick"
        until = max(denial.until_tick, tick + 1)
        return e.StepDeferred(step_id, rule, detail, until, reads, attempt.resend, seen)
    if denial.effect == "pause":
        return e.RunPaused("deadline", f"{rule}: {detail}", reads, seen)
    return _failed(f"{rule}: {detail}", step_id, denial, attempt)


def _failed(error: str, step_id: str, verdict: Allow | Denial, attempt: Attempt) -> e.StepFailed:
    detail = e.Detail({"gate": verdict.personal}) if verdict.personal else None
    return e.StepFailed(
        step_id,
        error,
        attempt.number,
        reads=verdict.reads,
        resend=attempt.resend,
        personal=detail,
    )
