"""What is told of projections: how they stand, how a rebuild goes, and how it went."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from dee_es.engine.models import Answer
from dee_es.engine.projecting.comparison import Comparison

Phase = Literal["reading", "indexing", "catching up", "comparing", "swapping"]


@dataclass(frozen=True, slots=True)
class RebuildProgress:
    """How far a rebuild is: `done` of `total` events, of indexes while it makes them, or of rows
    while it compares. "catching up" are the events that the version which serves lacks.

    `rate` is per second of work since it began or went on; `seconds_left` is for this phase,
    throttling counted in, None while nobody can know.
    """

    name: str
    version: int
    phase: Phase
    done: int
    total: int
    rate: float
    seconds_left: float | None


OnRebuild = Callable[[RebuildProgress], None]


class Rebuilt(Answer):
    """How a rebuild ended. `seconds` are those of work on the new version, throttling left out, and
    what the former one lacked; `rate` is in events a second; `comparison` is None if none was asked
    for."""

    name: str
    version: int
    former_version: int
    events: int
    rows: int
    seconds: float
    rate: float
    digest: str
    resumed_at: int
    comparison: Comparison | None


class RebuildEstimate(Answer):
    """What a rebuild would take. `rate` is that of the last one (`measured`), or else of a sample
    of the log folded now without writing, which tells no more than the order of magnitude.

    `rows` and `bytes` are what the version that serves comes to once it is level with the log, None
    if it holds nothing to tell that by. It lacks `served_lag` events: before it is compared with,
    they are folded into it, a page at a time under the append lock; `seconds` are without that.
    """

    name: str
    version: int
    served_version: int
    events: int
    rows: int | None
    bytes: int | None
    rate: float
    seconds: float
    measured: bool
    resumes_at: int
    served_lag: int = 0


class Verified(Answer):
    """Whether a projection still is what the log says; see `Comparison` for how it differs.

    In the comparison, `old` is the live table and `new` what the log says.
    """

    name: str
    version: int
    ok: bool
    seconds: float
    comparison: Comparison


class ParkedStream(Answer):
    """A stream that a projection has set aside because it cannot fold one of its events.

    `held_back` counts that event and those after it; `error` names the fault and the line of code,
    without data.
    """

    name: str
    version: int
    stream_id: str
    position: int
    entry: int
    event: str
    error: str
    since: datetime
    held_back: int


class LastRebuild(Answer):
    """The last rebuild; `finished` is None while it is under way, or if it was broken off."""

    started: datetime
    finished: datetime | None
    seconds: float
    events: int
    rate: float
    digest: str


class OtherBuild(Answer):
    """A build beside the one that serves: `building`, `checking` or `kept`."""

    version: int
    number: int
    state: str
    position: int


class ProjectionStatus(Answer):
    """How a projection stands.

    `version` is the one that the database serves, `wanted` that of this code, `read` the one that
    this code reads (None: it knows none that is there). `lag_seconds` is the age in wall time of
    the oldest event not folded yet. `rows` are those of its table (of the audit trail and the
    contact history, whose entries are in a second one, a row for each run): counted if that was
    asked for, else as many as there are runs, which is what they are (`rows_exact`) while it is
    level with the list of runs and nothing is parked. `bytes` is None where nobody counts them, or
    only by reading all of them. A server of a former version counts, and says no `rows_exact`.
    """

    name: str
    version: int
    wanted: int
    read: int | None
    position: int
    lag_events: int
    lag_seconds: float
    rows: int
    rows_exact: bool = True
    bytes: int | None
    parked: int
    last_rebuild: LastRebuild | None
    others: tuple[OtherBuild, ...]
    advice: str | None


class CaughtUp(Answer):
    """How far a projection has come: `position` of `head`, the log's last entry when it began.

    It may be ahead of `head`: others go on writing, and folding.
    """

    name: str
    position: int
    head: int

    @property
    def level(self) -> bool:
        """Whether it holds all that the log held."""
        return self.position >= self.head


class Refolded(Answer):
    """What became of streams that were folded again: `streams` are right now, `parked` are not."""

    streams: int
    parked: int
