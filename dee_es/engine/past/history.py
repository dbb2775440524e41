"""What happened in a run, in order, for people."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from dee_es.core import events as e
from dee_es.core.clock import TimeScale
from dee_es.core.gate import RULE_NAMES
from dee_es.core.ids import contact_stream
from dee_es.core.registry import REGISTRY
from dee_es.engine.log.journal import Journal, checksum_of
from dee_es.engine.log.missing import missing_run
from dee_es.engine.models import LogEntry, TimelineEntry
from dee_es.ports import EventStore, StoredRow


class History:
    """Reads the streams of single runs."""

    def __init__(self, store: EventStore, journal: Journal, scale: TimeScale) -> None:
        self._store = store
        self._journal = journal
        self._scale = scale

    def events(self, run_id: str) -> list[e.RecordedEvent]:
        """All events of a run, verified against their chain; raises `RunNotFound`."""
        rows = self._store.read_stream(run_id)
        if not rows:
            raise missing_run(self._store, run_id)
        return self._journal.open(rows)

    def timeline(self, run_id: str) -> list[TimelineEntry]:
        """The run's events, each in a line."""
        return [self._entry(recorded) for recorded in self.events(run_id)]

    def logs(self, run_id: str) -> list[LogEntry]:
        """The run's events with all that was recorded; raises `RunNotFound`."""
        rows = self._store.read_stream(run_id)
        if not rows:
            raise missing_run(self._store, run_id)
        return self._logs(rows)

    def contact_logs(self, contact_id: str, run_ids: Sequence[str]) -> list[LogEntry]:
        """The events of a contact and of these runs of it, in log order."""
        streams = self._store.read_streams([contact_stream(contact_id), *run_ids])
        found = [entry for rows in streams.values() for entry in self._logs(rows)]
        return sorted(found, key=lambda entry: entry.position)

    def _logs(self, rows: Sequence[StoredRow]) -> list[LogEntry]:
        return [
            self._log_entry(recorded, checksum_of(row).hex())
            for recorded, row in zip(self._journal.open(rows), rows, strict=True)
        ]

    def _log_entry(self, recorded: e.RecordedEvent, checksum: str) -> LogEntry:
        meta = recorded.meta
        return LogEntry(
            stream=recorded.stream_id,
            version=recorded.version,
            position=recorded.position,
            tick=meta.tick,
            time=self._scale.time(meta.tick),
            action=REGISTRY[recorded.name].action,
            step_id=getattr(recorded.event, "step_id", None),
            outcome=self.outcome(recorded.event),
            actor=meta.actor,
            reason=meta.reason,
            command=meta.command,
            command_id=meta.command_id,
            recorded_at=datetime.fromtimestamp(meta.recorded_at / 1000, UTC),
            checksum=checksum,
            erased=recorded.erased,
            data=msgspec.to_builtins(recorded.event),
        )

    def _entry(self, recorded: e.RecordedEvent) -> TimelineEntry:
        meta = recorded.meta
        until = _until(recorded.event)
        return TimelineEntry(
            version=recorded.version,
            tick=meta.tick,
            time=self._scale.time(meta.tick),
            step_id=getattr(recorded.event, "step_id", None),
            action=REGISTRY[recorded.name].action,
            outcome=self.outcome(recorded.event),
            actor=meta.actor,
            reason=meta.reason,
            rule=refused_by(recorded.event),
            until_tick=until,
            until=None if until is None else self._scale.time(until),
        )

    def outcome(self, event: e.Event) -> str | None:
        """In a few words how an event came out."""
        held: Any = event
        if isinstance(event, e.WaitStarted):
            return f"until {self._scale.told(event.until_tick)}"
        if isinstance(event, e.StepPending):
            return f"result by {self._scale.told(event.deadline_tick)}"
        if isinstance(event, e.StepRetried):
            return f"attempt {event.attempt}: {event.error}"
        if isinstance(event, e.StepDispatched):
            return f"{event.channel}, attempt {event.attempt}"
        for name in _TELLING:
            value = getattr(held, name, None)
            if value:
                return str(value)
        return None


def refused_by(event: e.Event) -> str | None:
    """The rule of the policy that refused something by this event."""
    if isinstance(event, e.StepSkipped | e.StepDeferred):
        # The pause before another attempt is a deferral, too, but no rule's.
        return event.rule if event.rule in RULE_NAMES else None
    cause = None
    if isinstance(event, e.RunPaused | e.RunFailed):
        cause = event.cause
    elif isinstance(event, e.StepFailed):
        cause = event.error
    name = (cause or "").partition(":")[0]
    return name if name in RULE_NAMES else None


def _until(event: e.Event) -> int | None:
    """The tick until which the run waits because of this event."""
    if isinstance(event, e.WaitStarted | e.StepDeferred):
        return event.until_tick
    if isinstance(event, e.StepPending):
        return event.deadline_tick
    if isinstance(event, e.StepRetried):
        return event.retry_tick
    return event.start_tick if isinstance(event, e.RunScheduled) else None


_TELLING: Final = (
    "result",
    "goto",
    "outcome",
    "detail",
    "error",
    "cause",
    "type",
    "suppression",
    "level",
)
"""Fields that say how an event came out, the most telling first."""
