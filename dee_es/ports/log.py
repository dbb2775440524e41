"""What is written to the log and what comes of it: rows, units of commit, conflicts, leases."""

from __future__ import annotations

from typing import Literal

import msgspec

from dee_es.core.events import Event, Meta, RecordedEvent


class StoredRow(msgspec.Struct, frozen=True, gc=False):
    """One row of the log, as stored."""

    position: int
    stream_id: str
    version: int
    name: str
    state: bytes

    def __str__(self) -> str:
        """How error texts name it."""
        return f"{self.stream_id} entry {self.version} (position {self.position})"


class SealedEvent(msgspec.Struct, frozen=True, gc=False):
    """An event ready to store: encoded, encrypted and chained.

    `erased` is that of `RecordedEvent`, for what comes from another log.
    """

    stream_id: str
    version: int
    name: str
    meta: Meta
    event: Event
    state: bytes
    checksum: bytes
    erased: bool = False

    def recorded(self, position: int = 0, ordinal: int = 0) -> RecordedEvent:
        """The event as it is in the log; the store assigns the numbers, under the append lock."""
        return RecordedEvent(
            self.stream_id,
            self.version,
            self.name,
            position,
            self.meta,
            self.event,
            ordinal,
            self.erased,
        )


class Head(msgspec.Struct, frozen=True, gc=False):
    """The write side's own row about a stream, kept with every append.

    `due_tick` is the tick at which a run wants to act, None if it does not; `ended` says that the
    run blocks no new enrolment. Both are pure functions of the stream's events. `slice` is the
    contact's slice (-1 for streams that are not runs), `ordinal` the run's number (0 likewise).
    """

    stream_id: str
    version: int
    checksum: bytes
    due_tick: int | None = None
    ended: bool = False
    slice: int = -1
    ordinal: int = 0


class StreamAppend(msgspec.Struct, frozen=True, gc=False):
    """Events to append to one stream, provided that its version still is `expected_version`.

    `expected_version` 0 means that the stream must not exist. `due_tick`, `ended` and `slice` are
    what the stream's head says afterwards.
    """

    stream_id: str
    expected_version: int
    events: tuple[SealedEvent, ...]
    due_tick: int | None = None
    ended: bool = False
    slice: int = -1


class Tombstone(msgspec.Struct, frozen=True, gc=False):
    """What stays of an event that was archived: its place, its checksum, and in which archive it
    is."""

    position: int
    stream_id: str
    version: int
    checksum: bytes
    archive: int


class Suppression(msgspec.Struct, frozen=True, gc=False):
    """A subject (`id:...`, `email:<digest>`, `phone:<digest>`) that must not be contacted.

    `level` is global, channel, plan or regulatory; `scope` names the channel or plan, else empty.
    `contact_id` is on whose account; each contact has its own, and lifts no other.
    """

    subject: str
    level: str
    scope: str
    contact_id: str


class Consent(msgspec.Struct, frozen=True, gc=False):
    """What a contact last said about a channel: one row for each contact and channel.

    It counts from `since_tick` on, and no longer from `expires_tick` on (None: without end).
    """

    contact_id: str
    channel: str
    state: Literal["granted", "revoked"]
    since_tick: int
    expires_tick: int | None


class SuppressionGuard(msgspec.Struct, frozen=True, gc=False):
    """A decision that relied on these subjects not being suppressed further than at `epoch`, and,
    where a subject is `id:<contact>`, on no consent of that contact having changed since."""

    subjects: tuple[str, ...]
    epoch: int


class CounterUse(msgspec.Struct, frozen=True, gc=False):
    """What a unit adds to the counter `key` of a slot, and how far that counter may go.

    A slot is a number of the caller's, such as a day, that grows with time; slot 0 stands for all
    time and is never pruned. `limit` None only counts; what has a limit is not negative
    (`ValueError`): without one, a negative `add` gives back what an attempt did not use after all.
    """

    key: str
    slot: int
    add: int
    limit: int | None

    def __post_init__(self) -> None:
        if self.add < 0 and self.limit is not None:
            raise ValueError("add: what has a limit must not be negative")


class Unit(msgspec.Struct, frozen=True, gc=False):
    """What is committed or refused as one: appends, and the index rows that go with them.

    `min_tick`: refused with a `clock` conflict if the stored tick is already beyond it.
    `contact_keys`: (contact id, key id) pairs that must be new, or equal to what is stored.
    `event_ids`: ids of channel events, each accepted once per database.
    `consents`: each replaces what is stored for its contact and channel.
    `counters`: refused with a `limit` conflict if one of them would go beyond its limit, counting
    what is stored and what the units accepted before in the same commit add.

    Every unit that changes suppressions or consents raises the suppression epoch by one.
    """

    appends: tuple[StreamAppend, ...]
    min_tick: int | None = None
    contact_keys: tuple[tuple[str, bytes], ...] = ()
    suppress: tuple[Suppression, ...] = ()
    unsuppress: tuple[Suppression, ...] = ()
    event_ids: tuple[str, ...] = ()
    guard: SuppressionGuard | None = None
    consents: tuple[Consent, ...] = ()
    counters: tuple[CounterUse, ...] = ()


class Committed(msgspec.Struct, frozen=True, gc=False):
    """The unit is in the log; `position` is that of its last event (0 if it had none), `ordinal`
    the number of the last run that it created (0 if it created none)."""

    position: int
    ordinal: int = 0


class Conflict(msgspec.Struct, frozen=True, gc=False):
    """The unit was refused and left no trace; decide again. A value, not an error.

    `kind` says what had moved: a stream's `version`, the `clock`, a contact's `key`, the
    `suppression` guard (consents too), an `event_id` that is already known, or a counter at its
    `limit`; the first that applies, in this order. `what` names the stream, contact, subject, id
    or counter.
    """

    kind: Literal["version", "clock", "key", "suppression", "event_id", "limit"]
    what: str


class LogHead(msgspec.Struct, frozen=True, gc=False):
    """The end of the log: last position, last run ordinal, highest tick, suppression epoch."""

    position: int
    ordinal: int
    tick: int
    suppression_epoch: int


class Situation(msgspec.Struct, frozen=True, gc=False):
    """At one moment: the end of the log, the heads of streams and the key ids of contacts, of those
    that were asked for and exist."""

    end: LogHead
    heads: dict[str, Head]
    keys: dict[str, bytes]


class Lease(msgspec.Struct, frozen=True, gc=False):
    """The right to schedule one partition, (index, count).

    `epoch` comes from one counter for the whole database and grows with each holder, so that it
    can be compared across partitions and partitionings.
    """

    partition: tuple[int, int]
    owner: str
    epoch: int


class LeaseRow(msgspec.Struct, frozen=True, gc=False):
    """A lease as it stands: `expires_in_ms` is what is left of it by the database's clock, 0 once
    it has run out."""

    partition: tuple[int, int]
    owner: str
    epoch: int
    expires_in_ms: int
