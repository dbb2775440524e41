"""An entry of the log overwritten behind the engine's back, on every backend."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, cast

from dee_es import Engine
from tests.support.evidence.owner import Kind, Owner


def overwrite(engine: Engine, url: str, stream: str, version: int, state: bytes) -> None:
    """Put other bytes in the place of what is stored of an entry."""
    if engine._parts.backend == "memory":
        database = cast("Any", engine._parts.store)._database
        events = database.recorder._stored_events
        (place,) = (
            number
            for number, event in enumerate(events)
            if (event.originator_id, event.originator_version) == (stream, version)
        )
        events[place] = dataclasses.replace(events[place], state=state)
        return
    kind: Kind = "sqlite" if url.startswith("sqlite:") else "postgres"
    nowhere = Path("none")
    owner = Owner(kind, url, nowhere, nowhere, nowhere)
    (row,) = (row for row in owner.rows(stream) if row.version == version)
    owner.set(row, "state", state)
