"""What becomes of a message that bounced softly: it goes out again, up to three times in a day.

That happens beside the run's own way through its plan: it may be in another step by now, and goes
on there whatever becomes of the message. Only an outcome that nobody knows stops the run, as ever.
"""

from __future__ import annotations

from dee_es.core import commands as c
from dee_es.core import events as e
from dee_es.core.runs.advance import Steps
from dee_es.core.runs.resend_state import times_used
from dee_es.core.runs.schedule import RESEND_PAUSES_MS, RESEND_WITHIN_MS, RESENDS
from dee_es.core.runs.state import Intent
from dee_es.core.views import RunStatus


def after_soft_bounce(steps: Steps, step_id: str) -> None:
    """Plan to send the step's message again, unless that is under way or was done often enough."""
    state = steps.state
    mailed = state.mailed.get(step_id)
    if mailed is None or state.status == RunStatus.FAILED:
        return
    planned = any(each.step_id == step_id for each in state.resends)
    sending = state.intent is not None and state.intent.step_id == step_id
    # The current step's own attempts are not over: whatever comes of them comes first.
    trying = state.current_step == step_id and not state.step_done
    if not (planned or sending or trying):
        _plan(steps, step_id, "soft bounce")


def _plan(
    steps: Steps, step_id: str, error: str, detail: e.Detail | None = None, *, ours: bool = False
) -> bool:
    """Put the next time on record; False if there is none."""
    mailed = steps.state.mailed[step_id]
    used = times_used(steps.state, step_id, ours)
    if used >= RESENDS:
        return False
    scale = steps.materials.scale
    due = steps.tick + max(1, scale.ticks(RESEND_PAUSES_MS[used]))
    if due > mailed.tick + scale.ticks(RESEND_WITHIN_MS):
        return False
    steps.record(e.StepRetried(step_id, error, mailed.attempt, due, True, detail, ours))
    return True


def resend_result(steps: Steps, intent: Intent, command: c.RecordResult) -> None:
    """Record what a channel said of a message that went out again."""
    step_id = intent.step_id
    if command.status == "unknown":
        steps.outcome_unknown(command.error or "the channel could not tell")
    elif command.status != "failed":
        steps.record(e.StepCompleted(step_id, command.status, command.message_id, resend=True))
    else:
        again = (command.retryable or command.ours) and not steps.state.status.ended
        error, detail = command.error, command.detail
        if not (again and _plan(steps, step_id, error, detail, ours=command.ours)):
            steps.record(
                e.StepFailed(
                    step_id, command.error, intent.attempt, resend=True, personal=command.detail
                )
            )
