"""The fixed table of event names: which class a stored name stands for, and its audit action.

Names are looked up here and never imported, so that a name in a tampered row can run nothing.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from dee_es.core import events


class Entry(NamedTuple):
    """One event: its class in the current shape, the version of that shape, its audit action."""

    cls: type[events.Event]
    schema: int
    action: str


REGISTRY: Final[dict[str, Entry]] = {
    "RunScheduled": Entry(events.RunScheduled, 1, "run.scheduled"),
    "RunStarted": Entry(events.RunStarted, 1, "run.started"),
    "StepEntered": Entry(events.StepEntered, 1, "step.entered"),
    "StepDispatched": Entry(events.StepDispatched, 1, "step.dispatched"),
    "StepPending": Entry(events.StepPending, 1, "step.pending"),
    "StepCompleted": Entry(events.StepCompleted, 1, "step.executed"),
    "BranchEvaluated": Entry(events.BranchEvaluated, 1, "step.evaluated"),
    "StepSkipped": Entry(events.StepSkipped, 1, "step.skipped"),
    "StepDeferred": Entry(events.StepDeferred, 1, "step.deferred"),
    "WaitStarted": Entry(events.WaitStarted, 1, "wait.started"),
    "WaitCompleted": Entry(events.WaitCompleted, 1, "wait.completed"),
    "ChannelEventReceived": Entry(events.ChannelEventReceived, 1, "event.received"),
    "StepFailed": Entry(events.StepFailed, 1, "error.occurred"),
    "StepRetried": Entry(events.StepRetried, 2, "error.retried"),
    "OutcomeUnknown": Entry(events.OutcomeUnknown, 1, "error.outcome_unknown"),
    "StepResolved": Entry(events.StepResolved, 1, "step.resolved"),
    "RunPaused": Entry(events.RunPaused, 1, "run.paused"),
    "RunResumed": Entry(events.RunResumed, 2, "run.resumed"),
    "RunRetried": Entry(events.RunRetried, 1, "run.retried"),
    "RunCancelled": Entry(events.RunCancelled, 1, "run.cancelled"),
    "RunCompleted": Entry(events.RunCompleted, 1, "run.completed"),
    "RunFailed": Entry(events.RunFailed, 1, "run.failed"),
    "PlanPublished": Entry(events.PlanPublished, 1, "plan.published"),
    "TemplatePublished": Entry(events.TemplatePublished, 1, "template.published"),
    "ScriptPublished": Entry(events.ScriptPublished, 1, "script.published"),
    "SenderPublished": Entry(events.SenderPublished, 1, "sender.published"),
    "PolicyPublished": Entry(events.PolicyPublished, 1, "policy.published"),
    "ContactSuppressed": Entry(events.ContactSuppressed, 1, "contact.suppressed"),
    "ContactUnsuppressed": Entry(events.ContactUnsuppressed, 1, "contact.unsuppressed"),
    "ContactErased": Entry(events.ContactErased, 1, "contact.erased"),
    "ConsentGranted": Entry(events.ConsentGranted, 1, "consent.granted"),
    "ConsentRevoked": Entry(events.ConsentRevoked, 1, "consent.revoked"),
    "EnrollmentRefused": Entry(events.EnrollmentRefused, 1, "enrollment.refused"),
    "CheckpointSigned": Entry(events.CheckpointSigned, 1, "checkpoint.signed"),
    "LogExported": Entry(events.LogExported, 1, "log.exported"),
    "LogImported": Entry(events.LogImported, 1, "log.imported"),
    "LogArchived": Entry(events.LogArchived, 1, "log.archived"),
    "HoldPlaced": Entry(events.HoldPlaced, 1, "hold.placed"),
    "HoldLifted": Entry(events.HoldLifted, 1, "hold.lifted"),
    "ClockStarted": Entry(events.ClockStarted, 2, "clock.started"),
}

NAMES: Final[dict[type[events.Event], str]] = {entry.cls: name for name, entry in REGISTRY.items()}
ACTIONS: Final[frozenset[str]] = frozenset(entry.action for entry in REGISTRY.values())
CREATING: Final = frozenset({"RunScheduled", "RunStarted"})
"""Names that, as the first event of a stream, create a run and take the next ordinal."""
