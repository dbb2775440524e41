"""What the engine needs from the outside, as small protocols that adapters fulfil."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, Protocol, TypeVar

import msgspec

from dee_es.core.events import Message, RecordedEvent
from dee_es.core.gate.zone import ZoneRules
from dee_es.core.projection import CountKey, Key, Row, Table
from dee_es.core.views import AuditFilter, AuditRow, RunFilter, RunRow

RowT = TypeVar("RowT", bound=Row)

# --- the event store ----------------------------------------------------------------------------


class StoredRow(msgspec.Struct, frozen=True):
    """One row of the log, as stored."""

    position: int
    stream_id: str
    version: int
    name: str
    state: bytes


class SealedEvent(msgspec.Struct, frozen=True):
    """An event ready to store: encoded, encrypted and chained.

    `recorded.position` and `.ordinal` are 0; the store assigns them under the append lock.
    """

    recorded: RecordedEvent
    state: bytes
    checksum: bytes


class Head(msgspec.Struct, frozen=True):
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


class StreamAppend(msgspec.Struct, frozen=True):
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


class Suppression(msgspec.Struct, frozen=True):
    """A subject (`id:...`, `email:<digest>`, `phone:<digest>`) that must not be contacted.

    `level` is global, channel, plan or regulatory; `scope` names the channel or plan, else empty.
    """

    subject: str
    level: str
    scope: str
    contact_id: str


class Consent(msgspec.Struct, frozen=True):
    """What a contact last said about a channel: one row for each contact and channel.

    It counts from `since_tick` on, and no longer from `expires_tick` on (None: without end).
    """

    contact_id: str
    channel: str
    state: Literal["granted", "revoked"]
    since_tick: int
    expires_tick: int | None


class SuppressionGuard(msgspec.Struct, frozen=True):
    """A decision that relied on these subjects not being suppressed further than at `epoch`, and,
    where a subject is `id:<contact>`, on no consent of that contact having changed since."""

    subjects: tuple[str, ...]
    epoch: int


class CounterUse(msgspec.Struct, frozen=True):
    """What a unit adds to the counter `key` of a slot, and how far that counter may go.

    A slot is a number of the caller's, such as a day, that grows with time; slot 0 stands for all
    time and is never pruned. `add` is not negative (`ValueError`); `limit` None only counts.
    """

    key: str
    slot: int
    add: int
    limit: int | None

    def __post_init__(self) -> None:
        if self.add < 0:
            raise ValueError("add: a counter never goes back; it must not be negative")


class Unit(msgspec.Struct, frozen=True):
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


class Committed(msgspec.Struct, frozen=True):
    """The unit is in the log; `position` is that of its last event (0 if it had none)."""

    position: int


class Conflict(msgspec.Struct, frozen=True):
    """The unit was refused and left no trace; decide again. A value, not an error.

    `kind` says what had moved: a stream's `version`, the `clock`, a contact's `key`, the
    `suppression` guard (consents too), an `event_id` that is already known, or a counter at its
    `limit`; the first that applies, in this order. `what` names the stream, contact, subject, id
    or counter.
    """

    kind: Literal["version", "clock", "key", "suppression", "event_id", "limit"]
    what: str


class LogHead(msgspec.Struct, frozen=True):
    """The end of the log: last position, last run ordinal, highest tick, suppression epoch."""

    position: int
    ordinal: int
    tick: int
    suppression_epoch: int


class Lease(msgspec.Struct, frozen=True):
    """The right to schedule one partition, (index, count).

    `epoch` comes from one counter for the whole database and grows with each holder, so that it
    can be compared across partitions and partitionings.
    """

    partition: tuple[int, int]
    owner: str
    epoch: int


class LeaseRow(msgspec.Struct, frozen=True):
    """A lease as it stands: `expires_in_ms` is what is left of it by the database's clock, 0 once
    it has run out."""

    partition: tuple[int, int]
    owner: str
    epoch: int
    expires_in_ms: int


class TableTransaction(Protocol):
    """Projection tables inside one transaction."""

    def checkpoint(self, projection: str, version: int) -> tuple[int, int]:
        """Position up to which the projection has folded, and last run ordinal it has seen."""
        ...

    def save_checkpoint(self, projection: str, version: int, position: int, ordinal: int) -> None:
        """Move the checkpoint; it commits with the rows."""
        ...

    def rows(self, table: Table[RowT], keys: Sequence[Key]) -> dict[Key, RowT]:
        """The rows with these keys that exist."""
        ...

    def write(self, table: Table[RowT], inserts: Sequence[RowT], updates: Sequence[RowT]) -> None:
        """Insert new rows and replace existing ones, by key."""
        ...

    def add_counts(self, table: Table[RowT], deltas: Mapping[CountKey, int]) -> None:
        """Add to the counts beside a counted table."""
        ...

    def read_log(self, after: int, limit: int) -> list[StoredRow]:
        """Rows of the log behind position `after`, in order."""
        ...


Inline = Callable[[TableTransaction, int, Sequence[RecordedEvent]], None]
"""Called in the append's transaction with the head position before it and the events appended."""


