"""The event store in memory: for tests, demonstrations and `:memory:` engines."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from functools import partial

from msgspec.structs import astuple

from dee_es.adapters.storage.memory.commit import Commit
from dee_es.adapters.storage.memory.database import HeldLease, Journal, MemoryDatabase
from dee_es.adapters.storage.memory.idempotency import MemoryIdempotency
from dee_es.adapters.storage.memory.views import MemoryTransaction
from dee_es.adapters.storage.rules import NOBODY, check_request, granted_epoch, lost, overtaken
from dee_es.core.evidence.chain import Entry
from dee_es.core.ids import CounterKey
from dee_es.errors import IntegrityViolation
from dee_es.ports import (
    Committed,
    Conflict,
    Consent,
    Forget,
    Head,
    Inline,
    Lease,
    LeaseRow,
    LogHead,
    Situation,
    StoredRow,
    Suppression,
    Tombstone,
    Unit,
    UnitsOf,
    WallClock,
)


class MemoryStore(MemoryIdempotency):
    """An `EventStore` that lives as long as the process; the clock is that of its leases."""

    def __init__(self, database: MemoryDatabase, clock: WallClock) -> None:
        self._database = database
        self._clock = clock

    def commit(
        self, units: Sequence[Unit], *, inline: Inline | None = None, lease: Lease | None = None
    ) -> list[Committed | Conflict]:
        """See `EventStore.commit`."""
        if not units:
            return []
        database = self._database
        with database.writing() as journal:
            if lease is not None and not self._holds(lease):
                raise lost(lease)
            return self._apply(journal, units, inline)

    def decide(
        self,
        stream_ids: Sequence[str],
        contact_ids: Sequence[str],
        units_of: UnitsOf,
        *,
        inline: Inline | None = None,
    ) -> list[Committed | Conflict]:
        """See `EventStore.decide`."""
        with self._database.writing() as journal:
            return self._apply(journal, units_of(self.situation(stream_ids, contact_ids)), inline)

    def _apply(
        self, journal: Journal, units: Sequence[Unit], inline: Inline | None
    ) -> list[Committed | Conflict]:
        database = self._database
        before = database.recorder.position
        commit = Commit(database, journal)
        answers = [commit.take(unit) for unit in units]
        if inline is not None and commit.appended:
            inline(MemoryTransaction(database, journal, before), before, commit.appended)
        if commit.appended:
            database.recorder.wake()
        return answers

    def archive(
        self, unit: Unit, stones: Sequence[Tombstone], *, inline: Inline, forget: Forget
    ) -> Committed | Conflict:
        """See `EventStore.archive`."""
        database = self._database
        recorder = database.recorder
        with database.writing() as journal:
            before = recorder.position
            commit = Commit(database, journal)
            outcome = commit.take(unit)
            if isinstance(outcome, Conflict):
                return outcome
            inline(MemoryTransaction(database, journal, before), before, commit.appended)
            for stone in stones:
                if not recorder.holds(stone):
                    raise IntegrityViolation(
                        f"position {stone.position} that was to be archived is not in the log; "
                        "run `dee audit verify`"
                    )
                journal.on_undo(partial(recorder.raise_up, stone))
                recorder.bury(stone)
            forget(MemoryTransaction(database, journal))
        recorder.forget_buried(stones)
        recorder.wake()
        return outcome

    def tombstones(self, after: int, upto: int) -> list[Tombstone]:
        """See `EventStore.tombstones`."""
        with self._database.reading():
            stones = self._database.recorder.stones
            return [stones[at] for at in sorted(stones) if after < at <= upto]

    def tombstones_of(self, stream_ids: Sequence[str]) -> dict[str, list[Tombstone]]:
        """See `EventStore.tombstones_of`."""
        with self._database.reading():
            found: dict[str, list[Tombstone]] = {}
            for _, stone in sorted(self._database.recorder.stones.items()):
                found.setdefault(stone.stream_id, []).append(stone)
            return {stream: found[stream] for stream in stream_ids if stream in found}

    def archived(self) -> int:
        """See `EventStore.archived`."""
        with self._database.reading():
            return len(self._database.recorder.stones)

    def read_stream(
        self, stream_id: str, after: int = 0, upto: int | None = None
    ) -> list[StoredRow]:
        """See `EventStore.read_stream`."""
        with self._database.reading():
            return self._database.recorder.stream(stream_id, after, upto)

    def read_streams(self, stream_ids: Sequence[str]) -> dict[str, list[StoredRow]]:
        """See `EventStore.read_streams`."""
        with self._database.reading():
            recorder = self._database.recorder
            found = {stream_id: recorder.stream(stream_id, 0, None) for stream_id in stream_ids}
            return {stream_id: rows for stream_id, rows in found.items() if rows}

    def read_first(
        self, stream_ids: Sequence[str], *, neighbours: bool = False
    ) -> dict[str, StoredRow]:
        """See `EventStore.read_first`."""
        with self._database.reading():
            recorder = self._database.recorder
            found = {stream_id: recorder.stream(stream_id, 0, 1) for stream_id in stream_ids}
            return {stream_id: rows[0] for stream_id, rows in found.items() if rows}

    def read_log(self, after: int, limit: int) -> list[StoredRow]:
        """See `EventStore.read_log`."""
        with self._database.reading():
            return self._database.recorder.log(after, limit)

    def read_entries(self, after: int, upto: int) -> list[Entry]:
        """See `EventStore.read_entries`."""
        with self._database.reading():
            rows = self._database.recorder.log(after, upto - max(after, 0))
            return [
                (r.position, r.stream_id, r.version, r.name, r.state)
                for r in rows
                if r.position <= upto
            ]

    def stream_ends(self, after: str, limit: int) -> list[tuple[str, int, bytes]]:
        """See `EventStore.stream_ends`."""
        heads = self.heads(self.stream_ids("", after, limit)).values()
        return [(head.stream_id, head.version, head.checksum) for head in heads]

    def heads(self, stream_ids: Sequence[str]) -> dict[str, Head]:
        """See `EventStore.heads`."""
        with self._database.reading():
            heads = self._database.heads
            return {known: heads[known] for known in stream_ids if known in heads}

    def situation(self, stream_ids: Sequence[str], contact_ids: Sequence[str]) -> Situation:
        """See `EventStore.situation`."""
        with self._database.reading():
            return Situation(
                self.log_head(), self.heads(stream_ids), self.contact_keys(contact_ids)
            )

    def stream_ids(self, prefix: str, after: str = "", limit: int = 1000) -> list[str]:
        """See `EventStore.stream_ids`."""
        with self._database.reading():
            ids = self._database.sorted_ids()
            # Everything with the prefix stands together, from the prefix itself on.
            start = bisect_right(ids, after) if after >= prefix else bisect_left(ids, prefix)
            page = ids[start : start + max(limit, 0)]
            return [stream_id for stream_id in page if stream_id.startswith(prefix)]

    def due(
        self,
        tick: int,
        limit: int,
        partition: tuple[int, int] = (0, 1),
        after: Head | None = None,
    ) -> list[Head]:
        """See `EventStore.due`."""
        found: list[Head] = []
        with self._database.reading():
            for due_tick, stream_id in self._database.due.behind(after):
                if due_tick > tick or len(found) >= limit:
                    break
                if self._belongs(stream_id, partition):
                    found.append(self._database.heads[stream_id])
        return found

    def next_due(self, partition: tuple[int, int] = (0, 1)) -> int | None:
        """See `EventStore.next_due`."""
        with self._database.reading():
            entries = self._database.due.entries
            return next((tick for tick, run in entries if self._belongs(run, partition)), None)

    def due_lag(self, tick: int, partition: tuple[int, int] = (0, 1), limit: int = 100_000) -> int:
        """See `EventStore.due_lag`."""
        return len(self.due(tick, limit, partition))

    def _belongs(self, stream_id: str, partition: tuple[int, int]) -> bool:
        index, count = partition
        return self._database.heads[stream_id].slice % count == index

    def log_head(self) -> LogHead:
        """See `EventStore.log_head`."""
        with self._database.reading():
            now = self._database
            return LogHead(now.recorder.position, now.ordinal, now.tick, now.suppression_epoch)

    def advance_clock(self, tick: int) -> int:
        """See `EventStore.advance_clock`."""
        with self._database.writing():
            self._database.tick = max(self._database.tick, tick)
            return self._database.tick

    def contact_keys(self, contact_ids: Sequence[str]) -> dict[str, bytes]:
        """See `EventStore.contact_keys`."""
        with self._database.reading():
            keys = self._database.contact_keys
            return {known: keys[known] for known in contact_ids if known in keys}

    def contact_key_page(self, after: str, limit: int) -> list[tuple[str, bytes]]:
        """See `EventStore.contact_key_page`."""
        with self._database.reading():
            keys = self._database.contact_keys
            return [(who, keys[who]) for who in sorted(keys) if who > after][:limit]

    def suppressions(self, subjects: Sequence[str]) -> list[Suppression]:
        """See `EventStore.suppressions`."""
        with self._database.reading():
            rows = self._database.suppressions
            return [
                row.suppression
                for subject in dict.fromkeys(subjects)
                for row in rows.get(subject, {}).values()
            ]

    def suppression_page(self, after: Suppression | None, limit: int) -> list[Suppression]:
        """See `EventStore.suppression_page`."""
        place = ("", "", "", "") if after is None else astuple(after)
        with self._database.reading():
            rows = self._database.suppressions.values()
            listed = (row.suppression for holders in rows for row in holders.values())
            return sorted((each for each in listed if astuple(each) > place), key=astuple)[:limit]

    def consent_page(self, after: tuple[str, str], limit: int) -> list[Consent]:
        """See `EventStore.consent_page`."""
        with self._database.reading():
            rows = self._database.consents
            places = sorted((who, at) for who, held in rows.items() for at in held)
            behind = places[bisect_right(places, after) :][:limit]
            return [rows[who][channel].consent for who, channel in behind]

    def known_event_ids(self, event_ids: Sequence[str]) -> set[str]:
        """See `EventStore.known_event_ids`."""
        with self._database.reading():
            return {known for known in event_ids if known in self._database.event_ids}

    def event_id_page(self, after: str, limit: int) -> list[str]:
        """See `EventStore.event_id_page`."""
        with self._database.reading():
            return sorted(each for each in self._database.event_ids if each > after)[:limit]

    def consents(self, contact_ids: Sequence[str]) -> list[Consent]:
        """See `EventStore.consents`."""
        with self._database.reading():
            rows = self._database.consents
            return [
                rows[contact_id][channel].consent
                for contact_id in sorted(set(contact_ids) & rows.keys())
                for channel in sorted(rows[contact_id])
            ]

    def counters(self, wanted: Sequence[CounterKey]) -> dict[CounterKey, int]:
        """See `EventStore.counters`."""
        with self._database.reading():
            counts = self._database.counts
            return {counter: counts[counter] for counter in wanted if counter in counts}

    def counter_page(self, after: CounterKey, limit: int) -> list[CounterKey]:
        """See `EventStore.counter_page`."""
        with self._database.reading():
            behind = (each for each in self._database.counts if each[::-1] > after[::-1])
            return sorted(behind, key=lambda each: each[::-1])[:limit]

    def prune_counters(self, before_slot: int) -> int:
        """See `EventStore.prune_counters`."""
        with self._database.writing():
            counts = self._database.counts
            old = [(key, slot) for key, slot in counts if slot < before_slot and slot != 0]
            for counter in old:
                del counts[counter]
            return len(old)

    def acquire_lease(self, partition: tuple[int, int], owner: str, ttl_ms: int) -> Lease | None:
        """See `EventStore.acquire_lease`; the database's clock is the injected wall clock."""
        check_request(partition, owner)
        with self._database.writing():
            rows, leases = self._lease_rows(), self._database.leases
            epoch = granted_epoch(rows, partition, owner)
            if epoch is None:
                return None
            if overtaken(rows, partition):
                for row in rows:
                    if row.partition[1] != partition[1]:
                        leases[row.partition] = HeldLease(NOBODY, row.epoch, 0)
            leases[partition] = HeldLease(owner, epoch, self._clock.now_ms() + ttl_ms)
            return Lease(partition, owner, epoch)

    def release_lease(self, lease: Lease) -> None:
        """See `EventStore.release_lease`."""
        with self._database.writing():
            if self._holds(lease):
                # The row stays, so that the epoch goes on growing, but it is nobody's.
                self._database.leases[lease.partition] = HeldLease(NOBODY, lease.epoch, 0)

    def leases(self) -> list[LeaseRow]:
        """See `EventStore.leases`."""
        with self._database.reading():
            return [row for row in self._lease_rows() if row.owner != NOBODY]

    def _lease_rows(self) -> list[LeaseRow]:
        now = self._clock.now_ms()
        held = sorted(self._database.leases.items(), key=lambda item: item[0][::-1])
        return [
            LeaseRow(partition, row.owner, row.epoch, max(0, row.expires_ms - now))
            for partition, row in held
        ]

    def close(self) -> None:
        """See `EventStore.close`; the views that belong to it are closed with it."""
        self._database.close()

    def _holds(self, lease: Lease) -> bool:
        # A lease that ran out still is the holder's until somebody takes it, which raises the
        # epoch: the epoch alone keeps two holders apart, whatever the clocks say.
        held = self._database.leases.get(lease.partition)
        return held is not None and (held.owner, held.epoch) == (lease.owner, lease.epoch)
