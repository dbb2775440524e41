"""The rows that projections keep and queries read: the shared vocabulary of both sides."""

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache
from typing import Final, Literal

from msgspec import Struct

from dee_es.core.ids import is_run
from dee_es.core.projection import ColumnKind, CountKey, Row

BUCKET: Final = 4096
"""Runs whose ordinals share a bucket are counted together."""
ALL_BUCKETS: Final = -1
ANY: Final = ""


class RunStatus(StrEnum):
    """Where a run stands. Only `completed` and `cancelled` are ended; `failed` has stopped."""

    PENDING = "pending"
    ACTIVE = "active"
    WAITING = "waiting"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    def __init__(self, value: str) -> None:
        self.ended = value in ("completed", "cancelled")
        """Whether nothing can leave this status any more."""
        self.moves = value in ("active", "waiting")
        """Whether a run in this status goes on by itself."""


class RunRow(Row, frozen=True):
    """A run as the list shows it; personal data is not here but in the run's first event.

    All `*_tick` are ticks. `ordinal` numbers runs densely from 1 in order of creation, which is
    also the order of `created_tick`.
    """

    run_id: str
    ordinal: int
    plan_id: str
    plan_version: int
    contact_id: str
    enrollment: int
    status: str
    current_step: str | None
    steps_completed: int
    steps_remaining: int
    created_tick: int
    start_tick: int
    current_tick: int
    completed_tick: int | None
    outcome: str | None
    status_reason: str | None
    resume_tick: int | None
    version: int


RUN_COUNTS: Final[tuple[tuple[str, ColumnKind], ...]] = (
    ("plan_id", "text"),
    ("status", "text"),
    ("bucket", "integer"),
)
"""What runs are counted by; an empty text or bucket -1 stands for all."""


def run_counts(row: RunRow) -> tuple[CountKey, ...]:
    """The eight counts a run is part of: its plan or all, its status or any, its bucket or all."""
    return _counts_of(row.plan_id, row.status, row.ordinal // BUCKET)


@lru_cache(maxsize=4096)
def _counts_of(plan_id: str, status: str, bucket: int) -> tuple[CountKey, ...]:
    return tuple(
        (plan, state, where)
        for plan in (plan_id, ANY)
        for state in (status, ANY)
        for where in (bucket, ALL_BUCKETS)
    )


class AuditRow(Row, frozen=True):
    """What an audit query searches by; the rest of an entry is read from its event.

    A run's entries are those of its stream; `about_run_id` is the run that an event of the system
    is about. There is one such row for every event, so that each byte of it counts: numbers come
    first, where a database need not pad what stands before them.
    """

    position: int
    version: int
    tick: int
    stream_id: str
    action: str
    plan_id: str | None
    contact_id: str | None
    actor: str | None
    reason: str | None
    about_run_id: str | None

    @property
    def run_id(self) -> str | None:
        """The run that the entry is of, or about."""
        return self.stream_id if is_run(self.stream_id) else self.about_run_id


class AuditRowV2(Row, frozen=True):
    """What version 2 of the audit trail kept of an entry: its run twice, and its step."""

    position: int
    stream_id: str
    version: int
    action: str
    tick: int
    run_id: str | None
    plan_id: str | None
    contact_id: str | None
    step_id: str | None
    actor: str | None
    reason: str | None


class RunFilter(Struct, frozen=True):
    """Which runs: every field that is set narrows the choice. Ticks are creation ticks.

    `created_from` is inclusive, `created_before` exclusive. `statuses` empty means any.
    """

    statuses: tuple[str, ...] = ()
    plan_id: str | None = None
    contact_id: str | None = None
    created_from: int | None = None
    created_before: int | None = None

    @property
    def empty(self) -> bool:
        """Whether nothing narrows the choice."""
        return self == RunFilter()


class AuditFilter(Struct, frozen=True):
    """Which audit entries: every field that is set narrows the choice.

    `from_tick` is inclusive, `before_tick` exclusive. `reasons` are the reasons themselves, as the
    rows hold them; none at all chooses no entry.
    """

    run_id: str | None = None
    contact_id: str | None = None
    plan_id: str | None = None
    actions: tuple[str, ...] = ()
    actor: str | None = None
    reasons: tuple[str, ...] | None = None
    from_tick: int | None = None
    before_tick: int | None = None


class ContactRunRow(Row, frozen=True):
    """Which contact and plan a run is for; nothing changes it."""

    run_id: str
    contact_id: str
    plan_id: str


class ContactEntryRow(Row, frozen=True):
    """Something that happened to a contact: to one of its runs, or to the contact itself.

    `kind` is `run`, `send`, `wait`, `refusal`, `event` or `contact`; `detail` says in plain text
    how it came out, without personal data.
    """

    position: int
    contact_id: str
    tick: int
    kind: str
    action: str
    run_id: str | None
    plan_id: str | None
    step_id: str | None
    rule: str | None
    detail: str | None
    until_tick: int | None


VisitState = Literal["in_progress", "sent", "skipped", "deferred", "failed", "exited"]


class FunnelRow(Row, frozen=True):
    """A run's way through its plan's steps, as far as it has come.

    The open visit is that of `step_id`, in `state` with a `reason`; `visits` holds the earlier ones
    as JSON: [step, state, reason, number] each.
    """

    run_id: str
    plan_id: str
    plan_version: int
    step_id: str | None
    state: str
    reason: str
    visits: str


FUNNEL_COUNTS: Final[tuple[tuple[str, ColumnKind], ...]] = (
    ("plan_id", "text"),
    ("plan_version", "integer"),
    ("step_id", "text"),
    ("state", "text"),
    ("reason", "text"),
)
"""What visits of steps are counted by."""
