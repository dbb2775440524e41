"""What the engine needs from the outside, as small protocols that adapters fulfil."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, Protocol, TypeVar

import msgspec

from dee_es.core.events import Message, RecordedEvent
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


class SuppressionGuard(msgspec.Struct, frozen=True):
    """A decision that relied on these subjects not being suppressed further than at `epoch`."""

    subjects: tuple[str, ...]
    epoch: int


class Unit(msgspec.Struct, frozen=True):
    """What is committed or refused as one: appends, and the index rows that go with them.

    `min_tick`: refused with a `clock` conflict if the stored tick is already beyond it.
    `contact_keys`: (contact id, key id) pairs that must be new, or equal to what is stored.
    `event_ids`: ids of channel events, each accepted once per database.
    """

    appends: tuple[StreamAppend, ...]
    min_tick: int | None = None
    contact_keys: tuple[tuple[str, bytes], ...] = ()
    suppress: tuple[Suppression, ...] = ()
    unsuppress: tuple[Suppression, ...] = ()
    event_ids: tuple[str, ...] = ()
    guard: SuppressionGuard | None = None


class Committed(msgspec.Struct, frozen=True):
    """The unit is in the log; `position` is that of its last event (0 if it had none)."""

    position: int


class Conflict(msgspec.Struct, frozen=True):
    """The unit was refused and left no trace; decide again. A value, not an error.

    `kind` says what had moved: a stream's `version`, the `clock`, a contact's `key`, the
    `suppression` guard, or an `event_id` that is already known. `what` names the stream, contact
    or id.
    """

    kind: Literal["version", "clock", "key", "suppression", "event_id"]
    what: str


class LogHead(msgspec.Struct, frozen=True):
    """The end of the log: last position, last run ordinal, highest tick, suppression epoch."""

    position: int
    ordinal: int
    tick: int
    suppression_epoch: int


class Lease(msgspec.Struct, frozen=True):
    """The right to schedule one partition (`index` of `count`); `epoch` grows with each holder."""

    partition: str
    owner: str
    epoch: int


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
        """Up to `limit` runs with `due_tick <= tick`, oldest first, then by id; of `(i, n)` only those
        whose slice modulo `n` is `i`."""
        ...

    def next_due(self, partition: tuple[int, int] = (0, 1)) -> int | None:
        """The earliest tick at which a run is due."""
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

    def known_event_ids(self, event_ids: Sequence[str]) -> set[str]:
        """Those of the channel event ids that were accepted before."""
        ...

    def acquire_lease(self, partition: str, owner: str, ttl_ms: int) -> Lease | None:
        """Take or renew the lease by the database's clock; None while another holder's is valid.

        The epoch grows by one whenever the holder changes or an expired lease is taken anew.
        """
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


class IdSource(Protocol):
    """Where command ids come from; seeded in tests."""

    def command_id(self) -> str:
        """A new command id."""
        ...
