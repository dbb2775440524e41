"""What a run decides: `enroll` and `decide` turn a command into the events that follow from it.

Pure: the same plan, state and command give the same events. The status table of a run is enforced
here and nowhere else; a command it does not allow raises `InvalidTransition`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from msgspec.structs import replace

from dee_es.core import commands as c
from dee_es.core import events as e
from dee_es.core.clock import TimeScale
from dee_es.core.gate.slots import tick_text
from dee_es.core.messages.message import message_id
from dee_es.core.runs import rules
from dee_es.core.runs.advance import Steps, advance
from dee_es.core.runs.channel_events import (
    SUPPRESSED,
    call_outcome,
    channel_of,
    ends_runs,
    meaning,
)
from dee_es.core.runs.condition_values import first_exit
from dee_es.core.runs.fold import evolve, fold, told
from dee_es.core.runs.resend import after_soft_bounce, resend_result
from dee_es.core.runs.schedule import (
    BACKOFF_MS,
    MAX_OWN_DOUBLINGS,
    PENDING_DEADLINE_MS,
    SEND_ATTEMPTS,
)
from dee_es.core.runs.state import Intent, RunState
from dee_es.core.views import RunStatus
from dee_es.errors import InvalidInput, InvalidTransition, OutcomeUnknownError

__all__ = ["RunState", "decide", "decision", "enroll", "evolve", "fold"]

_PAUSABLE: Final = (RunStatus.PENDING, RunStatus.ACTIVE, RunStatus.WAITING)
_MAY: Final = {
    **dict.fromkeys(_PAUSABLE, "it may be paused or cancelled"),
    RunStatus.PAUSED: "it may be resumed or cancelled",
    RunStatus.FAILED: "it may be retried, once its outcome is known, or cancelled",
    **dict.fromkeys((RunStatus.COMPLETED, RunStatus.CANCELLED), "it has ended"),
}
"""What is said of a run that a command does not fit, by its status."""


def enroll(materials: c.Materials, command: c.Enroll) -> list[e.Event]:
    """The first event of a run; raises `InvalidInput` for a start that has passed."""
    now = command.meta.tick
    start = now if command.start_tick is None else command.start_tick
    if start < now:
        raise start_passed(materials.scale, start, now)
    kind = e.RunScheduled if start > now else e.RunStarted
    return [
        kind(
            plan_id=materials.plan.id,
            plan_version=materials.plan.version,
            contact_id=command.contact_id,
            enrollment=command.enrollment,
            start_tick=start,
            steps_remaining=materials.plan.graph.remaining_from_start,
            pins=command.pins,
            personal=command.contact,
        )
    ]


def first_due(events: Sequence[e.Event]) -> int:
    """The tick at which a run that begins with these events of `enroll` is due."""
    (first,) = events
    assert isinstance(first, e.Start), "a run begins with its enrolment"
    return first.start_tick


def start_passed(scale: TimeScale, start: int, now: int) -> InvalidInput:
    """What to say of a start before `now`, both in ticks."""
    passed = f"{tick_text(scale, start)} has passed"
    return InvalidInput("start_at", f"{passed}; in this log it is {tick_text(scale, now)}")


def decide(materials: c.Materials, state: RunState, command: c.RunCommand) -> list[e.Event]:
    """The events that follow from a command to a run that exists; empty if nothing does.

    Raises `InvalidTransition` where the status table has no such transition, which is an
    `OutcomeUnknownError` where a send has to be settled first.
    """
    return decision(materials, state, command).events


def decision(materials: c.Materials, state: RunState, command: c.RunCommand) -> Steps:
    """`decide`, with the state that its events lead to."""
    return _DECISIONS[type(command)](materials, state, command)


def _record_result(materials: c.Materials, state: RunState, command: c.RecordResult) -> Steps:
    intent = state.intent
    steps = Steps(materials, state, command.meta)
    if intent is None or (intent.key, intent.attempt) != (command.key, command.attempt):
        return _late_result(steps, command)
    if intent.resend:
        resend_result(steps, intent, command)
        return steps
    if command.status == "delivered":
        steps.record(e.StepCompleted(intent.step_id, "delivered", command.message_id))
        steps.go_on()
    elif command.status == "pending":
        deadline = command.meta.tick + materials.scale.ticks(PENDING_DEADLINE_MS)
        steps.record(e.StepPending(intent.step_id, deadline, command.message_id))
        if intent.outcome is not None:
            # The call was over before the channel said that it had taken it.
            steps.record(e.StepCompleted(intent.step_id, intent.outcome))
            steps.go_on()
    elif command.status == "unknown":
        steps.outcome_unknown(command.error or "the channel could not tell")
    elif (doublings := _doublings(state, intent, command)) is not None:
        pause = materials.scale.ticks(BACKOFF_MS * 2**doublings)
        steps.record(
            e.StepRetried(
                intent.step_id,
                command.error,
                intent.attempt,
                command.meta.tick + max(1, pause),
                personal=command.detail,
                ours=command.ours,
            )
        )
    else:
        steps.fail(command.error, intent.attempt, command.detail)
    return steps


def _doublings(state: RunState, intent: Intent, command: c.RecordResult) -> int | None:
    """How often the pause before the next attempt was doubled; None if there is none."""
    if state.status.ended:
        return None
    if command.ours:
        # All runs meet the same fault: none of them is to end for it, however long it lasts.
        return min(state.excused, MAX_OWN_DOUBLINGS)
    counted = intent.attempt - state.excused
    return counted - 1 if command.retryable and counted < SEND_ATTEMPTS else None


def _late_result(steps: Steps, command: c.RecordResult) -> Steps:
    """The outcome of a send that counts as unknown is evidence; a person still has to settle it."""
    awaited = steps.state.awaited
    if awaited is not None and (awaited.key, awaited.attempt) == (command.key, command.attempt):
        step = awaited.step_id
        if command.status == "delivered":
            steps.record(e.StepCompleted(step, "delivered", command.message_id, late=True))
        elif command.status == "failed":
            steps.record(
                e.StepFailed(
                    step, command.error, command.attempt, late=True, personal=command.detail
                )
            )
    return steps


def _receive(materials: c.Materials, state: RunState, command: c.ReceiveEvent) -> Steps:
    if command.type == SUPPRESSED and not _heeds_suppression(state):
        return Steps(materials, state, command.meta)
    data = command.detail.data if command.detail is not None else {}
    step_id = command.step_id or _last_step_of(state, command.type)
    # What is told of a call that was lost is no outcome of the one that came after it.
    lost = channel_of(command.type) == "voice" and _of_lost_call(state, data)
    kind = None if lost else meaning(command.type, data)
    after = told(state, command.type, step_id, kind)
    holding = None if state.status.ended else first_exit(materials.plan.graph.exits, after)
    steps = Steps(materials, state, command.meta)
    steps.record(
        e.ChannelEventReceived(
            type=command.type,
            contact_id=state.contact_id,
            event_id=command.event_id,
            occurred_tick=command.occurred_tick,
            run_id=state.run_id,
            step_id=step_id,
            kind=kind,
            exit_condition=holding.condition if holding else None,
            exit_outcome=holding.outcome if holding else None,
            ended=state.status.ended,
            personal=command.detail,
        )
    )
    if state.status.ended:
        return steps
    cause = ends_runs(command.type, kind)
    if cause is not None:
        steps.record(holding.completed() if holding is not None else e.RunCancelled(cause))
        return steps
    if command.type == "email.bounced" and step_id is not None:
        after_soft_bounce(steps, step_id)
    outcome = call_outcome(command.type, kind)
    awaited = state.hold == "pending" and step_id == state.current_step
    # A call of an earlier visit may report late; where it says which call it was, that counts.
    if data.get("message_id") not in (None, state.pending_message):
        awaited = False
    if outcome is not None and awaited:
        steps.record(e.StepCompleted(str(step_id), outcome))
    return steps


def _of_lost_call(state: RunState, data: Mapping[str, Any]) -> bool:
    lost, named = state.awaited, data.get("message_id")
    if lost is None or named != message_id(lost.key):
        return False
    placed = state.intent is not None and state.intent.key != lost.key
    return placed or state.pending_message not in (None, named)


def _heeds_suppression(state: RunState) -> bool:
    heeding = state.pins.rules >= rules.HEEDING
    return heeding and not state.unsubscribed and not state.status.ended


def _last_step_of(state: RunState, type_: str) -> str | None:
    # An event that names no step is about the last message sent through its channel.
    return None if type_ == SUPPRESSED else dict(state.last_sent).get(channel_of(type_))


def _pause(materials: c.Materials, state: RunState, command: c.Pause) -> Steps:
    _require(state, RunStatus.PAUSED, state.status in _PAUSABLE)
    return _one(materials, state, command, e.RunPaused(command.keep))


def _resume(materials: c.Materials, state: RunState, command: c.Resume) -> Steps:
    _require(state, RunStatus.ACTIVE, state.status == RunStatus.PAUSED)
    paused_for = command.meta.tick - state.paused_tick
    shift = paused_for if state.hold and state.keep == "remaining" else 0
    # The policy that had paused it would do so again, whatever was raised meanwhile.
    anew = state.paused_by_policy and command.policy != state.pins.policy
    acts_at, policy = command.meta.tick + command.after, command.policy if anew else 0
    return _one(materials, state, command, e.RunResumed(acts_at, shift, policy))


def _cancel(materials: c.Materials, state: RunState, command: c.Cancel) -> Steps:
    _require(state, RunStatus.CANCELLED, not state.status.ended)
    return _one(materials, state, command, e.RunCancelled(command.cause))


def _erase(materials: c.Materials, state: RunState, command: c.Erase) -> Steps:
    _require(state, RunStatus.CANCELLED, not state.status.ended)
    steps = Steps(materials, state, command.meta)
    if state.exit is not None:
        steps.leave()
        return steps
    listed = state.unsubscribed or state.pins.rules >= rules.ERASING
    holding = first_exit(materials.plan.graph.exits, replace(state, unsubscribed=listed))
    steps.record(holding.completed() if holding is not None else e.RunCancelled("erasure"))
    return steps


def _retry(materials: c.Materials, state: RunState, command: c.Retry) -> Steps:
    _require(state, RunStatus.ACTIVE, state.status == RunStatus.FAILED)
    if state.unknown is not None:
        settle = f"dee runs resolve {state.run_id} --outcome delivered --reason WHY"
        why = (
            "the outcome of its last send is unknown; find out and settle it first: "
            f"`{settle}` (or failed, or resend)"
        )
        raise OutcomeUnknownError(state.run_id, state.status.value, RunStatus.ACTIVE.value, why)
    return _one(materials, state, command, e.RunRetried(command.meta.tick + 1, command.pins))


def _resolve(materials: c.Materials, state: RunState, command: c.Resolve) -> Steps:
    lost, acts_at = state.unknown, command.meta.tick + 1
    _require(state, RunStatus.ACTIVE, lost is not None, _nothing_unknown(materials.scale, state))
    assert lost is not None
    # Only an end leads away from an unknown outcome otherwise.
    _require(state, RunStatus.ACTIVE, state.status == RunStatus.FAILED, "it has ended")
    return _one(
        materials,
        state,
        command,
        e.StepResolved(lost.step_id, command.outcome, acts_at, lost.resend),
    )


def _nothing_unknown(scale: TimeScale, state: RunState) -> str:
    intent = state.intent
    if intent is None or state.status.ended:
        return "no send of it has an unknown outcome"
    # Whoever asks has most likely seen the sender die, and is quicker than the next tick.
    return (
        f"the sending of step {intent.step_id} began at {scale.told(intent.tick)} (tick "
        f"{intent.tick}), and as yet nobody has found its sender gone; a worker or `dee tick` "
        "finds that out, and then it can be settled"
    )


def _one(materials: c.Materials, state: RunState, command: c.RunCommand, event: e.Event) -> Steps:
    steps = Steps(materials, state, command.meta)
    steps.record(event)
    return steps


def _require(state: RunState, target: RunStatus, allowed: bool, why: str = "") -> None:
    if not allowed:
        told = why or _MAY[state.status]
        raise InvalidTransition(state.run_id, state.status.value, target.value, told)


_DECISIONS: Final[dict[type[Any], Callable[[c.Materials, RunState, Any], Steps]]] = {
    c.Advance: advance,
    c.RecordResult: _record_result,
    c.ReceiveEvent: _receive,
    c.Pause: _pause,
    c.Resume: _resume,
    c.Cancel: _cancel,
    c.Erase: _erase,
    c.Retry: _retry,
    c.Resolve: _resolve,
}
