"""A run's events, a run stepped through, and many runs decided again, over HTTP."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from dee_es.client.bulk import filters_given
from dee_es.client.debugging import RemoteDebugSession
from dee_es.client.jobs import done, file_of
from dee_es.client.reading import read
from dee_es.client.runs import camel
from dee_es.client.transport import Transport, part
from dee_es.core.events import Meta, RecordedEvent
from dee_es.core.registry import REGISTRY
from dee_es.core.values import check_count
from dee_es.engine.past.replay_results import Divergence, OnDivergence, OnReplayed, ReplaySummary
from dee_es.engine.run_filters import Status
from dee_es.errors import UnknownEventVersion

_MOST_WORKERS: Final = 1_000


class HistoryClient:
    """Reads; nothing here changes a run."""

    _http: Transport

    def get_events(self, run_id: str) -> list[RecordedEvent]:
        """All events of a run as they were recorded, verified by the server. Raises `RunNotFound`,
        and `UnknownEventVersion` if the server knows events that this program does not."""
        return [_event(each) for each in self._http.get(f"/runs/{part('run_id', run_id)}/events")]

    def debug(self, run_id: str) -> RemoteDebugSession:
        """Step through a run, forwards and backwards; raises `RunNotFound`."""
        return RemoteDebugSession(self._http, run_id)

    def replay_all(
        self,
        status: Status = None,
        plan_id: str | None = None,
        contact_id: str | None = None,
        started_after: datetime | None = None,
        started_before: datetime | None = None,
        *,
        workers: int = 1,
        on_progress: OnReplayed | None = None,
        on_divergence: OnDivergence | None = None,
    ) -> ReplaySummary:
        """Replay all runs that match the filters of `list_runs`, by `workers` processes of the
        server, at most one for each of its processors.

        `on_progress` is told the sum so far; `on_divergence`, at the end, the first difference of
        each run that has one.
        """
        check_count("workers", workers)
        filters = filters_given(
            None,
            {
                "status": status,
                "plan_id": plan_id,
                "contact_id": contact_id,
                "started_after": started_after,
                "started_before": started_before,
            },
        )

        def told(job: Mapping[str, Any]) -> None:
            # As in an engine, nothing is told of no runs at all.
            if on_progress is not None and job["result"] is not None and job["result"]["runs"]:
                on_progress(_summary(job["result"]))

        def diverged(job: Mapping[str, Any]) -> None:
            if on_divergence is not None:
                for line in self._http.lines(file_of(job)):
                    on_divergence(read(Divergence, json.loads(line)))

        given = {"filters": filters, "workers": min(workers, _MOST_WORKERS)}
        job = done(self._http, "/runs/bulk-replay", given, on_job=told, look=diverged)
        told(job)
        return _summary(job["result"])


def _summary(counts: Mapping[str, Any]) -> ReplaySummary:
    return ReplaySummary(**{**counts, "causes": Counter(counts["causes"])})


def _event(found: Mapping[str, Any]) -> RecordedEvent:
    known = REGISTRY.get(found["name"])
    if known is None:
        raise UnknownEventVersion("the server has an event that this program does not know")
    given = {name: found[camel(name)] for name in RecordedEvent.__struct_fields__}
    meta = {name: found["meta"][camel(name)] for name in Meta.__struct_fields__}
    try:
        event = msgspec.convert(found["event"], known.cls)
    except msgspec.ValidationError:
        raise UnknownEventVersion(
            f"the server's {found['name']} has another shape than this program's"
        ) from None
    return RecordedEvent(**{**given, "meta": Meta(**meta), "event": event})
