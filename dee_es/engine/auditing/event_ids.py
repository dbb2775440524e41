"""Ids of channel events of which the log knows nothing.

Whoever adds one keeps the event out that will come with it, an unsubscribe for example: it counts
as known, and is recorded nowhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from dee_es.core import events as e
from dee_es.core.evidence.chunk_check import printable
from dee_es.ports import EventStore


def digest(value: object) -> bytes:
    """Stands for what a column holds, whatever that is: no two values share one."""
    return hashlib.blake2b(repr(value).encode(), digest_size=16).digest()


class EventIds:
    """Those that stood in the table when it was looked at, until the log tells them.

    What is taken in afterwards is behind that look. Of each id a digest is kept, in some 100 bytes.
    """

    def __init__(self, store: EventStore, page: int) -> None:
        self._store = store
        self._page = page
        self._untold = {digest(each) for each in self._held()}
        self._all_told = True

    def tell(self, event: e.Event) -> None:
        """The log has the event."""
        if isinstance(event, e.ChannelEventReceived):
            self._untold.discard(digest(event.event_id))

    def miss_one(self) -> None:
        """An entry cannot be read, so that nobody knows which id it tells."""
        self._all_told = False

    def others(self) -> Iterator[str]:
        """Those that the log has not told, for people; none if it could not tell them all."""
        if self._untold and self._all_told:
            yield from (printable(each) for each in self._held() if digest(each) in self._untold)

    def _held(self) -> Iterator[str]:
        last = ""
        while page := self._store.event_id_page(last, self._page):
            last = page[-1]
            yield from page
