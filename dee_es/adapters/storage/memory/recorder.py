"""The events themselves: the eventsourcing library's recorder in memory, with our own insert."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

from eventsourcing.persistence import StoredEvent
from eventsourcing.popo import POPOApplicationRecorder

from dee_es.ports import StoredRow


class MemoryRecorder(POPOApplicationRecorder):
    """Keeps the log in a list; a row's position is its place in it, counted from 1."""

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
        return [self._row(place) for place in places]

    def log(self, after: int, limit: int) -> list[StoredRow]:
        """Rows of the whole log behind position `after`, in order."""
        first = max(after, 0)
        return [self._row(place) for place in range(first, min(first + limit, self.position))]

    def _row(self, place: int) -> StoredRow:
        event = self._stored_events[place]
        return StoredRow(
            place + 1,
            str(event.originator_id),
            event.originator_version,
            event.topic,
            event.state,
        )
