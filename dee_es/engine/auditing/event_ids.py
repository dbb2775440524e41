"""Ids of channel events of which the log knows nothing.

Whoever adds one keeps the event out that will come with it, an unsubscribe for example: it counts
as known, and is recorded nowhere.
"""

from __future__ import annotations

from collections.abc import Iterator

from dee_es.core import events as e
from dee_es.core.evidence.chunk_check import printable
from dee_es.engine.auditing.untold import Untold
from dee_es.ports import EventStore


class EventIds:
    """The ids that stand in the table, held against those that the log tells."""

    def __init__(self, store: EventStore, page: int) -> None:
        self._store = store
        self._page = page
        self._untold = Untold(self._held())

    def tell(self, event: e.Event) -> None:
        """The log has the event."""
        if isinstance(event, e.ChannelEventReceived):
            self._untold.tell(event.event_id)

    def miss_one(self) -> None:
        """An entry cannot be read."""
        self._untold.miss_one()

    def others(self) -> Iterator[str]:
        """Those that the log has not told, for people; none if it could not tell them all."""
        if self._untold.any:
            yield from (printable(each) for each in self._held() if each in self._untold)

    def _held(self) -> Iterator[str]:
        last = ""
        while page := self._store.event_id_page(last, self._page):
            last = page[-1]
            yield from page
