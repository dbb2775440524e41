"""What the engine answers with: the models of the Runs page and the results of bulk work."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from dee_es.core.views import RunStatus
from dee_es.errors import DeeError


class Answer(BaseModel):
    """Base of what the engine answers with: frozen, with names in camelCase in JSON."""

    model_config = ConfigDict(
        frozen=True, alias_generator=to_camel, populate_by_name=True, serialize_by_alias=True
    )


class ExecutionRun(Answer):
    """A single execution of a plan for a contact.

    JSON (`model_dump_json(by_alias=True)`) has the names of the Runs page. All times are UTC times
    of ticks; `variables` is empty when the contact was erased. `parked` says that the list could
    not follow the run's events and shows it as it was at `version`; `get_run` shows it as it is.
    """

    id: str
    plan_id: str
    plan_version: int
    contact_id: str
    status: RunStatus
    current_step: str | None
    steps_completed: int
    steps_remaining: int
    start_tick: int
    current_tick: int
    started_at: datetime
    completed_at: datetime | None
    outcome: str | None
    variables: dict[str, Any]
    status_reason: str | None = None
    resume_tick: int | None = None
    version: int
    enrollment: int
    ordinal: int
    parked: bool = False


class RunPage(Answer):
    """One page of runs; `total` is the exact number of all that match."""

    runs: tuple[ExecutionRun, ...]
    total: int
    next_cursor: str | None = None


RefusalReason = Literal["already_enrolled", "suppressed", "invalid"]
MAX_REFUSALS: Final = 1000
"""Refusals a `BulkResult` keeps; `on_refusal` sees every one."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A contact that was not enrolled, and why. `contact_id` is None if it had no usable one."""

    contact_id: str | None
    reason: RefusalReason
    detail: str


@dataclass(slots=True)
class BulkResult:
    """What became of the contacts given: the three counts always add up to their number.

    `refusals` holds the first 1,000 contacts that were not enrolled.
    """

    created: int = 0
    skipped: int = 0
    errors: int = 0
    refusals: list[Refusal] = field(default_factory=list)

    @property
    def done(self) -> int:
        """Contacts dealt with so far."""
        return self.created + self.skipped + self.errors


MAX_UNCHANGED: Final = 100
"""Runs that a `BulkChange` keeps the reasons of; `errors` counts all."""


@dataclass(frozen=True, slots=True)
class UnchangedRun:
    """A run that matched and could not be changed, and why."""

    run_id: str
    detail: str


@dataclass(slots=True)
class BulkChange:
    """What became of the runs that matched; `errors` counts those that could not be changed.

    `unchanged` holds the first 100 of these.
    """

    matched: int = 0
    changed: int = 0
    errors: int = 0
    unchanged: list[UnchangedRun] = field(default_factory=list)

    @property
    def cancelled(self) -> int:
        """The runs that `bulk_cancel` cancelled."""
        return self.changed

    @property
    def done(self) -> int:
        """Runs dealt with so far."""
        return self.changed + self.errors

    def leave(self, run_id: str, why: object) -> None:
        """Count a run that could not be changed."""
        self.errors += 1
        if len(self.unchanged) < MAX_UNCHANGED:
            self.unchanged.append(UnchangedRun(run_id, str(why)))


@dataclass(frozen=True, slots=True)
class ChannelEvent:
    """What happened to a message or call, to be told to `ingest_events`.

    Without `run_id` it reaches every run of the contact that has not ended; with it the contact may
    be left out. An `event_id` is accepted once in a database.
    """

    type: str
    contact_id: str | None = None
    run_id: str | None = None
    step_id: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    occurred_at: datetime | None = None
    event_id: str | None = None


@dataclass(slots=True)
class IngestResult:
    """What became of channel events: taken in, known by their id, or not usable.

    The three always add up to the number of events dealt with.
    """

    accepted: int = 0
    known: int = 0
    errors: int = 0

    @property
    def done(self) -> int:
        """Events dealt with so far."""
        return self.accepted + self.known + self.errors


