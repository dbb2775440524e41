"""What an auditor reads: the log's events, each as an entry that says all that was recorded."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from pydantic import Field

from dee_es.core import events as e
from dee_es.core.clock import TimeScale
from dee_es.core.evidence import chain
from dee_es.core.ids import SYSTEM_STREAM, is_run, ulid
from dee_es.core.registry import REGISTRY
from dee_es.core.runs.run import evolve
from dee_es.core.runs.state import RunState
from dee_es.engine.log.journal import Journal
from dee_es.engine.models import Answer
from dee_es.engine.past.time_travel import context_of
from dee_es.ports import StoredRow


class AuditLogEntry(Answer):
    """One event of the log.

    `id` is a ULID of the tick's time and the checksum. `input` is what the event was decided on,
    `output` what came of it, `context` how the run stood just before it (empty for entries that are
    no run's); personal data is among them unless it was `erased`. `timestamp` is the time of the
    tick, `recorded_at` wall time for information; both UTC. Checksums are hex.
    """

    id: str
    position: int
    stream: str
    version: int
    run_id: str | None
    plan_id: str | None
    contact_id: str | None
    step_id: str | None
    tick: int
    timestamp: datetime
    action: str
    actor: str | None
    reason: str | None
    command: str
    command_id: str
    recorded_at: datetime
    input: dict[str, Any]
    output: dict[str, Any]
    context: dict[str, Any]
    erased: bool
    checksum: str
    previous_checksum: str


class AuditPage(Answer):
    """Entries by tick and position; `total` is the exact number of all that match."""

    entries: tuple[AuditLogEntry, ...] = Field(default_factory=tuple)
    total: int
    next_cursor: str | None = None


def entries_of(
    rows: Sequence[StoredRow],
    journal: Journal,
    scale: TimeScale,
    versions: Collection[int] | None = None,
) -> Iterator[AuditLogEntry]:
    """The entries of a whole stream, or those of some versions.

    Raises `IntegrityViolation` if the stream does not verify.
    """
    state: RunState | None = None
    of_run = bool(rows) and is_run(rows[0].stream_id)
    for recorded, row in zip(journal.open(rows), rows, strict=True):
        before = state
        if of_run:
            state = evolve(state, recorded)
        if versions is None or recorded.version in versions:
            yield _entry(recorded, row, before, state, scale)


def _entry(
    recorded: e.RecordedEvent,
    row: StoredRow,
    before: RunState | None,
    state: RunState | None,
    scale: TimeScale,
) -> AuditLogEntry:
    meta, held = recorded.meta, recorded.event
    sealed = chain.unseal(row.state, row)
    timestamp = scale.time(meta.tick)
    given, came = _parts(held)
    kind, _, name = recorded.stream_id.partition(":")
    return AuditLogEntry(
        id=ulid(round(timestamp.timestamp() * 1000), sealed.checksum),
        position=recorded.position,
        stream=recorded.stream_id,
        version=recorded.version,
        run_id=_run_id(recorded, state),
        plan_id=_of(state, held, "plan_id", name if kind == "plan" else None),
        contact_id=_of(state, held, "contact_id", name if kind == "contact" else None),
        step_id=getattr(held, "step_id", None),
        tick=meta.tick,
        timestamp=timestamp,
        action=REGISTRY[recorded.name].action,
        actor=meta.actor,
        reason=meta.reason,
        command=meta.command,
        command_id=meta.command_id,
        recorded_at=datetime.fromtimestamp(meta.recorded_at / 1000, UTC),
        input=given,
        output=came,
        context={} if before is None else _context(before),
        erased=recorded.erased,
        checksum=sealed.checksum.hex(),
        previous_checksum=sealed.previous.hex(),
    )


def _run_id(recorded: e.RecordedEvent, state: RunState | None) -> str | None:
    """The run itself, or the one that an event of the system is about."""
    if state is not None:
        return state.run_id
    about = recorded.stream_id == SYSTEM_STREAM
    return getattr(recorded.event, "run_id", None) if about else None


def _of(state: RunState | None, held: e.Event, name: str, otherwise: str | None) -> str | None:
    found = getattr(held, name, otherwise) if state is None else getattr(state, name)
    return None if found is None else str(found)


def _context(state: RunState) -> dict[str, Any]:
    """How the run stood: its status, its step, and all that a decision reads."""
    return {
        "status": state.status.value,
        "currentStep": state.current_step,
        **context_of(state).model_dump(mode="json", by_alias=True),
    }


def _parts(event: e.Event) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the event was decided on, and what came of it."""
    told: dict[str, Any] = msgspec.to_builtins(event)
    told.pop("step_id", None)
    came: dict[str, Any] = {name: told.pop(name) for name in _OUTCOMES if name in told}
    if isinstance(event, _ANSWERS) and "personal" in told:
        came["personal"] = told.pop("personal")
    return told, came


_ANSWERS: Final = (e.StepFailed, e.StepRetried)
"""Events whose personal part is what a channel answered."""
_OUTCOMES: Final = (
    "acts_at",
    "cause",
    "deadline_tick",
    "detail",
    "digest",
    "error",
    "exit_condition",
    "exit_outcome",
    "goto",
    "kind",
    "late",
    "message_id",
    "outcome",
    "result",
    "retry_tick",
    "rule",
    "shift",
    "steps_remaining",
    "suppression",
    "until_tick",
)
"""Fields that say what came of a decision; the others are what it was made on."""
