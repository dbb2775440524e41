"""The commands that led to a run's events, found again in the events themselves.

Every event holds what its decision read, so that a run can be decided again from its log alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from msgspec.structs import replace

from dee_es.core import commands as c
from dee_es.core import events as e
from dee_es.core.gate import Snapshot, snapshot_from
from dee_es.core.runs.state import RunState

Verdict = e.StepDispatched | e.StepSkipped | e.StepDeferred | e.RunPaused | e.StepFailed
"""Events that hold a verdict of the policy gate, if it was asked."""
RESULT: Final = "result"
TICK: Final = "tick"
ERASE: Final = "erase"


def enrollment_of(first: e.RecordedEvent) -> c.Enroll | None:
    """The command that created the run; None if its stream does not begin with an enrolment."""
    start = first.event
    if not isinstance(start, e.Start):
        return None
    scheduled = isinstance(start, e.RunScheduled)
    return c.Enroll(
        first.meta,
        first.stream_id,
        start.contact_id,
        start.enrollment,
        start.personal or e.Enrolled(),
        start.pins,
        start.start_tick if scheduled else None,
    )


def command_of(
    materials: c.Materials, state: RunState, segment: Sequence[e.RecordedEvent]
) -> c.RunCommand | None:
    """The command whose decision begins with the first event of `segment`.

    `segment` holds the events that one command id recorded at one tick; `state` is the run before
    them. None if no command leads to such an event.
    """
    first = segment[0]
    if first.meta.command == TICK:
        return _advance(materials, state, segment)
    if first.meta.command == RESULT:
        return _result(state, first)
    if first.meta.command == ERASE:
        return c.Erase(first.meta)
    if isinstance(first.event, e.ChannelEventReceived):
        return _received(first.meta, first.event, first.erased)
    make = _BY_EVENT.get(type(first.event))
    return None if make is None else make(first.meta, first.event)


def begins(first: e.RecordedEvent, command: c.RunCommand) -> bool:
    """Whether `first`, recorded under the id of a person's command, is that very command's.

    What only the moment decided, such as the definitions that a retry takes, does not count: it may
    be otherwise when the command is repeated.
    """
    event = first.event
    if isinstance(command, c.Pause) and isinstance(event, e.RunPaused):
        same = event.keep == command.keep
    elif isinstance(command, c.Resolve) and isinstance(event, e.StepResolved):
        same = event.outcome == command.outcome
    else:
        same = True
    return same and first.meta.command == command.meta.command


# --- ticks ----------------------------------------------------------------------------------------


def _advance(
    materials: c.Materials, state: RunState, segment: Sequence[e.RecordedEvent]
) -> c.Advance:
    meta = segment[0].meta
    abandoned = state.intent is not None and isinstance(segment[0].event, e.OutcomeUnknown)
    for recorded in segment:
        event = recorded.event
        if isinstance(event, Verdict) and event.reads:
            epoch = event.lease_epoch if isinstance(event, e.StepDispatched) else 0
            return c.Advance(meta, snapshots_of(materials, state, event, meta), epoch, abandoned)
        if isinstance(event, e.StepDispatched):
            return c.Advance(meta, {}, event.lease_epoch, abandoned)
    return c.Advance(meta, abandoned=abandoned)


def snapshots_of(
    materials: c.Materials, state: RunState, verdict: Verdict, meta: e.Meta
) -> dict[str, Snapshot]:
    """What the gate read for a verdict, given for every channel: the step knows which is its."""
    domain, addresses = _counted_for(verdict)
    asked = Snapshot(
        meta.tick,
        materials.scale,
        "",
        state.plan_id,
        contact_id=state.contact_id,
        domain=domain,
        addresses=addresses,
    )
    gate = _gate_of(verdict)
    return {
        channel: snapshot_from(
            materials.policy, replace(asked, channel=channel), verdict.reads, gate
        )
        for channel in materials.plan.graph.channels
    }


def _counted_for(verdict: Verdict) -> tuple[str | None, tuple[str, ...]]:
    """The digests under which a send was counted: of its domain, and of the contact's addresses."""
    if not isinstance(verdict, e.StepDispatched):
        return None, ()
    names = [name for name, *_ in verdict.counted]
    domains = [name.removeprefix("domain:") for name in names if name.startswith("domain:")]
    addresses = [name.removeprefix("contact.") for name in names if name.startswith("contact.")]
    return (domains[0] if domains else None), tuple(addresses)


def _gate_of(verdict: Verdict) -> dict[str, Any]:
    personal = verdict.personal
    if isinstance(personal, e.Message):
        return personal.gate
    if isinstance(personal, e.Seen):
        return personal.values
    if isinstance(personal, e.Detail):
        gate = personal.data.get("gate", {})
        return gate if isinstance(gate, dict) else {}
    return {}


# --- results of channels --------------------------------------------------------------------------


def _result(state: RunState, first: e.RecordedEvent) -> c.RecordResult | None:
    event = first.event
    if isinstance(event, e.StepCompleted | e.StepFailed) and event.late:
        sent: Any = state.awaited
    else:
        sent = state.intent
    if sent is None:
        return None
    return outcome_of(first.meta, event, sent.key, sent.attempt)


def outcome_of(meta: e.Meta, event: e.Event, key: str, attempt: int) -> c.RecordResult | None:
    """What the channel must have said for this event to follow."""
    if isinstance(event, e.StepCompleted):
        status: Any = "pending" if event.result == "pending" else "delivered"
        return c.RecordResult(meta, key, attempt, status, event.message_id)
    if isinstance(event, e.StepPending):
        return c.RecordResult(meta, key, attempt, "pending", event.message_id)
    if isinstance(event, e.OutcomeUnknown):
        return c.RecordResult(meta, key, attempt, "unknown", error=event.cause)
    if isinstance(event, e.StepRetried | e.StepFailed):
        retryable = isinstance(event, e.StepRetried)
        return c.RecordResult(
            meta,
            key,
            attempt,
            "failed",
            error=event.error,
            retryable=retryable,
            detail=event.personal,
            ours=isinstance(event, e.StepRetried) and event.ours,
        )
    return None


# --- people and channel events --------------------------------------------------------------------


def _received(meta: e.Meta, event: e.ChannelEventReceived, erased: bool) -> c.ReceiveEvent:
    detail = event.personal
    if erased and event.kind is not None:
        # What the data meant outlives the data.
        detail = e.Detail(_meant(event.type, event.kind))
    return c.ReceiveEvent(
        meta, event.type, event.event_id, event.occurred_tick, event.step_id, detail
    )


def _meant(type_: str, kind: str) -> dict[str, Any]:
    if type_ == "email.bounced":
        return {"kind": kind}
    return {"autoReply": True} if type_ == "email.replied" else {"outcome": kind}


_BY_EVENT: Final[dict[type[e.Event], Callable[[e.Meta, Any], c.RunCommand]]] = {
    e.RunPaused: lambda meta, event: c.Pause(meta, event.keep),
    e.RunResumed: lambda meta, event: c.Resume(meta, event.acts_at - meta.tick, event.policy),
    e.RunCancelled: lambda meta, event: c.Cancel(meta, event.cause),
    e.RunRetried: lambda meta, event: c.Retry(meta, event.pins, event.acts_at - meta.tick),
    e.StepResolved: lambda meta, event: c.Resolve(meta, event.outcome),
}