@dataclass(frozen=True, slots=True)
class SuppressionEntry:
    """One line of a list of people not to be contacted: an id, an address, or several of them.

    Who is known by an address only need not be a contact yet. What is None is as the import says;
    `scope` is the channel or plan of the levels of these names.
    """

    contact_id: str | None = None
    email: str | None = None
    phone: str | None = None
    level: str | None = None
    scope: str | None = None
    reason: str | None = None


@dataclass(slots=True)
class ImportResult:
    """What became of the entries of a list: put on the suppression list, on it already, or not
    usable. The three always add up to the number of entries dealt with."""

    added: int = 0
    already: int = 0
    errors: int = 0

    @property
    def done(self) -> int:
        """Entries dealt with so far."""
        return self.added + self.already + self.errors


OnImport = Callable[[ImportResult], None]
OnIngest = Callable[[IngestResult], None]
OnEntryError = Callable[[int, DeeError], None]
"""Told of an entry that cannot be used: its number among those given, from 0 on, and why."""
OnProgress = Callable[[BulkResult], None]
OnRefusal = Callable[[Refusal], None]
OnChange = Callable[[BulkChange], None]


@dataclass(frozen=True, slots=True)
class TickReport:
    """What the scheduler did: its passes, events, and sends by outcome; a run counts once for each
    pass in which it went on."""

    tick: int
    passes: int = 0
    runs: int = 0
    events: int = 0
    delivered: int = 0
    pending: int = 0
    failed: int = 0
    unknown: int = 0

    def plus(self, other: TickReport) -> TickReport:
        """Both together; the tick is the later one."""
        return TickReport(
            max(self.tick, other.tick),
            self.passes + other.passes,
            self.runs + other.runs,
            self.events + other.events,
            self.delivered + other.delivered,
            self.pending + other.pending,
            self.failed + other.failed,
            self.unknown + other.unknown,
        )


@dataclass(frozen=True, slots=True)
class TimelineEntry:
    """One event of a run for people: when, what, and how it came out.

    `rule` names the rule of the policy that refused something, and `until` when what waits is to go
    on; None where there is no such thing.
    """

    version: int
    tick: int
    time: datetime
    step_id: str | None
    action: str
    outcome: str | None
    actor: str | None
    reason: str | None
    rule: str | None = None
    until_tick: int | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One event of a run or a contact with all that was recorded.

    `data` is the event as stored, its personal part included unless `erased`; `recorded_at` is wall
    time, for information.
    """

    stream: str
    version: int
    position: int
    tick: int
    time: datetime
    action: str
    step_id: str | None
    outcome: str | None
    actor: str | None
    reason: str | None
    command: str
    command_id: str
    recorded_at: datetime
    checksum: str
    erased: bool
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class RenderedTemplate:
    """What a version of a template comes to; `subject` is None if none was given."""

    id: str
    version: int
    subject: str | None
    text: str
    html: str | None


@dataclass(frozen=True, slots=True)
class Metrics:
    """Numbers to watch: `due` counts the runs of this engine's partition that are due and not done
    yet (counting stops at 100,000), `lease_held` says that this engine is the one at work there.

    `checkpoints` and `checkpoint_failures` count what this engine's worker signed, and what went
    wrong with that; `unanchored` entries are not signed yet (None without a place for
    checkpoints)."""

    tick: int
    position: int
    runs: dict[str, int]
    due: int
    lease_held: bool
    checkpoints: int = 0
    checkpoint_failures: int = 0
    unanchored: int | None = None


@dataclass(frozen=True, slots=True)
class Health:
    """How the database and its projections stand.

    Positions count events of the log, `runs` all that there ever were, archived ones too.
    `advice` says what somebody should do in time; `problems` are wrong now. `unsigned` entries are
    covered by no checkpoint (the record of the last one not counted); None without a place for
    checkpoints.
    """

    ok: bool
    backend: str
    tick: int
    time: datetime
    clock: str
    position: int
    runs: int
    next_due: int | None
    lag: dict[str, int]
    problems: tuple[str, ...]
    advice: tuple[str, ...] = ()
    unsigned: int | None = None
