"""The event store's methods in shared SQL; a backend adds its database and its schema."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import msgspec

from dee_es.adapters.storage import rules
from dee_es.adapters.storage.relational import decide, relations
from dee_es.adapters.storage.relational import statements as sql
from dee_es.adapters.storage.relational.decide import Known
from dee_es.adapters.storage.relational.idempotency import RelationalIdempotency
from dee_es.adapters.storage.relational.projection_tables import Dialect, Tables
from dee_es.adapters.storage.relational.session import Database, Session, as_asked
from dee_es.adapters.storage.relational.situation import (
    Touched,
    builds_of,
    counts_of,
    read_situation,
    situation_of,
)
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
)

_NO_LIMIT = 2**62
_BEFORE_ALL = (-1, "")
"""A due tick and a stream id that stand before those of any run."""
_SPREAD = 8
"""Entries of the log for each of the streams that begin close to each other, at the most."""
_LAST_CHARACTER = "\U0010ffff"
SMALL_EVENTS = 16
SMALL_BYTES = 32_768
"""Up to this much, a commit takes the path of least latency instead of that of most throughput."""
SMALL_STREAMS = 64
"""As much for a commit that is decided on the way: whoever enrolls one contact names four."""
PRUNED_AT_ONCE = 5_000
"""How many counters one transaction forgets."""


class RelationalStore(RelationalIdempotency):
    """Implements `EventStore` over a `Database`."""

    database: Database
    dialect: Dialect

    # --- writing ----------------------------------------------------------------------------------

    def commit(
        self, units: Sequence[Unit], *, inline: Inline | None = None, lease: Lease | None = None
    ) -> list[Committed | Conflict]:
        """See `EventStore.commit`. An exception of `inline` rolls everything back."""
        if not units:
            return []
        small = decide.is_small(units, SMALL_EVENTS, SMALL_BYTES)
        given = (decide.stream_ids(units), decide.contact_ids(units))
        with self.database.appending(small) as session:
            asked = session.ask(sql.READ_SITUATION, given)
            holder = session.ask(sql.READ_LEASE, lease.partition) if lease else None
            touched = Touched(session, units)
            rows = asked.fetchall()
            if lease and holder and holder.fetchall() != [(lease.owner, lease.epoch)]:
                raise rules.lost(lease)
            tables = Tables(session, self.dialect, builds_of(rows))
            return self._apply(session, touched.known(read_situation(rows)), tables, units, inline)

    def decide(
        self,
        stream_ids: Sequence[str],
        contact_ids: Sequence[str],
        units_of: UnitsOf,
        *,
        inline: Inline | None = None,
    ) -> list[Committed | Conflict]:
        """See `EventStore.decide`."""
        given = (list(stream_ids), list(contact_ids))
        with self.database.appending(len(stream_ids) <= SMALL_STREAMS) as session:
            rows = session.ask(sql.READ_SITUATION, given).fetchall()
            found = read_situation(rows)
            units = units_of(situation_of(found, *given))
            if not units:
                return []
            known = Touched(session, units).known(found)
            tables = Tables(session, self.dialect, builds_of(rows))
            return self._apply(session, known, tables, units, inline)

    def _apply(
        self,
        session: Session,
        known: Known,
        tables: Tables,
        units: Sequence[Unit],
        inline: Inline | None,
    ) -> list[Committed | Conflict]:
        """Decide the units and write what follows, inside a transaction under the append lock."""
        before = known.head
        decider = decide.Decider(known)
        for unit in units:
            decider.take(unit)
        batch = decider.batch
        if inline is not None and batch.recorded:
            inline(tables, before.position, batch.recorded)
        _save(session, batch)
        if decider.head != before:
            after = decider.head
            session.change(
                "log_head",
                sql.MOVE_LOG_HEAD,
                (after.position, after.ordinal, after.tick, after.suppression_epoch),
            )
        return batch.outcomes

    def archive(
        self, unit: Unit, stones: Sequence[Tombstone], *, inline: Inline, forget: Forget
    ) -> Committed | Conflict:
        """See `EventStore.archive`."""
        first, last, number = stones[0].position, stones[-1].position, stones[0].archive
        given = (decide.stream_ids([unit]), decide.contact_ids([unit]))
        with self.database.appending() as session:
            found = read_situation(session.ask(sql.READ_SITUATION, given).fetchall())
            known = Touched(session, [unit]).known(found)
            tables = Tables(session, self.dialect)
            (outcome,) = self._apply(session, known, tables, [unit], inline)
            if isinstance(outcome, Committed):
                rows = [msgspec.structs.astuple(stone) for stone in stones]
                session.insert(relations.TOMBSTONES, rows)
                session.insert(relations.ARCHIVES, [(number, len(stones))])
                gone = session.ask(sql.TAKE_OUT, (first, last, number)).fetchall()
                if len(gone) != len(stones):
                    raise IntegrityViolation(
                        f"{len(stones) - len(gone)} events that were to be archived are not in the "
                        "log; run `dee audit verify`"
                    )
                forget(tables)
        return outcome

    def advance_clock(self, tick: int) -> int:
        """See `EventStore.advance_clock`."""
        stored = self.log_head().tick
        if stored >= tick:
            return stored
        with self.database.appending(small=True) as session:
            session.ask(sql.ADVANCE_CLOCK, (tick, tick))
            return _log_head(session.ask(sql.LOG_HEAD).fetchall()).tick

    def prune_counters(self, before_slot: int) -> int:
        """See `EventStore.prune_counters`."""
        pruned = 0
        while True:
            with self.database.appending() as session:
                gone = session.ask(sql.PRUNE_COUNTERS, (before_slot, PRUNED_AT_ONCE)).fetchall()
            pruned += len(gone)
            if len(gone) < PRUNED_AT_ONCE:
                return pruned

    def acquire_lease(self, partition: tuple[int, int], owner: str, ttl_ms: int) -> Lease | None:
        """See `EventStore.acquire_lease`."""
        rules.check_request(partition, owner)
        now_ms = self.database.now_ms
        # Under the append lock, so that no commit of the former holder is still under way.
        with self.database.appending(small=True) as session:
            rows = _leases(session.ask(sql.READ_LEASES.format(now_ms=now_ms)).fetchall())
            if any(row.expires_in_ms > rules.LONGEST_LEASE_MS for row in rows):
                shorten = sql.SHORTEN_LEASES.format(now_ms=now_ms)
                session.ask(shorten, (ttl_ms, rules.LONGEST_LEASE_MS))
            epoch = rules.granted_epoch(rows, partition, owner)
            if epoch is None:
                return None
            if rules.overtaken(rows, partition):
                session.ask(sql.END_OVERTAKEN_LEASES, (partition[1],))
            session.ask(sql.SAVE_LEASE.format(now_ms=now_ms), (*partition, owner, epoch, ttl_ms))
        return Lease(partition, owner, epoch)

    def release_lease(self, lease: Lease) -> None:
        """See `EventStore.release_lease`."""
        with self.database.appending(small=True) as session:
            session.ask(sql.RELEASE_LEASE, (*lease.partition, lease.owner, lease.epoch))

    def leases(self) -> list[LeaseRow]:
        """See `EventStore.leases`."""
        rows = _leases(self._query(sql.READ_LEASES.format(now_ms=self.database.now_ms)))
        return [row for row in rows if row.owner != rules.NOBODY]

    # --- reading the log --------------------------------------------------------------------------

    def read_stream(
        self, stream_id: str, after: int = 0, upto: int | None = None
    ) -> list[StoredRow]:
        """See `EventStore.read_stream`."""
        bounds = (stream_id, after, _NO_LIMIT if upto is None else upto)
        return [StoredRow(*row) for row in self._query(sql.READ_STREAM, bounds)]

    def read_streams(self, stream_ids: Sequence[str]) -> dict[str, list[StoredRow]]:
        """See `EventStore.read_streams`."""
        rows = (StoredRow(*row) for row in self._of(sql.READ_STREAMS, stream_ids))
        found = {stream: list(group) for stream, group in groupby(rows, lambda r: r.stream_id)}
        return as_asked(stream_ids, found)

    def read_first(
        self, stream_ids: Sequence[str], *, neighbours: bool = False
    ) -> dict[str, StoredRow]:
        """See `EventStore.read_first`."""
        found: dict[str, StoredRow] = {}
        if neighbours and stream_ids:
            ends = (stream_ids[0], stream_ids[-1])
            asked = (*ends, _SPREAD * len(stream_ids), list(stream_ids))
            found = {row[1]: StoredRow(*row) for row in self._query(sql.READ_FIRST_NEAR, asked)}
        rest = [stream_id for stream_id in stream_ids if stream_id not in found]
        found |= {row[1]: StoredRow(*row) for row in self._of(sql.READ_FIRST, rest)}
        return as_asked(stream_ids, found)

    def read_log(self, after: int, limit: int) -> list[StoredRow]:
        """See `EventStore.read_log`."""
        return [StoredRow(*row) for row in self._query(sql.READ_LOG, (after, limit))]

    def tombstones(self, after: int, upto: int) -> list[Tombstone]:
        """See `EventStore.tombstones`."""
        return [Tombstone(*row) for row in self._query(sql.READ_TOMBSTONES, (after, upto))]

    def tombstones_of(self, stream_ids: Sequence[str]) -> dict[str, list[Tombstone]]:
        """See `EventStore.tombstones_of`."""
        rows = (Tombstone(*row) for row in self._of(sql.READ_TOMBSTONES_OF, stream_ids))
        found = {stream: list(group) for stream, group in groupby(rows, lambda r: r.stream_id)}
        return as_asked(stream_ids, found)

    def archived(self) -> int:
        """See `EventStore.archived`."""
        return int(self._query(sql.COUNT_ARCHIVED)[0][0])

    def read_entries(self, after: int, upto: int) -> list[Entry]:
        """See `EventStore.read_entries`."""
        return self._query(sql.READ_ENTRIES, (after, upto))

    def log_head(self) -> LogHead:
        """See `EventStore.log_head`."""
        return _log_head(self._query(sql.LOG_HEAD))

    # --- reading heads and indexes ----------------------------------------------------------------

    def heads(self, stream_ids: Sequence[str]) -> dict[str, Head]:
        """See `EventStore.heads`."""
        return as_asked(stream_ids, _heads(self._of(sql.READ_HEADS, stream_ids)))

    def situation(self, stream_ids: Sequence[str], contact_ids: Sequence[str]) -> Situation:
        """See `EventStore.situation`."""
        given = (list(stream_ids), list(contact_ids))
        return situation_of(read_situation(self._query(sql.READ_SITUATION, given)), *given)

    def stream_ends(self, after: str, limit: int) -> list[tuple[str, int, bytes]]:
        """See `EventStore.stream_ends`."""
        return self._query(sql.STREAM_ENDS, (after, limit))

    def stream_ids(self, prefix: str, after: str = "", limit: int = 1000) -> list[str]:
        """See `EventStore.stream_ids`."""
        bounds = (after, prefix, prefix + _LAST_CHARACTER, limit)
        return [row[0] for row in self._query(sql.STREAM_IDS, bounds)]

    def due(
        self,
        tick: int,
        limit: int,
        partition: tuple[int, int] = (0, 1),
        after: Head | None = None,
    ) -> list[Head]:
        """See `EventStore.due`."""
        index, count = partition
        place = (after.due_tick, after.stream_id) if after is not None else _BEFORE_ALL
        return list(_heads(self._query(sql.DUE, (tick, *place, count, index, limit))).values())

    def next_due(self, partition: tuple[int, int] = (0, 1)) -> int | None:
        """See `EventStore.next_due`."""
        index, count = partition
        rows = self._query(sql.NEXT_DUE, (count, index))
        return int(rows[0][0]) if rows else None

    def due_lag(self, tick: int, partition: tuple[int, int] = (0, 1), limit: int = 100_000) -> int:
        """See `EventStore.due_lag`."""
        index, count = partition
        if count == 1:
            return int(self._query(sql.DUE_LAG_OF_ALL, (tick, limit))[0][0])
        return int(self._query(sql.DUE_LAG, (tick, count, index, limit))[0][0])

    def contact_keys(self, contact_ids: Sequence[str]) -> dict[str, bytes]:
        """See `EventStore.contact_keys`."""
        return as_asked(contact_ids, dict(self._of(sql.READ_CONTACT_KEYS, contact_ids)))

    def contact_key_page(self, after: str, limit: int) -> list[tuple[str, bytes]]:
        """See `EventStore.contact_key_page`."""
        # In the place of a key SQLite keeps whatever somebody puts there.
        return [(who, key) for who, key in self._query(sql.CONTACT_KEY_PAGE, (after, limit))]

    def suppressions(self, subjects: Sequence[str]) -> list[Suppression]:
        """See `EventStore.suppressions`."""
        return [Suppression(*row) for row in self._of(sql.READ_SUPPRESSIONS, subjects)]

    def suppression_page(self, after: Suppression | None, limit: int) -> list[Suppression]:
        """See `EventStore.suppression_page`."""
        place = ("", "", "", "") if after is None else msgspec.structs.astuple(after)
        return [Suppression(*row) for row in self._query(sql.SUPPRESSION_PAGE, (*place, limit))]

    def consent_page(self, after: tuple[str, str], limit: int) -> list[Consent]:
        """See `EventStore.consent_page`."""
        return [Consent(*row) for row in self._query(sql.CONSENT_PAGE, (*after, limit))]

    def consents(self, contact_ids: Sequence[str]) -> list[Consent]:
        """See `EventStore.consents`."""
        return [Consent(*row) for row in self._of(sql.READ_CONSENTS, contact_ids)]

    def counters(self, wanted: Sequence[CounterKey]) -> dict[CounterKey, int]:
        """See `EventStore.counters`."""
        if not wanted:
            return {}
        slots = list({slot: None for _, slot in wanted})
        keys = list({key: None for key, _ in wanted})
        return as_asked(wanted, counts_of(self._query(sql.READ_COUNTERS, (slots, keys))))

    def counter_page(self, after: CounterKey, limit: int) -> list[CounterKey]:
        """See `EventStore.counter_page`."""
        key, slot = after
        return [(key, slot) for key, slot in self._query(sql.COUNTER_PAGE, (slot, key, limit))]

    def known_event_ids(self, event_ids: Sequence[str]) -> set[str]:
        """See `EventStore.known_event_ids`."""
        return {row[0] for row in self._of(sql.READ_EVENT_IDS, event_ids)}

    def event_id_page(self, after: str, limit: int) -> list[str]:
        """See `EventStore.event_id_page`."""
        return [row[0] for row in self._query(sql.EVENT_ID_PAGE, (after, limit))]

    def _query(self, statement: str, params: Sequence[object] = ()) -> list[Any]:
        return self.database.query(statement, params)

    def _of(self, statement: str, keys: Sequence[str]) -> list[Any]:
        """Rows for a list of keys; an empty list needs no database."""
        return self.database.query(statement, (list(keys),)) if keys else []


def _save(session: Session, batch: decide.Batch) -> None:
    """Write the batch's rows, all but the head of the log; what may be many new ones comes last."""
    if batch.moved_heads:
        session.update(relations.HEADS, decide.head_values(batch.moved_heads))
    for key in sorted(batch.lift):
        session.ask(sql.LIFT_SUPPRESSION, key)
    if batch.suppress:
        session.upsert(relations.SUPPRESSIONS, list(batch.suppress.values()))
    if batch.consents:
        session.upsert(relations.CONSENTS, list(batch.consents.values()))
    counts = decide.count_values(batch.counts)
    if counts:
        session.add(relations.COUNTERS, counts)
    for relation, rows in (
        (relations.EVENT_IDS, batch.event_ids),
        (relations.LATE_RUNS, batch.late_runs),
        (relations.CONTACT_KEYS, batch.keys),
        (relations.HEADS, decide.head_values(batch.new_heads)),
        (relations.EVENTS, batch.events),
    ):
        if rows:
            session.insert(relation, rows)


def _log_head(rows: list[Any]) -> LogHead:
    return LogHead(*rows[0])


def _heads(rows: list[Any]) -> dict[str, Head]:
    # SQLite keeps booleans as 0 and 1.
    return {r[0]: Head(r[0], r[1], r[2], r[3], bool(r[4]), r[5], r[6]) for r in rows}


def _leases(rows: list[Any]) -> list[LeaseRow]:
    return [LeaseRow((r[0], r[1]), r[2], r[3], max(0, r[4])) for r in rows]
