"""Everything the memory backend holds, behind one lock, with an undo log for its transactions."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple, TypeVar

from dee_es.adapters.storage.memory.recorder import MemoryRecorder
from dee_es.core.ids import CounterKey
from dee_es.core.projection import CountKey, Key
from dee_es.errors import StoreUnavailable
from dee_es.ports import (
    BuildKey,
    BuildRow,
    Consent,
    Head,
    ParkedRow,
    RebuildRow,
    Suppression,
)

KeyT = TypeVar("KeyT")
ValueT = TypeVar("ValueT")


class HeldLease(NamedTuple):
    """Who holds a partition (`NOBODY` after a release), and until when, in ms since 1970 UTC."""

    owner: str
    epoch: int
    expires_ms: int


class SuppressionRow(NamedTuple):
    """A suppression and the epoch of the change that brought it."""

    suppression: Suppression
    epoch: int


class ConsentRow(NamedTuple):
    """A consent and the epoch of the change that brought it."""

    consent: Consent
    epoch: int


class Journal:
    """The way back out of a transaction: one small step for each change, none for the rest."""

    def __init__(self) -> None:
        self._steps: list[Callable[[], object]] = []

    def on_undo(self, step: Callable[[], object]) -> None:
        """Take this step, last one first, if the transaction fails."""
        self._steps.append(step)

    def put(self, table: MutableMapping[KeyT, ValueT], key: KeyT, value: ValueT) -> None:
        """Set an entry."""
        if key in table:
            old = table[key]
            self._steps.append(lambda: table.__setitem__(key, old))
        else:
            self._steps.append(lambda: table.__delitem__(key))
        table[key] = value

    def drop(self, table: MutableMapping[KeyT, ValueT], key: KeyT) -> None:
        """Take an entry out, if it is there."""
        if key in table:
            old = table.pop(key)
            self._steps.append(lambda: table.__setitem__(key, old))

    def undo(self) -> None:
        """Put everything back as it was."""
        while self._steps:
            self._steps.pop()()


class ViewTable:
    """The rows of one projection table, and the counts beside them."""

    def __init__(self) -> None:
        self.rows: dict[Key, Any] = {}
        self.counts: dict[CountKey, int] = {}


class DueIndex:
    """Runs that want to act, in the order in which they are served: due tick, then id."""

    def __init__(self) -> None:
        self.entries: list[tuple[int, str]] = []

    def replace(self, old: Head | None, new: Head | None) -> None:
        """Take the entry of `old` out and that of `new` in, where they have one."""
        before, after = _due_entry(old), _due_entry(new)
        if before == after:
            return
        if before is not None:
            del self.entries[bisect_left(self.entries, before)]
        if after is not None:
            insort(self.entries, after)

    def behind(self, head: Head | None) -> list[tuple[int, str]]:
        """The entries behind the place of a head, which need not be there any more; all if None."""
        place = _due_entry(head)
        return self.entries if place is None else self.entries[bisect_right(self.entries, place) :]


def _due_entry(head: Head | None) -> tuple[int, str] | None:
    if head is None or head.due_tick is None:
        return None
    return head.due_tick, head.stream_id


class KeptRequest(NamedTuple):
    """A request that may be repeated, and until when its attempt and it itself count, in ms."""

    digest: bytes
    attempt: str
    attempt_until: int
    known_until: int
    answer: bytes | None = None


class MemoryDatabase:
    """The tables. Whoever touches them is inside `reading()` or `writing()`."""

    def __init__(self) -> None:
        self.recorder = MemoryRecorder()
        self.heads: dict[str, Head] = {}
        self.due = DueIndex()
        self.ordinal = 0
        self.tick = 0
        self.suppression_epoch = 0
        self.contact_keys: dict[str, bytes] = {}
        self.suppressions: dict[str, dict[tuple[str, str, str], SuppressionRow]] = {}
        self.consents: dict[str, dict[str, ConsentRow]] = {}
        self.counts: dict[CounterKey, int] = {}
        self.event_ids: dict[str, Literal[True]] = {}
        self.leases: dict[tuple[int, int], HeldLease] = {}
        self.requests: dict[str, KeptRequest] = {}
        self.views: dict[str, ViewTable] = {}
        self.builds: dict[BuildKey, BuildRow] = {}
        self.parked: dict[tuple[BuildKey, str], ParkedRow] = {}
        self.rebuilds: dict[BuildKey, RebuildRow] = {}
        self.claimed: set[str] = set()
        self._sorted_ids: list[str] | None = None
        self._open = True
        self._in_transaction = False

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Hold the lock, so that all reads inside are of one state."""
        with self.recorder.locked():
            if not self._open:
                raise StoreUnavailable("the memory store was closed; open another one")
            yield

    @contextmanager
    def writing(self) -> Iterator[Journal]:
        """Hold the lock for changes; whatever the journal knows is undone if the body raises."""
        with self.reading():
            if self._in_transaction:
                raise RuntimeError("a transaction of this thread is still open")
            self._in_transaction = True
            journal = Journal()
            try:
                yield journal
            except BaseException:
                journal.undo()
                raise
            finally:
                self._in_transaction = False

    def close(self) -> None:
        """Refuse all further use."""
        with self.recorder.locked():
            self._open = False

    def put_head(self, journal: Journal, head: Head) -> None:
        """Set a stream's head, and keep the order of due runs."""
        old = self.heads.get(head.stream_id)
        if old is None:
            self._forget_sorted_ids()
            journal.on_undo(self._forget_sorted_ids)
        journal.on_undo(lambda: self.due.replace(head, old))
        self.due.replace(old, head)
        journal.put(self.heads, head.stream_id, head)

    def put_counters(self, journal: Journal, ordinal: int, tick: int, epoch: int) -> None:
        """Set the last ordinal, the highest tick and the suppression epoch."""
        old = (self.ordinal, self.tick, self.suppression_epoch)
        journal.on_undo(lambda: self._set_counters(*old))
        self._set_counters(ordinal, tick, epoch)

    def _set_counters(self, ordinal: int, tick: int, epoch: int) -> None:
        self.ordinal, self.tick, self.suppression_epoch = ordinal, tick, epoch

    def sorted_ids(self) -> list[str]:
        """All stream ids in order; sorted again only after streams have come."""
        if self._sorted_ids is None:
            self._sorted_ids = sorted(self.heads)
        return self._sorted_ids

    def _forget_sorted_ids(self) -> None:
        self._sorted_ids = None
