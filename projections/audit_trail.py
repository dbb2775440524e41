"""The audit trail: one row for every event of the log, with what audit queries search by."""

from __future__ import annotations

from typing import Any, Final

from dee_es.core.events import RecordedEvent
from dee_es.core.ids import is_run
from dee_es.core.projection import OneTable, Table
from dee_es.core.registry import REGISTRY
from dee_es.core.views import AuditRow


class AuditTrail(OneTable):
    """Makes a row of every event. A run's plan and contact stand in its first event only, so
    queries by plan or contact go through the run list."""

    name = "audit_trail"
    appends_only = True
    table = Table(
        "audit_trail",
        1,
        AuditRow,
        key="position",
        indexes=(
            ("stream_id", "version"),
            ("contact_id", "position"),
            ("plan_id", "position"),
            ("action", "position"),
            ("tick", "position"),
        ),
    )

    def key(self, event: RecordedEvent) -> int:
        """The event's place in the log."""
        return event.position

    def fold(self, row: AuditRow | None, event: RecordedEvent) -> AuditRow:
        """The entry's row."""
        held: Any = event.event
        kind, _, name = event.stream_id.partition(":")
        return AuditRow(
            position=event.position,
            stream_id=event.stream_id,
            version=event.version,
            action=REGISTRY[event.name].action,
            tick=event.meta.tick,
            run_id=event.stream_id if is_run(event.stream_id) else None,
            plan_id=getattr(held, "plan_id", name if kind == "plan" else None),
            contact_id=getattr(held, "contact_id", name if kind == "contact" else None),
            step_id=getattr(held, "step_id", None),
            actor=event.meta.actor,
        )


AUDIT_TRAIL: Final = AuditTrail()
