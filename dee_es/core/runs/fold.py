"""How a run's events change it: `evolve` folds one event into the state, `fold` a whole history."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from msgspec.structs import replace

from dee_es.core import events as e
from dee_es.core.ids import idempotency_key
from dee_es.core.runs import rules, send_keys
from dee_es.core.runs.channel_events import call_outcome
from dee_es.core.runs.resend_state import (
    again,
    dropped,
    key_of,
    mailed_after,
    resent,
    to_resend,
    without,
)
from dee_es.core.runs.state import Hold, Intent, Lost, RunState
from dee_es.core.views import RunStatus

# Commands of the scheduler and of channels come by the thousand and are never repeated by a caller.
_NOT_REMEMBERED: Final = frozenset({"tick", "result"})


def evolve(state: RunState | None, recorded: e.RecordedEvent) -> RunState:
    """The state after `recorded`. Total: any event that is in the log can be folded."""
    event, meta = recorded.event, recorded.meta
    if isinstance(event, e.Start):
        after = _created(recorded, event) if state is None else _started(state, event)
    elif state is None:
        raise AssertionError(f"{recorded.stream_id} does not begin with an enrolment")
    else:
        after = _FOLDS[type(event)](state, event, meta)
    commands = after.command_ids
    if meta.command not in _NOT_REMEMBERED and meta.command_id not in commands:
        commands = (*commands, meta.command_id)
    return replace(
        after,
        version=recorded.version,
        last_tick=meta.tick,
        erased=after.erased or recorded.erased,
        command_ids=commands,
    )


def fold(history: Iterable[e.RecordedEvent]) -> RunState | None:
    """The state after a whole history, None for an empty one."""
    state = None
    for recorded in history:
        state = evolve(state, recorded)
    return state


def _created(recorded: e.RecordedEvent, event: e.Start) -> RunState:
    scheduled = isinstance(event, e.RunScheduled)
    return RunState(
        run_id=recorded.stream_id,
        plan_id=event.plan_id,
        plan_version=event.plan_version,
        contact_id=event.contact_id,
        enrollment=event.enrollment,
        pins=rules.known(event.pins, recorded.stream_id),
        contact=event.personal or e.Enrolled(),
        status=RunStatus.PENDING if scheduled else RunStatus.ACTIVE,
        version=recorded.version,
        created_tick=recorded.meta.tick,
        start_tick=event.start_tick,
        last_tick=recorded.meta.tick,
        steps_remaining=event.steps_remaining,
        acts_at=event.start_tick,
        hold="start" if scheduled else "",
        hold_until=event.start_tick,
    )


def _started(state: RunState, event: e.Start) -> RunState:
    if isinstance(event, e.RunScheduled):
        return replace(
            state,
            status=RunStatus.PENDING,
            status_reason=None,
            start_tick=event.start_tick,
            acts_at=event.start_tick,
            hold="start",
            hold_until=event.start_tick,
        )
    active = replace(state, status=RunStatus.ACTIVE, status_reason=None, hold="")
    return replace(active, acts_at=event.start_tick)


def _stopped(state: RunState) -> bool:
    # What is told of such a run's last send is evidence: it is kept, and changes nothing.
    return state.status.ended or state.status == RunStatus.FAILED


def _holding(state: RunState, hold: Hold, until: int, reason: str | None, tick: int) -> RunState:
    if _stopped(state):
        return state
    # A result that arrives while the run is paused is recorded, but does not take it out of there.
    if state.status == RunStatus.PAUSED:
        state = replace(state, paused_tick=tick)
    else:
        state = replace(state, status=RunStatus.WAITING, status_reason=reason)
    return replace(state, hold=hold, hold_until=until, acts_at=until)


def _active(state: RunState, acts_at: int, **changes: Any) -> RunState:
    """The state that acts from `acts_at` on, with these changes beside."""
    if state.status.moves:
        changes |= {"status": RunStatus.ACTIVE, "status_reason": None}
    return replace(state, hold="", acts_at=acts_at, **changes)


def _finished(state: RunState, step_id: str, result: str, tick: int) -> RunState:
    # A message that goes out again beside the step is not over with it.
    intent = state.intent if state.intent is not None and state.intent.resend else None
    if _stopped(state) or state.current_step != step_id or state.step_done:
        # A run that a message beside its call stopped is not to wait for the call any more.
        waits = state.status == RunStatus.FAILED and state.hold == "pending"
        heard = result if waits and state.current_step == step_id else state.heard
        return replace(state, intent=intent, attempt=0, excused=0, heard=heard)
    return _active(
        state,
        tick,
        intent=intent,
        attempt=0,
        excused=0,
        heard=None,
        step_done=True,
        steps_completed=state.steps_completed + 1,
        previous_step=(step_id, result),
    )


def _step_entered(state: RunState, event: e.StepEntered, meta: e.Meta) -> RunState:
    return _active(
        state,
        event.acts_at,
        current_step=event.step_id,
        entered_tick=meta.tick,
        visits=state.visits + 1 if state.entered_tick == meta.tick else 1,
        key_tick=send_keys.next_tick(state, event.step_id, meta.tick),
        pending_message=None,
        heard=None,
        step_done=False,
        reenter=False,
        attempt=0,
        excused=0,
        failure=None,
        steps_remaining=event.steps_remaining,
        # A new message of the step takes the place of the one that was to go out again.
        resends=without(state.resends, event.step_id),
        # No run goes on while it sends; one that did so in an older log had lost that outcome.
        intent=None,
    )


def _step_dispatched(state: RunState, event: e.StepDispatched, meta: e.Meta) -> RunState:
    intent = Intent.of(event, meta.tick)
    mailed = state.mailed
    if event.channel == "email":
        mailed = {**mailed, event.step_id: mailed_after(state, event, meta)}
    if event.resend:
        resends = without(state.resends, event.step_id)
        return replace(state, intent=intent, mailed=mailed, resends=resends)
    sent = (
        *(pair for pair in state.last_sent if pair[0] != event.channel),
        (event.channel, event.step_id),
    )
    key_tick = send_keys.tick_of(state, event)
    return _active(
        state,
        meta.tick,
        intent=intent,
        attempt=event.attempt,
        key_tick=key_tick,
        key_ticks=send_keys.taken(state, event.step_id, key_tick),
        mailed=mailed,
        last_sent=sent,
    )


def _step_pending(state: RunState, event: e.StepPending, meta: e.Meta) -> RunState:
    reason = "waiting for the call's outcome"
    # A pause puts the wait on record once more, without naming the call again.
    message = event.message_id or state.pending_message
    state = replace(state, intent=None, pending_message=message)
    return _holding(state, "pending", event.deadline_tick, reason, meta.tick)


def _step_completed(state: RunState, event: e.StepCompleted, meta: e.Meta) -> RunState:
    if event.late:
        return replace(state, awaited=None)
    if event.resend:
        return resent(state, event.step_id)
    return _finished(state, event.step_id, event.result, meta.tick)


def _branch_evaluated(state: RunState, event: e.BranchEvaluated, meta: e.Meta) -> RunState:
    return _finished(state, event.step_id, event.goto, meta.tick)


def _step_skipped(state: RunState, event: e.StepSkipped, meta: e.Meta) -> RunState:
    if event.resend:
        return dropped(state, event.step_id)
    return _finished(state, event.step_id, "skipped", meta.tick)


def _step_deferred(state: RunState, event: e.StepDeferred, meta: e.Meta) -> RunState:
    if event.resend:
        return to_resend(state, event.step_id, key_of(state, event.step_id), event.until_tick)
    hold: Hold = "retry" if event.rule == "retry" else "defer"
    state = replace(state, held_by=(event.rule, event.detail))
    return _holding(state, hold, event.until_tick, f"{event.rule}: {event.detail}", meta.tick)


def _wait_started(state: RunState, event: e.WaitStarted, meta: e.Meta) -> RunState:
    return _holding(state, "wait", event.until_tick, None, meta.tick)


def _wait_completed(state: RunState, event: e.WaitCompleted, meta: e.Meta) -> RunState:
    return _finished(state, event.step_id, "waited", meta.tick)


def _step_failed(state: RunState, event: e.StepFailed, _: e.Meta) -> RunState:
    if event.late:
        return replace(state, awaited=None)
    if event.resend:
        return dropped(state, event.step_id)
    state = replace(state, intent=None)
    return state if _stopped(state) else replace(state, failure=event.error)


def _step_retried(state: RunState, event: e.StepRetried, meta: e.Meta) -> RunState:
    if event.resend:
        return again(state, event)
    reason = f"attempt {event.attempt}: {event.error}"
    state = replace(state, intent=None, excused=state.excused + event.ours)
    return _holding(state, "retry", event.retry_tick, reason, meta.tick)


def _outcome_unknown(state: RunState, event: e.OutcomeUnknown, _: e.Meta) -> RunState:
    attempt = state.intent.attempt if state.intent is not None else state.attempt
    lost = Lost(event.step_id, event.key, attempt, event.resend)
    failure = f"outcome unknown: {event.cause}"
    return replace(state, intent=None, unknown=lost, awaited=lost, failure=failure)


def _step_resolved(state: RunState, event: e.StepResolved, meta: e.Meta) -> RunState:
    # What is awaited stays so: an outcome may become known after it was resolved, too.
    state = replace(state, unknown=None)
    if event.outcome == "failed":
        reason = f"step {event.step_id} resolved as failed"
        return replace(state, failure=reason, status_reason=reason)
    active = replace(state, status=RunStatus.ACTIVE, status_reason=None, failure=None)
    if event.resend:
        # The run itself goes on where it stood; what it waited for still holds it.
        active = replace(active, acts_at=event.acts_at)
        if event.outcome == "delivered":
            return active
        key = idempotency_key(state.run_id, event.step_id, event.acts_at)
        taken = send_keys.taken(state, event.step_id, event.acts_at)
        active = replace(active, key_ticks=taken)
        return to_resend(active, event.step_id, key, event.acts_at)
    active = replace(active, hold="")
    if event.outcome == "resend":
        return replace(active, reenter=True, acts_at=event.acts_at)
    return replace(_finished(active, event.step_id, "delivered", meta.tick), acts_at=event.acts_at)


def _run_paused(state: RunState, event: e.RunPaused, meta: e.Meta) -> RunState:
    return replace(
        state,
        status=RunStatus.PAUSED,
        status_reason=meta.reason or event.cause,
        paused_tick=meta.tick,
        keep=event.keep,
        paused_by_policy=event.cause is not None,
    )


def _run_resumed(state: RunState, event: e.RunResumed, _: e.Meta) -> RunState:
    return replace(
        state,
        pins=replace(state.pins, policy=event.policy or state.pins.policy),
        status=RunStatus.ACTIVE,
        status_reason=None,
        hold_until=state.hold_until + event.shift,
        acts_at=event.acts_at,
    )


def _run_retried(state: RunState, event: e.RunRetried, _: e.Meta) -> RunState:
    return replace(
        state,
        status=RunStatus.ACTIVE,
        status_reason=None,
        failure=None,
        reenter=not state.hold and state.current_step is not None and not state.step_done,
        acts_at=event.acts_at,
        pins=rules.known(event.pins or state.pins, state.run_id),
    )


def _run_failed(state: RunState, event: e.RunFailed, _: e.Meta) -> RunState:
    return replace(
        state,
        status=RunStatus.FAILED,
        status_reason=event.cause,
        failure=event.cause,
        acts_at=None,
        # A message that went out again is lost: what the run itself waits for has not changed.
        hold=state.hold if state.unknown is not None and state.unknown.resend else "",
    )


def _ended(state: RunState, status: RunStatus, tick: int, outcome: str | None) -> RunState:
    return replace(
        state,
        status=status,
        completed_tick=tick,
        outcome=outcome,
        current_step=None,
        steps_remaining=0,
        acts_at=None,
        hold="",
        exit=None,
        resends=(),
    )


def _run_completed(state: RunState, event: e.RunCompleted, meta: e.Meta) -> RunState:
    # An end step counts as executed when the run ends in it.
    done = state.steps_completed + (event.step_id is not None)
    state = replace(state, steps_completed=done, status_reason=None)
    return _ended(state, RunStatus.COMPLETED, meta.tick, event.outcome)


def _run_cancelled(state: RunState, event: e.RunCancelled, meta: e.Meta) -> RunState:
    state = replace(state, status_reason=meta.reason or event.cause)
    return _ended(state, RunStatus.CANCELLED, meta.tick, None)


def _event_received(state: RunState, event: e.ChannelEventReceived, meta: e.Meta) -> RunState:
    if event.ended:
        return state
    state = remember(state, event.type, event.step_id, event.kind)
    outcome = call_outcome(event.type, event.kind)
    if outcome is not None and state.intent is not None and state.intent.step_id == event.step_id:
        state = replace(state, intent=replace(state.intent, outcome=outcome))
    if event.exit_condition is not None and state.exit is None:
        state = replace(
            state, exit=(event.exit_condition, event.exit_outcome), exit_tick=meta.tick + 1
        )
    return state


def remember(state: RunState, type_: str, step_id: str | None, kind: str | None) -> RunState:
    """The state with a channel event added to what conditions can ask for."""
    if type_ == "email.replied" and kind == "auto":
        return state  # a machine's reply is no reply
    state = replace(state, seen=state.seen | {(type_, step_id or "")})
    if type_ in ("email.unsubscribed", "email.complained"):
        return replace(state, unsubscribed=True)
    if type_ == "email.bounced" and kind == "hard":
        return replace(state, bounced=True)
    outcome = call_outcome(type_, kind)
    if outcome is not None and step_id is not None:
        return replace(state, call_outcomes={**state.call_outcomes, step_id: outcome})
    return state


_FOLDS: Final[dict[type[e.Event], Callable[[RunState, Any, e.Meta], RunState]]] = {
    e.StepEntered: _step_entered,
    e.StepDispatched: _step_dispatched,
    e.StepPending: _step_pending,
    e.StepCompleted: _step_completed,
    e.BranchEvaluated: _branch_evaluated,
    e.StepSkipped: _step_skipped,
    e.StepDeferred: _step_deferred,
    e.WaitStarted: _wait_started,
    e.WaitCompleted: _wait_completed,
    e.ChannelEventReceived: _event_received,
    e.StepFailed: _step_failed,
    e.StepRetried: _step_retried,
    e.OutcomeUnknown: _outcome_unknown,
    e.StepResolved: _step_resolved,
    e.RunPaused: _run_paused,
    e.RunResumed: _run_resumed,
    e.RunRetried: _run_retried,
    e.RunFailed: _run_failed,
    e.RunCompleted: _run_completed,
    e.RunCancelled: _run_cancelled,
}
