"""What happened in a run, in order, for people."""

from __future__ import annotations

from typing import Any, Final

from dee_es.core import events as e
from dee_es.core.clock import TimeScale
from dee_es.core.registry import REGISTRY
from dee_es.engine.journal import Journal
from dee_es.engine.models import TimelineEntry
from dee_es.errors import RunNotFound
from dee_es.ports import EventStore


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
            raise RunNotFound(f"there is no run {run_id}; `dee runs list` shows those there are")
        return self._journal.open(rows)

    def timeline(self, run_id: str) -> list[TimelineEntry]:
        """The run's events, each in a line."""
        return [self._entry(recorded) for recorded in self.events(run_id)]

    def _entry(self, recorded: e.RecordedEvent) -> TimelineEntry:
        meta = recorded.meta
        return TimelineEntry(
            version=recorded.version,
            tick=meta.tick,
            time=self._scale.time(meta.tick),
            step_id=getattr(recorded.event, "step_id", None),
            action=REGISTRY[recorded.name].action,
            outcome=self._outcome(recorded.event),
            actor=meta.actor,
            reason=meta.reason,
        )

    def _outcome(self, event: e.Event) -> str | None:
        held: Any = event
        if isinstance(event, e.WaitStarted | e.StepDeferred):
            return f"until {self._scale.time(held.until_tick):%Y-%m-%d %H:%M:%S}Z"
        if isinstance(event, e.StepPending):
            return f"result by {self._scale.time(event.deadline_tick):%Y-%m-%d %H:%M:%S}Z"
        if isinstance(event, e.StepRetried):
            return f"attempt {event.attempt}: {event.error}"
        if isinstance(event, e.StepDispatched):
            return f"{event.channel}, attempt {event.attempt}"
        for name in _TELLING:
            value = getattr(held, name, None)
            if value:
                return str(value)
        return None


_TELLING: Final = ("result", "goto", "outcome", "detail", "error", "cause", "type")
"""Fields that say how an event came out, the most telling first."""
