"""How a run's events change it: `evolve` folds one event into the state, `fold` a whole history."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from msgspec.structs import replace

from dee_es.core import events as e
from dee_es.core.gate.suppression import blocks_plan, facts_of
from dee_es.core.ids import idempotency_key
from dee_es.core.runs import rules, send_keys
from dee_es.core.runs.channel_events import (
    SUPPRESSED,
    UNDELIVERABLE,
    call_outcome,
    counts,
    ends_runs,
)
from dee_es.core.runs.resend_state import (
    drop_resend,
    end_resend,
    key_of,
    mailed_after,
    plan_resend,
    retry_resend,
    without,
)
from dee_es.core.runs.state import Hold, Intent, Lost, RunState
from dee_es.core.views import RunStatus

# Commands of the scheduler and of channels come by the thousand and are never repeated by a caller.
NOT_REMEMBERED: Final = frozenset({"tick", "result"})


def evolve(state: RunState | None, recorded: e.RecordedEvent) -> RunState:
    """The state after `recorded`. Total: any event that is in the log can be folded."""
    if state is not None:
        run = follow(state, recorded.event, recorded.meta)
    elif isinstance(recorded.event, e.Start):
        run = _created(recorded, recorded.event)
    else:
        raise AssertionError(f"{recorded.stream_id} does not begin with an enrolment")
    run.version = recorded.version
    run.erased = run.erased or recorded.erased
    return run


def follow(state: RunState, event: e.Event, meta: e.Meta) -> RunState:
    """The state after one more event, which need not be in the log yet."""
    run = replace(state, version=state.version + 1, last_tick=meta.tick)
    _FOLDS[type(event)](run, event, meta)
    if meta.command not in NOT_REMEMBERED and meta.command_id not in run.command_ids:
        run.command_ids = (*run.command_ids, meta.command_id)
    return run


def fold(history: Iterable[e.RecordedEvent]) -> RunState | None:
    """The state after a whole history, None for an empty one."""
    state = None
    for recorded in history:
        state = evolve(state, recorded)
    return state


def _created(recorded: e.RecordedEvent, event: e.Start) -> RunState:
    scheduled, meta = isinstance(event, e.RunScheduled), recorded.meta
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
        created_tick=meta.tick,
        start_tick=event.start_tick,
        last_tick=meta.tick,
        steps_remaining=event.steps_remaining,
        acts_at=event.start_tick,
        hold="start" if scheduled else "",
        hold_until=event.start_tick,
        command_ids=() if meta.command in NOT_REMEMBERED else (meta.command_id,),
    )


# What follows changes the state that it is given, which is `follow`'s own copy.


def _scheduled(run: RunState, event: e.RunScheduled, _: e.Meta) -> None:
    run.status, run.status_reason = RunStatus.PENDING, None
    run.start_tick = event.start_tick
    _hold(run, "start", event.start_tick)


def _started(run: RunState, event: e.RunStarted, _: e.Meta) -> None:
    run.status, run.status_reason = RunStatus.ACTIVE, None
    run.hold, run.acts_at = "", event.start_tick


def _stopped(run: RunState) -> bool:
    # What is told of such a run's last send is evidence: it is kept, and changes nothing.
    return run.status.ended or run.status == RunStatus.FAILED


def _hold(run: RunState, hold: Hold, until: int) -> None:
    run.hold, run.hold_until, run.acts_at = hold, until, until


def _wait(run: RunState, hold: Hold, until: int, reason: str | None, tick: int) -> None:
    if _stopped(run):
        return
    # A result that arrives while the run is paused is recorded, but does not take it out of there.
    if run.status == RunStatus.PAUSED:
        run.paused_tick = tick
    else:
        run.status, run.status_reason = RunStatus.WAITING, reason
    _hold(run, hold, until)


def _act(run: RunState, acts_at: int) -> None:
    """Nothing holds the run any more: it acts from `acts_at` on."""
    if run.status.moves:
        run.status, run.status_reason = RunStatus.ACTIVE, None
    run.hold, run.acts_at = "", acts_at


def _finish(run: RunState, step_id: str, result: str, tick: int) -> None:
    # A message that goes out again beside the step is not over with it.
    if run.intent is not None and not run.intent.resend:
        run.intent = None
    run.attempt, run.excused = 0, 0
    if _stopped(run) or run.current_step != step_id or run.step_done:
        # A run that a message beside its call stopped is not to wait for the call any more.
        waits = run.status == RunStatus.FAILED and run.hold == "pending"
        if waits and run.current_step == step_id:
            run.heard = result
        return
    run.heard = None
    run.step_done = True
    run.steps_completed += 1
    run.previous_step = (step_id, result)
    _act(run, tick)


def _step_entered(run: RunState, event: e.StepEntered, meta: e.Meta) -> None:
    step_id, tick = event.step_id, meta.tick
    run.visits = run.visits + 1 if run.entered_tick == tick else 1
    run.current_step, run.entered_tick = step_id, tick
    run.key_tick = send_keys.next_tick(run, step_id, tick)
    run.pending_message = run.heard = run.failure = None
    run.step_done = run.reenter = False
    run.attempt, run.excused = 0, 0
    run.steps_remaining = event.steps_remaining
    # A new message of the step takes the place of the one that was to go out again.
    run.resends = without(run.resends, step_id)
    # No run goes on while it sends; one that did so in an older log had lost that outcome.
    run.intent = None
    _act(run, event.acts_at)


def _step_dispatched(run: RunState, event: e.StepDispatched, meta: e.Meta) -> None:
    step_id, channel = event.step_id, event.channel
    run.intent = Intent.of(event, meta.tick)
    if channel == "email":
        run.mailed = {**run.mailed, step_id: mailed_after(run, event, meta)}
    if event.resend:
        run.resends = without(run.resends, step_id)
        return
    run.attempt = event.attempt
    run.key_tick = send_keys.tick_of(run, event)
    run.key_ticks = send_keys.taken(run, step_id, run.key_tick)
    others = [pair for pair in run.last_sent if pair[0] != channel]
    run.last_sent = (*others, (channel, step_id))
    _act(run, meta.tick)


def _step_pending(run: RunState, event: e.StepPending, meta: e.Meta) -> None:
    run.intent = None
    # A pause puts the wait on record once more, without naming the call again.
    run.pending_message = event.message_id or run.pending_message
    reason = "waiting for the call's outcome"
    _wait(run, "pending", event.deadline_tick, reason, meta.tick)


def _step_completed(run: RunState, event: e.StepCompleted, meta: e.Meta) -> None:
    if event.late:
        run.awaited = None
    elif event.resend:
        end_resend(run, event.step_id)
    else:
        _finish(run, event.step_id, event.result, meta.tick)


def _branch_evaluated(run: RunState, event: e.BranchEvaluated, meta: e.Meta) -> None:
    _finish(run, event.step_id, event.goto, meta.tick)


def _step_skipped(run: RunState, event: e.StepSkipped, meta: e.Meta) -> None:
    if event.rule == "suppression" and run.pins.rules >= rules.HEEDING:
        met = facts_of(str(event.reads.get("suppression", "")))
        run.unsubscribed |= any(blocks_plan(fact, run.plan_id) for fact in met)
    if event.resend:
        drop_resend(run, event.step_id)
    else:
        _finish(run, event.step_id, "skipped", meta.tick)


def _step_deferred(run: RunState, event: e.StepDeferred, meta: e.Meta) -> None:
    if event.resend:
        plan_resend(run, event.step_id, key_of(run, event.step_id), event.until_tick)
        return
    run.held_by = (event.rule, event.detail)
    hold: Hold = "retry" if event.rule == "retry" else "defer"
    _wait(run, hold, event.until_tick, f"{event.rule}: {event.detail}", meta.tick)


def _wait_started(run: RunState, event: e.WaitStarted, meta: e.Meta) -> None:
    _wait(run, "wait", event.until_tick, None, meta.tick)


def _wait_completed(run: RunState, event: e.WaitCompleted, meta: e.Meta) -> None:
    _finish(run, event.step_id, "waited", meta.tick)


def _step_failed(run: RunState, event: e.StepFailed, _: e.Meta) -> None:
    if event.late:
        run.awaited = None
    elif event.resend:
        drop_resend(run, event.step_id)
    else:
        run.intent = None
        if not _stopped(run):
            run.failure = event.error


def _step_retried(run: RunState, event: e.StepRetried, meta: e.Meta) -> None:
    if event.resend:
        retry_resend(run, event)
        return
    run.intent = None
    run.excused += event.ours
    _wait(run, "retry", event.retry_tick, f"attempt {event.attempt}: {event.error}", meta.tick)


def _outcome_unknown(run: RunState, event: e.OutcomeUnknown, _: e.Meta) -> None:
    attempt = run.intent.attempt if run.intent is not None else run.attempt
    run.unknown = run.awaited = Lost(event.step_id, event.key, attempt, event.resend)
    run.intent = None
    run.failure = f"outcome unknown: {event.cause}"


def _step_resolved(run: RunState, event: e.StepResolved, meta: e.Meta) -> None:
    step_id, acts_at = event.step_id, event.acts_at
    # What is awaited stays so: an outcome may become known after it was resolved, too.
    run.unknown = None
    if event.outcome == "failed":
        run.failure = run.status_reason = f"step {step_id} resolved as failed"
        return
    run.status, run.status_reason, run.failure = RunStatus.ACTIVE, None, None
    if not event.resend:
        run.hold = ""
        if event.outcome == "resend":
            run.reenter = True
        else:
            _finish(run, step_id, "delivered", meta.tick)
    elif event.outcome != "delivered":
        run.key_ticks = send_keys.taken(run, step_id, acts_at)
        plan_resend(run, step_id, idempotency_key(run.run_id, step_id, acts_at), acts_at)
    # Where a message beside it was meant, the run goes on where it stood, held as it was.
    run.acts_at = acts_at


def _run_paused(run: RunState, event: e.RunPaused, meta: e.Meta) -> None:
    run.status, run.status_reason = RunStatus.PAUSED, meta.reason or event.cause
    run.paused_tick = meta.tick
    run.keep = event.keep
    run.paused_by_policy = event.cause is not None


def _run_resumed(run: RunState, event: e.RunResumed, _: e.Meta) -> None:
    run.pins = replace(run.pins, policy=event.policy or run.pins.policy)
    run.status, run.status_reason = RunStatus.ACTIVE, None
    run.hold_until += event.shift
    run.acts_at = event.acts_at


def _run_retried(run: RunState, event: e.RunRetried, _: e.Meta) -> None:
    run.status, run.status_reason, run.failure = RunStatus.ACTIVE, None, None
    run.reenter = not run.hold and run.current_step is not None and not run.step_done
    run.acts_at = event.acts_at
    run.pins = rules.known(event.pins or run.pins, run.run_id)


def _run_failed(run: RunState, event: e.RunFailed, _: e.Meta) -> None:
    run.status = RunStatus.FAILED
    run.status_reason = run.failure = event.cause
    run.acts_at = None
    # A message that went out again is lost: what the run itself waits for has not changed.
    if run.unknown is None or not run.unknown.resend:
        run.hold = ""


def _end(run: RunState, status: RunStatus, reason: str | None, tick: int) -> None:
    run.status, run.status_reason, run.completed_tick = status, reason, tick
    run.outcome = run.current_step = run.acts_at = run.exit = None
    run.steps_remaining = 0
    run.hold = ""
    run.resends = ()


def _run_completed(run: RunState, event: e.RunCompleted, meta: e.Meta) -> None:
    _end(run, RunStatus.COMPLETED, None, meta.tick)
    run.outcome = event.outcome
    # An end step counts as executed when the run ends in it.
    run.steps_completed += event.step_id is not None


def _run_cancelled(run: RunState, event: e.RunCancelled, meta: e.Meta) -> None:
    _end(run, RunStatus.CANCELLED, meta.reason or event.cause, meta.tick)


def _event_received(run: RunState, event: e.ChannelEventReceived, meta: e.Meta) -> None:
    if event.ended:
        return
    _remember(run, event.type, event.step_id, event.kind)
    outcome, intent = call_outcome(event.type, event.kind), run.intent
    if outcome is not None and intent is not None and intent.step_id == event.step_id:
        run.intent = replace(intent, outcome=outcome)
    if event.exit_condition is not None and run.exit is None:
        run.exit = (event.exit_condition, event.exit_outcome)
        run.exit_tick = meta.tick + 1


def told(state: RunState, type_: str, step_id: str | None, kind: str | None) -> RunState:
    """The state with a channel event added to what conditions can ask for."""
    run = replace(state)
    _remember(run, type_, step_id, kind)
    return run


def _remember(run: RunState, type_: str, step_id: str | None, kind: str | None) -> None:
    if not counts(type_, kind):
        return
    run.seen = run.seen | {(type_, step_id or "")}
    cause = ends_runs(type_, kind)
    if cause == UNDELIVERABLE:
        run.bounced = True
    elif cause is not None or type_ == SUPPRESSED:
        run.unsubscribed = True
    outcome = call_outcome(type_, kind)
    if outcome is not None and step_id is not None:
        run.call_outcomes = {**run.call_outcomes, step_id: outcome}


_FOLDS: Final[dict[type[e.Event], Callable[[RunState, Any, e.Meta], None]]] = {
    e.RunScheduled: _scheduled,
    e.RunStarted: _started,
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
