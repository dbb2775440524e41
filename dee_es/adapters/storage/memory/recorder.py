"""The events themselves: the eventsourcing library's recorder in memory, with our own insert."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, NoReturn

from eventsourcing.persistence import StoredEvent
from eventsourcing.popo import POPOApplicationRecorder

from dee_es.core.evidence import chain
from dee_es.ports import StoredRow, Tombstone


class MemoryRecorder(POPOApplicationRecorder):
    """Keeps the log in a list; a row's position is its place in it, counted from 1."""

    def __init__(self) -> None:
        super().__init__()
        self.stones: dict[int, Tombstone] = {}

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the one lock of the whole database; a thread may take it again inside."""
        with self._database_lock:
            yield

    @property
    def position(self) -> int:
        """Position of the last row, 0 for an empty log."""
        return len(self._stored_events)

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> NoReturn:
        """Refused: rows belong into the log only together with their stream's head."""
        raise NotImplementedError("append through EventStore.commit")

    def append(self, stored_events: Sequence[StoredEvent]) -> None:
        """Add rows whose stream versions the caller has checked against the heads."""
        self._update_table(stored_events)

    def wake(self) -> None:
        """Tell those who wait for events that there are some."""
        self._notify_listeners()

    def cut(self, position: int) -> None:
        """Forget all rows behind `position`, which were never committed."""
        for event in self._stored_events[position:]:
            index = self._stored_events_index[str(event.originator_id)]
            del index[event.originator_version]
            if not index:
                del self._stored_events_index[str(event.originator_id)]
        del self._stored_events[position:]

    def stream(self, stream_id: str, after: int, upto: int | None) -> list[StoredRow]:
        """The stream's rows with `after < version <= upto`, in order."""
        # The library's index makes an entry for each stream it is asked about, known or not.
        index = self._stored_events_index.get(stream_id)
        if not index:
            return []
        last = len(index) if upto is None else min(upto, len(index))
        places = (index[version] for version in range(max(after, 0) + 1, last + 1))
        return [self._row(place) for place in places if place + 1 not in self.stones]

    def log(self, after: int, limit: int) -> list[StoredRow]:
        """Rows of the whole log behind position `after`, in order."""
        places = range(max(after, 0), self.position)
        there = (place for place in places if place + 1 not in self.stones)
        return [self._row(place) for place in islice(there, max(limit, 0))]

    def holds(self, stone: Tombstone) -> bool:
        """Whether this very event is at its place."""
        if not 0 < stone.position <= self.position or stone.position in self.stones:
            return False
        row = self._row(stone.position - 1)
        own = chain.unseal(row.state, "entry").checksum
        return (row.stream_id, row.version, own) == (stone.stream_id, stone.version, stone.checksum)

    def bury(self, stone: Tombstone) -> None:
        """Keep the tombstone of a row, which nobody sees any more."""
        self.stones[stone.position] = stone

    def raise_up(self, stone: Tombstone) -> None:
        """The way back, where the transaction fails."""
        del self.stones[stone.position]

    def forget_buried(self, stones: Iterable[Tombstone]) -> None:
        """Let go of what the rows held, once their archive is committed."""
        for stone in stones:
            event = self._stored_events[stone.position - 1]
            self._stored_events[stone.position - 1] = StoredEvent(
                event.originator_id, event.originator_version, event.topic, b""
            )

    def _row(self, place: int) -> StoredRow:
        event = self._stored_events[place]
        return StoredRow(
            place + 1,
            str(event.originator_id),
            event.originator_version,
            event.topic,
            event.state,
        )