class EventStore(Protocol):
    """The append-only log and the small indexes that are written with it.

    All methods raise `StoreUnavailable` when the database does not answer within bounded time.
    """

    def commit(
        self, units: Sequence[Unit], *, inline: Inline | None = None, lease: Lease | None = None
    ) -> list[Committed | Conflict]:
        """Append all units that still fit, in one transaction under the append lock.

        Units are taken in order; each is committed whole or refused whole, and a refused one does
        not disturb the others. Positions are gapless and in commit order; each first event of a run
        takes the next ordinal. Raises `ConcurrencyConflict` without writing anything if `lease` is
        no longer held.
        """
        ...

    def read_stream(
        self, stream_id: str, after: int = 0, upto: int | None = None
    ) -> list[StoredRow]:
        """The stream's rows with `after < version <= upto`, in order."""
        ...

    def read_streams(self, stream_ids: Sequence[str]) -> dict[str, list[StoredRow]]:
        """All rows of each stream, in order; streams without any are absent."""
        ...

    def read_first(self, stream_ids: Sequence[str]) -> dict[str, StoredRow]:
        """The first row of each stream that exists."""
        ...

    def read_log(self, after: int, limit: int) -> list[StoredRow]:
        """Rows of the whole log behind position `after`, in order."""
        ...

    def heads(self, stream_ids: Sequence[str]) -> dict[str, Head]:
        """The heads of the streams that exist."""
        ...

    def stream_ids(self, prefix: str, after: str = "", limit: int = 1000) -> list[str]:
        """Ids of streams that begin with `prefix`, in order, behind `after`."""
        ...

    def due(self, tick: int, limit: int, partition: tuple[int, int] = (0, 1)) -> list[str]:
        """Up to `limit` runs with `due_tick <= tick`, oldest first, then by id; of partition
        `(i, n)` only those whose slice modulo `n` is `i`."""
        ...

    def next_due(self, partition: tuple[int, int] = (0, 1)) -> int | None:
        """The earliest tick at which a run is due."""
        ...

    def due_lag(self, tick: int, partition: tuple[int, int] = (0, 1), limit: int = 100_000) -> int:
        """How many runs of the partition have `due_tick <= tick`; counting stops at `limit`."""
        ...

    def log_head(self) -> LogHead:
        """The end of the log as of now."""
        ...

    def advance_clock(self, tick: int) -> int:
        """Raise the stored tick to `tick` if it is higher; returns the stored tick."""
        ...

    def contact_keys(self, contact_ids: Sequence[str]) -> dict[str, bytes]:
        """Key ids of the contacts that have one."""
        ...

    def suppressions(self, subjects: Sequence[str]) -> list[Suppression]:
        """All suppressions of these subjects."""
        ...

    def consents(self, contact_ids: Sequence[str]) -> list[Consent]:
        """All consents of these contacts, given or revoked, by contact id, then channel."""
        ...

    def counters(self, wanted: Sequence[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """What the (key, slot) counters stand at; those that nothing was added to are absent."""
        ...

    def prune_counters(self, before_slot: int) -> int:
        """Forget the counters of all slots before this one, slot 0 excepted; returns how many.

        Only for slots in which nothing will be counted any more: it would begin at 0 again.
        """
        ...

    def known_event_ids(self, event_ids: Sequence[str]) -> set[str]:
        """Those of the channel event ids that were accepted before."""
        ...

    def acquire_lease(self, partition: tuple[int, int], owner: str, ttl_ms: int) -> Lease | None:
        """Take or renew the lease of a partition, (index, count), by the database's clock.

        None while another owner's is valid, and while any lease of another count is, the same
        owner's too: their slices overlap. Renewing in time keeps the epoch; any other lease has a
        higher epoch than all before it, and ends the expired ones of other counts. Raises
        `InvalidInput` unless 0 <= index < count and the owner has a name.
        """
        ...

    def leases(self) -> list[LeaseRow]:
        """The leases that are held or have run out, without released ones, by count and index."""
        ...

    def release_lease(self, lease: Lease) -> None:
        """Give the lease up, if it is still held."""
        ...

    def close(self) -> None:
        """Release every connection; the store cannot be used afterwards."""
        ...


class Views(Protocol):
    """Projection tables: what queries read and the projector writes."""

    def prepare(self, tables: Iterable[Table[Any]]) -> None:
        """Create the tables that do not exist yet."""
        ...

    def transaction(self) -> AbstractContextManager[TableTransaction]:
        """A transaction on the tables, one at a time for the whole database (append lock)."""
        ...

    def position(self, projection: str, version: int) -> int:
        """Position up to which the projection has folded."""
        ...

    def run(self, table: Table[RunRow], run_id: str) -> RunRow | None:
        """One run of the list."""
        ...

    def list_runs(
        self,
        table: Table[RunRow],
        chosen: RunFilter,
        *,
        limit: int,
        offset: int = 0,
        before_ordinal: int | None = None,
    ) -> tuple[list[RunRow], int, int, int]:
        """Rows by ordinal descending, exact total, log head and folded position, all of one
        snapshot. `before_ordinal` continues a page; the total does not depend on it."""
        ...

    def list_audit(
        self, table: Table[AuditRow], chosen: AuditFilter, *, limit: int, after_position: int = 0
    ) -> list[AuditRow]:
        """Audit rows behind a position, in log order."""
        ...


# --- keys ---------------------------------------------------------------------------------------


class KeyStore(Protocol):
    """Keys of contacts; it hands out ids and does the encryption, so keys never leave it."""

    def new_keys(self, count: int) -> list[bytes]:
        """Ids (16 bytes) of fresh keys that are already durable."""
        ...

    def encrypt(self, key_id: bytes, stream_id: str, version: int, plaintext: bytes) -> bytes:
        """AES-256-GCM-SIV with stream id and version as associated data; same input, same bytes."""
        ...

    def decrypt(
        self, key_id: bytes, stream_id: str, version: int, ciphertext: bytes
    ) -> bytes | None:
        """The plaintext; None if the key was destroyed. Raises `IntegrityViolation` if the
        ciphertext is not what was encrypted there."""
        ...

    def preload(self, key_ids: Iterable[bytes]) -> None:
        """Fetch many keys at once, before decrypting a page of events."""
        ...

    def digest(self, kind: str, normalized: str) -> str:
        """Keyed digest of a normalized address, as 64 hex digits: equal for equal addresses, and
        of no use to who has not the key."""
        ...

    def close(self) -> None:
        """Release the store."""
        ...


# --- channels -----------------------------------------------------------------------------------


class Action(msgspec.Struct, frozen=True):
    """One attempt to send: what, for which run and step, and under which idempotency key."""

    run_id: str
    step_id: str
    channel: str
    key: str
    attempt: int
    message: Message


class SendContext(msgspec.Struct, frozen=True):
    """What a channel may need besides the message: who sends, and the time of the tick in ms since
    1970 UTC (dates in messages come from it, never from the wall clock)."""

    sender_address: str
    sender_name: str | None
    postal_address: str | None
    time_ms: int
    unsubscribe_url: str | None = None


class ChannelResult(msgspec.Struct, frozen=True):
    """What the channel says about an attempt.

    `failed` with `retryable` may pass by itself; `unknown` means it may have arrived. `error` names
    the kind of failure without personal data; `detail` may hold some and is stored encrypted.
    `message_id` is the engine's own, never a provider's.
    """

    status: Literal["delivered", "failed", "pending", "unknown"]
    message_id: str | None = None
    error: str = ""
    retryable: bool = False
    detail: Mapping[str, Any] = {}


class Channel(Protocol):
    """A way out. `send` is called outside any transaction, at most once for an attempt."""

    @property
    def name(self) -> str: ...

    @property
    def kinds(self) -> frozenset[str]:
        """The step channels it serves: `email`, `voice`."""
        ...

    def send(self, action: Action, context: SendContext) -> ChannelResult:
        """Make the attempt. An exception means that the outcome is unknown."""
        ...

    def close(self) -> None:
        """Finish and release connections."""
        ...


# --- time and identity ----------------------------------------------------------------------------


class WallClock(Protocol):
    """Wall time, for `recorded_at` and for the system clock; no decision reads it directly."""

    def now_ms(self) -> int:
        """Milliseconds since 1970 UTC."""
        ...


ZoneSource = Callable[[str, int, int], ZoneRules | None]
"""The rules of a named time zone for a span of ms since 1970 UTC; None for an unknown zone."""


class IdSource(Protocol):
    """Where command ids come from; seeded in tests."""

    def command_id(self) -> str:
        """A new command id."""
        ...
