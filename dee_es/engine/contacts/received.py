"""A channel event as it was received, and what follows from it for runs."""

from __future__ import annotations

from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from dee_es.core import commands as c
from dee_es.core import events as e
from dee_es.core.events import Level
from dee_es.core.runs.channel_events import ends_runs, meaning, suppression


class Received(Struct, frozen=True):
    """A channel event whose parts were checked. Without `run_id` it is for all runs of its contact
    that have not ended; without `contact_id` the contact is that of the run."""

    type: str
    contact_id: str | None
    run_id: str | None
    step_id: str | None
    data: dict[str, Any]
    occurred_tick: int
    event_id: str

    @property
    def kind(self) -> str | None:
        """What its data mean, as it is recorded."""
        return meaning(self.type, self.data)

    @property
    def suppression(self) -> tuple[Level, str] | None:
        """The suppression of its contact that it brings about by itself, level and scope."""
        return suppression(self.type, self.kind)

    @property
    def suppresses(self) -> bool:
        """Whether it puts its contact on the suppression list."""
        return self.suppression is not None

    @property
    def reaches_others(self) -> bool:
        """Whether it reaches runs besides the one that it names: all that have not ended. One that
        ends the contact's runs does so, whichever it names."""
        return self.run_id is None or ends_runs(self.type, self.kind) is not None

    def command(self, meta: e.Meta) -> c.ReceiveEvent:
        """What the run that it names is told, or all runs if it names none."""
        detail = e.Detail(self.data) if self.data else None
        return c.ReceiveEvent(
            meta, self.type, self.event_id, self.occurred_tick, self.step_id, detail
        )

    def command_elsewhere(self, meta: e.Meta) -> c.ReceiveEvent:
        """What a run is told that it does not name: a step of another run is none of its own."""
        told = self.command(meta)
        return told if self.run_id is None else replace(told, step_id=None)
