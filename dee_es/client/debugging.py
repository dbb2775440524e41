"""A run of a server stepped through."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dee_es.client.reading import read
from dee_es.client.transport import Transport, part
from dee_es.core.runs.channel_events import EVENT_TYPES
from dee_es.core.values import check_count, check_map, check_value
from dee_es.engine.past.debugger import DebugStep, WhatIf
from dee_es.engine.past.time_travel import RunAt, RunContext
from dee_es.errors import InvalidInput


class RemoteDebugSession:
    """One run, at any of its versions, with the methods of the engine's `DebugSession`; the server
    keeps nothing of it. Version 0 is before its enrolment. What happens to the run from here on is
    not part of it."""

    def __init__(self, transport: Transport, run_id: str) -> None:
        self._http = transport
        self._path = f"/runs/{part('run_id', run_id)}"
        self.run_id = run_id
        found = self._http.get(f"{self._path}/debug")
        self.last_version = int(found["lastVersion"])
        self.version = 0

    def has_next(self) -> bool:
        """Whether anything happened after this version."""
        return self.version < self.last_version

    def peek(self) -> DebugStep:
        """What happened next, without going there; raises `InvalidInput` at the end."""
        if not self.has_next():
            raise InvalidInput("version", f"{self.version} is the last; nothing happened after it")
        return self._after(self.version)

    def step_forward(self) -> DebugStep:
        """Go on by one event, and say which; raises `InvalidInput` at the end."""
        step = self.peek()
        self.version += 1
        return step

    def step_back(self) -> DebugStep:
        """Go back by one event, and say which is undone; raises `InvalidInput` at the beginning."""
        if self.version == 0:
            raise InvalidInput("version", "0 is the beginning; nothing happened before it")
        undone = self._after(self.version - 1)
        self.version -= 1
        return undone

    def goto(self, version: int) -> None:
        """Go to any version, 0 for the beginning; raises `InvalidInput` for one there is not."""
        self.version = check_count("version", version, self.last_version, least=0)

    def at(self) -> RunAt:
        """The run as it stands here; raises `InvalidInput` before its enrolment."""
        self._enrolled()
        return read(RunAt, self._http.get(f"{self._path}/at", version=self.version))

    def context(self) -> RunContext:
        """What a decision would read here; raises `InvalidInput` before the run's enrolment."""
        return self.at().context

    def what_if_event(
        self, type: str, data: Mapping[str, Any] | None = None, step_id: str | None = None
    ) -> WhatIf:
        """What would happen if this channel event came in here, in the tick of this version."""
        if type not in EVENT_TYPES:
            raise InvalidInput("type", f"must be one of {', '.join(sorted(EVENT_TYPES))}")
        given = {"type": type, "data": check_map("data", dict(data or {})), "stepId": step_id}
        return self._what_if(event=given)

    def what_if_variable(self, name: str, value: Any) -> WhatIf:
        """What would happen from here if the run's variable had this value."""
        check_value(name, value)
        return self._what_if(variable={"name": name, "value": value})

    def what_next(self) -> WhatIf:
        """What would happen from here if nothing came in any more."""
        return self._what_if()

    def _what_if(self, **supposed: Any) -> WhatIf:
        self._enrolled()
        given = {"version": self.version, **supposed}
        return read(WhatIf, self._http.post(f"{self._path}/what-if", given, changes=False))

    def _after(self, version: int) -> DebugStep:
        found = self._http.get(f"{self._path}/debug", version=version)
        return read(DebugStep, found["next"])

    def _enrolled(self) -> None:
        if self.version == 0:
            raise InvalidInput("version", "0 is before the run was enrolled; go on first")
