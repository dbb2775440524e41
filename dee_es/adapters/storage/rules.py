"""Rules that every backend applies to what it has read under its lock: what may be appended, who
gets a lease, and which unit is over a limit. They stand in one place, so that the backends cannot
drift apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from dee_es.core.evidence import chain
from dee_es.core.ids import CounterKey
from dee_es.errors import ConcurrencyConflict, InvalidInput
from dee_es.ports import CounterUse, Head, Lease, LeaseRow, StreamAppend

NOBODY: Final = ""
"""Owner of a released lease, whose row stays so that epochs go on growing."""

LONGEST_LEASE_MS: Final = 60_000
"""No lease is taken for longer, in ms; one that seems to run longer was taken before the database's
clock was set back."""

CONTACT_SUBJECT: Final = "id:"
"""Begins the subject that stands for a contact's id; for these a guard sees consents too."""

# --- claims ---------------------------------------------------------------------------------------


def claimed(name: str) -> ConcurrencyConflict:
    """What to tell whoever wants a name that somebody else has claimed."""
    return ConcurrencyConflict(
        f"{name} is being rebuilt already, or verified, or runs are being archived; wait for that "
        "to end"
    )


# --- streams --------------------------------------------------------------------------------------


def moved(appends: Sequence[StreamAppend], heads: Mapping[str, Head]) -> str | None:
    """The first stream that does not end where what is appended was made for; a unit may append to
    one twice.

    The version alone does not tell: a standby that took over without the last commits, or a copy
    that was put back, has other events under numbers that were known before.
    """
    ahead: dict[str, tuple[int, bytes]] = {}
    for append in appends:
        end = ahead.get(append.stream_id)
        if end is None:
            head = heads.get(append.stream_id)
            end = (head.version, head.checksum) if head is not None else (0, chain.GENESIS)
        version, checksum = end
        events = append.events
        if append.expected_version != version:
            return append.stream_id
        if events:
            if chain.previous_of(events[0].state) != checksum:
                return append.stream_id
            end = (version + len(events), events[-1].checksum)
        ahead[append.stream_id] = end
    return None


# --- leases ---------------------------------------------------------------------------------------


def check_request(partition: tuple[int, int], owner: str) -> None:
    """Refuse a partition that has no slices, or whose slices are another one's too."""
    index, count = partition
    if not 0 <= index < count:
        raise InvalidInput("partition", f"{index} of {count}: give an index from 0 to count - 1")
    if owner == NOBODY:
        raise InvalidInput("owner", "empty, as for a released lease; give it a name")


def granted_epoch(rows: Sequence[LeaseRow], partition: tuple[int, int], owner: str) -> int | None:
    """The epoch of the lease that `owner` gets, None if it gets none; `rows` are all leases there
    ever were."""
    kept: int | None = None
    for row in rows:
        if row.expires_in_ms <= 0:
            continue
        if row.partition[1] != partition[1]:
            return None
        if row.partition == partition:
            if row.owner != owner:
                return None
            kept = row.epoch
    return max((row.epoch for row in rows), default=0) + 1 if kept is None else kept


def overtaken(rows: Sequence[LeaseRow], partition: tuple[int, int]) -> bool:
    """Whether holders of another count, whose leases ran out, are left to be shut out.

    A lease that ran out counts for its holder until it is taken, and nobody will take these.
    """
    return any(row.partition[1] != partition[1] and row.owner != NOBODY for row in rows)


def lost(lease: Lease) -> ConcurrencyConflict:
    """The error for work under a lease that somebody else has, or nobody."""
    index, count = lease.partition
    return ConcurrencyConflict(
        f"the lease of partition {index}/{count} is no longer held: acquire it again"
    )


# --- limits ---------------------------------------------------------------------------------------


def totals(uses: Sequence[CounterUse]) -> dict[CounterKey, int]:
    """What a unit adds to each counter; it may name one twice."""
    added: dict[CounterKey, int] = {}
    for use in uses:
        counter = (use.key, use.slot)
        added[counter] = added.get(counter, 0) + use.add
    return added


def over_limit(
    uses: Sequence[CounterUse],
    added: Mapping[CounterKey, int],
    stands_at: Callable[[CounterKey], int],
) -> str | None:
    """The key of the first counter that a unit with these uses, which add so much to each, would
    take beyond its limit."""
    for use in uses:
        counter = (use.key, use.slot)
        if use.limit is not None and stands_at(counter) + added[counter] > use.limit:
            return use.key
    return None
