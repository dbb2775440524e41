"""The past of a run over HTTP: what happened, how it stood, what changed; and of a contact."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from dee_es.client.debugging import RemoteDebugSession
from dee_es.client.reading import read, read_all
from dee_es.client.runs import camel
from dee_es.client.transport import Transport, part
from dee_es.core.events import Meta, RecordedEvent
from dee_es.core.registry import REGISTRY
from dee_es.engine.models import LogEntry, TimelineEntry
from dee_es.engine.past.explain import Explanation
from dee_es.engine.past.time_travel import Change, RunAt
from dee_es.errors import UnknownEventVersion


class HistoryClient:
    """Reads of single runs; nothing here changes one."""

    _http: Transport

    def get_timeline(self, run_id: str) -> list[TimelineEntry]:
        """What happened in a run, in order."""
        return read_all(TimelineEntry, self._http.get(f"/runs/{part('run_id', run_id)}/timeline"))

    def get_logs(self, run_id: str) -> list[LogEntry]:
        """All that was recorded in a run."""
        return read_all(LogEntry, self._http.get(f"/runs/{part('run_id', run_id)}/logs"))

    def get_contact_logs(self, contact_id: str) -> list[LogEntry]:
        """All that was recorded about a contact, in log order."""
        path = f"/contacts/{part('contact_id', contact_id)}/logs"
        return read_all(LogEntry, self._http.get(path))

    def get_events(self, run_id: str) -> list[RecordedEvent]:
        """All events of a run as they were recorded, verified by the server. Raises `RunNotFound`,
        and `UnknownEventVersion` if the server knows events that this program does not."""
        return [_event(each) for each in self._http.get(f"/runs/{part('run_id', run_id)}/events")]

    def run_at(
        self,
        run_id: str,
        *,
        version: int | None = None,
        tick: int | None = None,
        time: datetime | None = None,
    ) -> RunAt:
        """The run exactly as it stood; give one of `version`, `tick` and `time`."""
        found = self._http.get(
            f"/runs/{part('run_id', run_id)}/at", version=version, tick=tick, time=time
        )
        return read(RunAt, found)

    def diff_run(self, run_id: str, from_version: int, to_version: int) -> list[Change]:
        """What changed between two versions of a run."""
        query = {"from": from_version, "to": to_version}
        return read_all(Change, self._http.get(f"/runs/{part('run_id', run_id)}/diff", **query))

    def explain(self, run_id: str) -> Explanation:
        """What the run is doing and why."""
        return read(Explanation, self._http.get(f"/runs/{part('run_id', run_id)}/explain"))

    def explain_contact(self, contact_id: str, plan_id: str | None = None) -> Explanation:
        """Why a contact has no run (of a plan), or which runs it has."""
        path = f"/contacts/{part('contact_id', contact_id)}/explain"
        return read(Explanation, self._http.get(path, planId=plan_id))

    def debug(self, run_id: str) -> RemoteDebugSession:
        """Step through a run, forwards and backwards; raises `RunNotFound`."""
        return RemoteDebugSession(self._http, run_id)


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
