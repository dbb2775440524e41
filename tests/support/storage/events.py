"""Sealed events, appends and units in a line each, for tests that need something to store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from dee_es.core import codec
from dee_es.core.events import Event, Meta, PlanPublished, RunStarted, WaitCompleted
from dee_es.core.evidence import chain
from dee_es.core.ids import is_run, run_id
from dee_es.ports import (
    Committed,
    Consent,
    CounterUse,
    EventStore,
    SealedEvent,
    StreamAppend,
    Unit,
)

COMMAND_ID = "cmd_test"
_latest: dict[tuple[str, int], bytes] = {}
"""The checksums of what was made last for a place of a stream, on which the next event follows."""


def run(number: int = 1, plan_id: str = "plan") -> str:
    """The id of a run; equal numbers give equal ids."""
    return run_id(plan_id, f"contact_{number}", 1)


def default_event(stream_id: str, version: int) -> Event:
    """Some event that may stand at this place of the stream."""
    if not is_run(stream_id):
        return PlanPublished({"version": version})
    if version > 1:
        return WaitCompleted("wait")
    return RunStarted("plan", 1, "contact", 1, 0, 3)


def sealed(
    stream_id: str,
    version: int = 1,
    event: Event | None = None,
    *,
    tick: int = 0,
    previous: bytes | None = None,
    name: str | None = None,
) -> SealedEvent:
    """One event, encoded and chained to what was made for the version before it, unless told
    otherwise; `name` stores it under another name than its own."""
    event = event or default_event(stream_id, version)
    if previous is None:
        previous = _latest.get((stream_id, version - 1), chain.GENESIS)
    meta = Meta(tick, COMMAND_ID, "test", 0)
    own, public, personal = codec.encode(event, meta)
    name = name or own
    checksum, state = chain.seal(stream_id, version, name, previous, codec.join(public, personal))
    _latest[stream_id, version] = checksum
    return SealedEvent(stream_id, version, name, meta, event, state, checksum)


def append(
    stream_id: str,
    expected: int = 0,
    events: int | Sequence[Event] = 1,
    *,
    tick: int = 0,
    due_tick: int | None = None,
    ended: bool = False,
    slice: int | None = None,
    previous: bytes | None = None,
) -> StreamAppend:
    """An append of these events, or of so many default ones; runs are in slice 0 unless told."""
    given: list[Event | None] = [None] * events if isinstance(events, int) else list(events)
    rows: list[SealedEvent] = []
    for version, event in enumerate(given, expected + 1):
        rows.append(sealed(stream_id, version, event, tick=tick, previous=previous))
        previous = rows[-1].checksum
    if slice is None:
        slice = 0 if is_run(stream_id) else -1
    return StreamAppend(stream_id, expected, tuple(rows), due_tick, ended, slice)


_OF_UNIT = frozenset(Unit.__struct_fields__)


def unit(
    stream_id: str, expected: int = 0, events: int | Sequence[Event] = 1, **options: Any
) -> Unit:
    """A unit with one append; options are those of `append` and the fields of `Unit`."""
    of_unit = {name: options.pop(name) for name in _OF_UNIT & options.keys()}
    return Unit((append(stream_id, expected, events, **options),), **of_unit)


def index_unit(**fields: Any) -> Unit:
    """A unit without appends, for the indexes alone."""
    return Unit((), **fields)


def consent(
    contact_id: str,
    channel: str = "email",
    state: Literal["granted", "revoked"] = "granted",
    since_tick: int = 0,
    expires_tick: int | None = None,
) -> Consent:
    """A consent, granted without end unless told otherwise."""
    return Consent(contact_id, channel, state, since_tick, expires_tick)


def use(key: str, limit: int | None = None, *, add: int = 1, slot: int = 1) -> CounterUse:
    """One use of a counter, in slot 1 and without limit unless told otherwise."""
    return CounterUse(key, slot, add, limit)


def due_runs(
    store: EventStore, tick: int, limit: int, partition: tuple[int, int] = (0, 1)
) -> list[str]:
    """The runs that are due, in order; what the store says of each is what its head says."""
    found = store.due(tick, limit, partition)
    ids = [head.stream_id for head in found]
    assert {head.stream_id: head for head in found} == store.heads(ids)
    return ids


class _At:
    """Equal to what says that a unit was committed there, whatever run it may have created."""

    def __init__(self, position: int) -> None:
        self._position = position

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Committed) and other.position == self._position

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"committed at {self._position}"


def committed_at(position: int) -> _At:
    """What a committed unit is compared with where only its position matters."""
    return _At(position)
