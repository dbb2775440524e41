"""Keys of contacts of which the log knows nothing.

Whoever adds one chooses what the data of a contact to come is encrypted under: a key that he has,
or one that outlives its erasure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from dee_es.core import events as e
from dee_es.core.evidence.chunk_check import printable
from dee_es.core.ids import contact_stream, run_id
from dee_es.engine.auditing.untold import Untold
from dee_es.engine.auditing.verdicts import IndexDifference
from dee_es.ports import EventStore

_HEADS: Final = 10_000
"""Heads that are asked for together."""


class ExtraKeys:
    """The keys that stand in the table, held against the contacts that the log tells of. Of
    archived runs it tells no contact, but their ids are computed, and their heads stay.
    """

    def __init__(self, store: EventStore, page: int) -> None:
        self._store = store
        self._page = page
        self._untold = Untold(who for held in self._held() for who, _ in held)

    def tell(self, stream: str, event: e.Event) -> None:
        """The log has the event in the stream."""
        if isinstance(event, e.Start):
            self._untold.tell(event.contact_id)
        elif stream.startswith(contact_stream("")):
            self._untold.tell(stream.removeprefix(contact_stream("")))

    def miss_one(self) -> None:
        """An entry cannot be read."""
        self._untold.miss_one()

    def others(self) -> Iterator[IndexDifference]:
        """Those whose contacts the log has not told of; none if it could not tell them all."""
        if not self._untold.any:
            return
        plans = self._plans()
        for held in self._held():
            left = [(who, key) for who, key in held if who in self._untold]
            archived = self._archived([who for who, _ in left], plans)
            for who, key in left:
                if who not in archived:
                    stream = printable(contact_stream(str(who)))
                    told = key.hex() if type(key) is bytes else printable(key)
                    yield IndexDifference(stream, "key of the contact", "none", told)

    def _archived(self, contacts: Sequence[str], plans: Sequence[str]) -> set[str]:
        """Those that have a run all the same."""
        found: set[str] = set()
        ids = [
            (run_id(plan, who, 1), who) for who in contacts if type(who) is str for plan in plans
        ]
        for first in range(0, len(ids), _HEADS):
            some = dict(ids[first : first + _HEADS])
            found.update(some[each] for each in self._store.heads(list(some)))
        return found

    def _plans(self) -> list[str]:
        found: list[str] = []
        while streams := self._store.stream_ids("plan:", f"plan:{found[-1]}" if found else ""):
            found += [stream.removeprefix("plan:") for stream in streams]
        return found

    def _held(self) -> Iterator[list[tuple[str, bytes]]]:
        last = ""
        while held := self._store.contact_key_page(last, self._page):
            last = held[-1][0]
            yield held
