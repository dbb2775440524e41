"""Runs that are not in the log: those that never were, and those that were archived."""

from __future__ import annotations

from dee_es.errors import RunArchived, RunNotFound
from dee_es.ports import EventStore


def missing_run(store: EventStore, run_id: str) -> RunNotFound:
    """The error for a run of which the log has no event."""
    stones = store.tombstones_of([run_id]).get(run_id)
    return RunArchived.within(run_id, stones[0].archive) if stones else RunNotFound.named(run_id)
