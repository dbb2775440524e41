"""What happened to each contact: its runs, sends, waits, refusals, and what it said itself.

A run's first event alone names the contact; the run's row keeps that, so that every later event
can be filed under the contact, too.
"""

from __future__ import annotations

from typing import Any, Final

from dee_es.core import events as e
from dee_es.core.ids import is_run
from dee_es.core.projection import OneTable, Table
from dee_es.core.registry import REGISTRY
from dee_es.core.views import ContactEntryRow, ContactRunRow


class ContactHistory(OneTable):
    """Files each event that tells something about a contact under it, in log order."""

    name = "contact_history"
    appends_only = False
    table = Table(
        "contact_run",
        1,
        ContactRunRow,
        key="run_id",
        # A contact's runs, which are asked for by contact alone.
        indexes=(("contact_id", "run_id"),),
    )
    lines = Table(
        "contact_history",
        1,
        ContactEntryRow,
        key="position",
        # A contact's entries, in the order in which they are told; nobody asks for anything else.
        indexes=(("contact_id", "position"),),
    )

    def key(self, event: e.RecordedEvent) -> str | None:
        """The run, for every event of one."""
        return event.stream_id if is_run(event.stream_id) else None

    def fold(self, row: ContactRunRow | None, event: e.RecordedEvent) -> ContactRunRow:
        """Whom the run is for; its first event says that."""
        if row is not None:
            return row
        start = event.event
        assert isinstance(start, e.Start), "a run begins with its enrolment"
        return ContactRunRow(event.stream_id, start.contact_id, start.plan_id)

    def line(self, row: ContactRunRow | None, event: e.RecordedEvent) -> ContactEntryRow | None:
        """The event under its contact; None if it tells nothing about one."""
        held: Any = event.event
        kind = _KINDS.get(type(held))
        contact = row.contact_id if row is not None else getattr(held, "contact_id", None)
        if kind is None or contact is None:
            return None
        if isinstance(held, e.StepDeferred) and held.rule != "retry":
            kind = "refusal"
        return ContactEntryRow(
            position=event.position,
            contact_id=contact,
            tick=event.meta.tick,
            kind=kind,
            action=REGISTRY[event.name].action,
            run_id=event.stream_id if row is not None else getattr(held, "run_id", None),
            plan_id=row.plan_id if row is not None else getattr(held, "plan_id", None),
            step_id=getattr(held, "step_id", None),
            rule=getattr(held, "rule", None),
            detail=_detail(held),
            until_tick=getattr(held, "until_tick", getattr(held, "retry_tick", None)),
        )


def _detail(event: Any) -> str | None:
    """In plain words how the event came out; nothing personal is in these fields."""
    for name in _TELLING:
        value = getattr(event, name, None)
        if value:
            return str(value)
    return None


_KINDS: Final[dict[type[e.Event], str]] = {
    e.RunScheduled: "run",
    e.RunStarted: "run",
    e.RunPaused: "run",
    e.RunResumed: "run",
    e.RunRetried: "run",
    e.RunFailed: "run",
    e.RunCompleted: "run",
    e.RunCancelled: "run",
    e.StepDispatched: "send",
    e.StepPending: "send",
    e.StepCompleted: "send",
    e.StepFailed: "send",
    e.StepRetried: "send",
    e.OutcomeUnknown: "send",
    e.StepResolved: "send",
    e.WaitStarted: "wait",
    e.WaitCompleted: "wait",
    e.StepDeferred: "wait",
    e.StepSkipped: "refusal",
    e.EnrollmentRefused: "refusal",
    e.ChannelEventReceived: "event",
    e.ContactSuppressed: "contact",
    e.ContactUnsuppressed: "contact",
    e.ContactErased: "contact",
    e.ConsentGranted: "contact",
    e.ConsentRevoked: "contact",
}
IGNORED: Final[frozenset[type[e.Event]]] = frozenset(
    {
        # The run's own way through its plan, which its timeline tells.
        e.StepEntered,
        e.BranchEvaluated,
        # What is about definitions and about the evidence as a whole, or about who keeps it.
        e.PlanPublished,
        e.TemplatePublished,
        e.ScriptPublished,
        e.SenderPublished,
        e.PolicyPublished,
        e.ClockStarted,
        e.CheckpointSigned,
        e.LogExported,
        e.LogImported,
        e.LogArchived,
        e.HoldPlaced,
        e.HoldLifted,
    }
)
"""Events that tell nothing about a contact."""
_TELLING: Final = (
    "result", "outcome", "detail", "error", "cause", "type", "suppression", "level", "channel"
)  # fmt: skip

CONTACT_HISTORY: Final = ContactHistory()
