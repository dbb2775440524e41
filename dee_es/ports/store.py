"""The event store: the append-only log and the small indexes that are written with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from dee_es.core.events import RecordedEvent
from dee_es.core.evidence.chain import Entry
from dee_es.core.ids import CounterKey
from dee_es.ports.idempotency import IdempotencyStore
from dee_es.ports.log import (
    Committed,
    Conflict,
    Consent,
    Head,
    Lease,
    LeaseRow,
    LogHead,
    Situation,
    StoredRow,
    Suppression,
    Tombstone,
    Unit,
)
from dee_es.ports.views import TableTransaction

Inline = Callable[[TableTransaction, int, Sequence[RecordedEvent]], None]
"""Called in the append's transaction with the head position before it and the events appended."""

UnitsOf = Callable[[Situation], Sequence[Unit]]
"""What to commit as things stand; called under the append lock, and may read the store."""

Forget = Callable[[TableTransaction], None]
"""Called in the transaction that archives, to take what was archived out of projection tables."""


class EventStore(IdempotencyStore, Protocol):
    """The append-only log and the small indexes that are written with it; beside it requests that
    may be repeated.

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

    def decide(
        self,
        stream_ids: Sequence[str],
        contact_ids: Sequence[str],
        units_of: UnitsOf,
        *,
        inline: Inline | None = None,
    ) -> list[Committed | Conflict]:
        """Commit, as `commit` does, what `units_of` makes of the situation of these streams and
        contacts, which nobody can change meanwhile; its units name no others.

        It takes one look at the database instead of two, but everybody waits for `units_of`.
        """
        ...

    def archive(
        self, unit: Unit, stones: Sequence[Tombstone], *, inline: Inline, forget: Forget
    ) -> Committed | Conflict:
        """Commit a unit and replace events by their tombstones, all of one archive, in the same
        transaction.

        The database lets an event go only if its tombstone names its very stream, version,
        position and checksum. Raises `IntegrityViolation` if an event is not there or is another.
        """
        ...

    def tombstones(self, after: int, upto: int) -> list[Tombstone]:
        """Tombstones with `after < position <= upto`, in order of position; nothing is taken for
        granted about their columns."""
        ...

    def tombstones_of(self, stream_ids: Sequence[str]) -> dict[str, list[Tombstone]]:
        """The tombstones of those streams that were archived, in order."""
        ...

    def archived(self) -> int:
        """How many events were archived."""
        ...

    def read_stream(
        self, stream_id: str, after: int = 0, upto: int | None = None
    ) -> list[StoredRow]:
        """The stream's rows with `after < version <= upto`, in order."""
        ...

    def read_streams(self, stream_ids: Sequence[str]) -> dict[str, list[StoredRow]]:
        """All rows of each stream, in order; streams without any are absent."""
        ...

    def read_first(
        self, stream_ids: Sequence[str], *, neighbours: bool = False
    ) -> dict[str, StoredRow]:
        """The first row of each stream that exists.

        `neighbours` says that they probably begin close to each other, the first and the last of
        them outermost. It changes nothing but how they are looked for.
        """
        ...

    def read_log(self, after: int, limit: int) -> list[StoredRow]:
        """Rows of the whole log behind position `after`, in order."""
        ...

    def read_entries(self, after: int, upto: int) -> list[Entry]:
        """What there is with `after < position <= upto`, in order of position.

        This is how verification reads the log. Nothing is taken for granted: positions may be
        missing, or taken twice, and columns may hold what could never be there.
        """
        ...

    def stream_ends(self, after: str, limit: int) -> list[tuple[str, int, bytes]]:
        """Stream, version and checksum of the heads behind stream `after`, in order of stream."""
        ...

    def heads(self, stream_ids: Sequence[str]) -> dict[str, Head]:
        """The heads of the streams that exist."""
        ...

    def situation(self, stream_ids: Sequence[str], contact_ids: Sequence[str]) -> Situation:
        """What an enrolment is decided by, all of the same moment."""
        ...

    def stream_ids(self, prefix: str, after: str = "", limit: int = 1000) -> list[str]:
        """Ids of streams that begin with `prefix`, in order, behind `after`."""
        ...

    def due(
        self,
        tick: int,
        limit: int,
        partition: tuple[int, int] = (0, 1),
        after: Head | None = None,
    ) -> list[Head]:
        """The heads of up to `limit` runs with `due_tick <= tick`, oldest first, then by id; of
        partition `(i, n)` only those whose slice modulo `n` is `i`, and only those behind the place
        in that order that `after` had, if it is given, wherever its run stands now."""
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

    def contact_key_page(self, after: str, limit: int) -> list[tuple[str, bytes]]:
        """Contacts that have a key, with its id, in order behind the contact `after`; nothing is
        taken for granted about the columns."""
        ...

    def suppressions(self, subjects: Sequence[str]) -> list[Suppression]:
        """All suppressions of these subjects, one for each contact that was suppressed with
        them."""
        ...

    def suppression_page(self, after: Suppression | None, limit: int) -> list[Suppression]:
        """The whole list, in order of its columns, behind the row `after`; nothing is taken for
        granted about the columns."""
        ...

    def consent_page(self, after: tuple[str, str], limit: int) -> list[Consent]:
        """All consents, by contact id, then channel, behind such a pair; nothing is taken for
        granted about the columns."""
        ...

    def consents(self, contact_ids: Sequence[str]) -> list[Consent]:
        """All consents of these contacts, given or revoked, by contact id, then channel."""
        ...

    def counters(self, wanted: Sequence[CounterKey]) -> dict[CounterKey, int]:
        """What the counters stand at; those that nothing was added to are absent."""
        ...

    def counter_page(self, after: CounterKey, limit: int) -> list[CounterKey]:
        """All counters that have a row, by slot, then name, behind this one; nothing is taken for
        granted about the columns."""
        ...

    def prune_counters(self, before_slot: int) -> int:
        """Forget the counters of all slots before this one, slot 0 excepted; returns how many.

        Only for slots in which nothing will be counted any more: it would begin at 0 again.
        """
        ...

    def known_event_ids(self, event_ids: Sequence[str]) -> set[str]:
        """Those of the channel event ids that were accepted before."""
        ...

    def event_id_page(self, after: str, limit: int) -> list[str]:
        """All channel event ids that were accepted, in order, behind this one; nothing is taken for
        granted about the column."""
        ...

    def acquire_lease(self, partition: tuple[int, int], owner: str, ttl_ms: int) -> Lease | None:
        """Take or renew the lease of a partition, (index, count), by the database's clock.

        None while another owner's is valid, and while any lease of another count is, the same
        owner's too: their slices overlap. Renewing in time keeps the epoch; any other lease has a
        higher epoch than all before it, and ends the expired ones of other counts. A lease runs for
        a minute at most: one that seems to run longer was taken before the clock was set back, and
        now runs for as long as the one that is asked for. Raises `InvalidInput` unless
        0 <= index < count and the owner has a name.
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
