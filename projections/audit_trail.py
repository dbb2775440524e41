"""The audit trail: one row for every event of the log, with what audit queries search by.

A run's plan and contact stand in its first event only; the run's row keeps them, so that every
later entry can be found by them, too.
"""

from __future__ import annotations

from typing import Any, Final

from dee_es.core import events as e
from dee_es.core.ids import SYSTEM_STREAM, is_run
from dee_es.core.projection import OneTable, Table
from dee_es.core.registry import REGISTRY
from dee_es.core.views import AuditRow, ContactRunRow

REASON: Final = 500
"""Characters of a reason that can be searched; the event keeps all of it."""


class AuditTrail(OneTable):
    """Makes an entry of every event, in log order."""

    name = "audit_trail"
    appends_only = False
    table = Table("audit_run", 2, ContactRunRow, key="run_id")
    lines = Table(
        "audit_trail",
        2,
        AuditRow,
        key="position",
        # Whatever narrows a query, time narrows it further: so time is in every index.
        indexes=(
            ("run_id", "tick", "position"),
            ("contact_id", "tick", "position"),
            ("actor", "tick", "position"),
            ("reason", "tick", "position"),
            ("plan_id", "tick", "position"),
            ("action", "tick", "position"),
            ("tick", "position"),
        ),
    )

    def key(self, event: e.RecordedEvent) -> str | None:
        """The run, for every event of one."""
        return event.stream_id if is_run(event.stream_id) else None

    def fold(self, row: ContactRunRow | None, event: e.RecordedEvent) -> ContactRunRow:
        """Whom the run is for, and its plan; its first event says that."""
        if row is not None:
            return row
        start = event.event
        assert isinstance(start, e.Start), "a run begins with its enrolment"
        return ContactRunRow(event.stream_id, start.contact_id, start.plan_id)

    def line(self, row: ContactRunRow | None, event: e.RecordedEvent) -> AuditRow:
        """The event as an entry of the trail."""
        held: Any = event.event
        meta = event.meta
        run_id: str | None = None
        if row is not None:
            run_id = row.run_id
            plan_id: str | None = row.plan_id
            contact_id: str | None = row.contact_id
        else:
            kind, _, name = event.stream_id.partition(":")
            if event.stream_id == SYSTEM_STREAM:
                # Exports and holds are found by the run that they are about.
                run_id = getattr(held, "run_id", None)
            plan_id = getattr(held, "plan_id", name if kind == "plan" else None)
            contact_id = getattr(held, "contact_id", name if kind == "contact" else None)
        return AuditRow(
            position=event.position,
            stream_id=event.stream_id,
            version=event.version,
            action=REGISTRY[event.name].action,
            tick=meta.tick,
            run_id=run_id,
            plan_id=plan_id,
            contact_id=contact_id,
            step_id=getattr(held, "step_id", None),
            actor=meta.actor,
            reason=None if meta.reason is None else meta.reason[:REASON],
        )


AUDIT_TRAIL: Final = AuditTrail()
