"""The audit trail: one row for every event of the log, with what audit queries search by.

A run's plan and contact stand in its first event only; the run's row keeps them, so that every
later entry can be found by them, too.
"""

from __future__ import annotations

from typing import Any, Final

from dee_es.core import events as e
from dee_es.core.ids import SYSTEM_STREAM, is_run
from dee_es.core.projection import Change, OneTable, Table
from dee_es.core.registry import REGISTRY
from dee_es.core.views import AuditRow, AuditRowV2, ContactRunRow

REASON: Final = 500
"""Characters of a reason that can be searched; the event keeps all of it."""


class _Trail(OneTable):
    """What all versions have in common: a row for each run, which keeps whom it is for."""

    name = "audit_trail"
    appends_only = False

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


class AuditTrailV2(_Trail):
    """The version before, for databases that serve it still."""

    table = Table("audit_run", 2, ContactRunRow, key="run_id")
    lines = Table(
        "audit_trail",
        2,
        AuditRowV2,
        key="position",
        indexes=(
            ("run_id", "tick", "position"),
            ("contact_id", "tick", "position"),
            ("reason", "tick", "position"),
            ("actor", "tick", "position"),
            ("plan_id", "tick", "position"),
            ("action", "tick", "position"),
            ("tick", "position"),
        ),
    )

    def line(self, row: ContactRunRow | None, event: e.RecordedEvent) -> AuditRowV2:
        """The event as an entry of the trail."""
        entry = _entry(row, event)
        return AuditRowV2(
            position=entry.position,
            stream_id=entry.stream_id,
            version=entry.version,
            action=entry.action,
            tick=entry.tick,
            run_id=entry.run_id,
            plan_id=entry.plan_id,
            contact_id=entry.contact_id,
            step_id=getattr(event.event, "step_id", None),
            actor=entry.actor,
            reason=entry.reason,
        )


class AuditTrail(_Trail):
    """Makes an entry of every event, in log order."""

    table = Table("audit_run", 3, ContactRunRow, key="run_id")
    lines = Table(
        "audit_trail",
        3,
        AuditRow,
        key="position",
        # A query walks the first of these whose columns it has values for. Those that may choose
        # much of the log go on in the order of time, so that a page is read from where it begins
        # and no further. The bytes are what each takes for an entry on PostgreSQL after runs of 14
        # events: 98 in all, 23 of them for the key; those of version 2, each with the position
        # itself, took 340.
        indexes=(
            # By run: a run has few entries, which are sorted when they are read. 13 bytes.
            ("stream_id",),
            # By run, too: exports and holds, in the system's stream. Nearly all rows have none.
            ("about_run_id",),
            # By contact: what happens to it in one tick is little, and sorted. 22 bytes.
            ("contact_id", "tick"),
            # By text: its different reasons are found by leaping, then each is walked. Few rows.
            ("reason", "tick", "position"),
            # By who acted: only what people did has an actor. 1 byte.
            ("actor", "tick", "position"),
            # By plan and action: either may choose most of the log and both together nothing, which
            # a walk along one of them would be a scan to find out. 13 bytes.
            ("plan_id", "action", "tick", "position"),
            # By plan alone. 7 bytes.
            ("plan_id", "tick", "position"),
            # By action alone. 13 bytes.
            ("action", "tick", "position"),
            # By time alone, or by nothing. 7 bytes.
            ("tick", "position"),
        ),
        # Up to 256 rows of one plan, action and tick share an entry: so many six-byte places fit
        # into one, and so many rows, which stand on four pages, are soon sorted.
        stretch=256,
    )
    change = Change(former=AuditTrailV2())

    def line(self, row: ContactRunRow | None, event: e.RecordedEvent) -> AuditRow:
        """The event as an entry of the trail."""
        return _entry(row, event)


def _entry(row: ContactRunRow | None, event: e.RecordedEvent) -> AuditRow:
    stream_id, meta = event.stream_id, event.meta
    about_run_id: str | None = None
    if row is not None:
        plan_id: str | None = row.plan_id
        contact_id: str | None = row.contact_id
    else:
        held: Any = event.event
        kind, _, name = stream_id.partition(":")
        if stream_id == SYSTEM_STREAM:
            # Exports and holds are found by the run that they are about.
            about_run_id = getattr(held, "run_id", None)
        plan_id = getattr(held, "plan_id", name if kind == "plan" else None)
        contact_id = getattr(held, "contact_id", name if kind == "contact" else None)
    return AuditRow(
        event.position,
        event.version,
        meta.tick,
        stream_id,
        REGISTRY[event.name].action,
        plan_id,
        contact_id,
        meta.actor,
        None if meta.reason is None else meta.reason[:REASON],
        about_run_id,
    )


AUDIT_TRAIL: Final = AuditTrail()
