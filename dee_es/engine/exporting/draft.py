"""An export in the making: its records, one after the other, and what was counted on the way."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, Final

from msgspec import Struct

from dee_es.core.clock import TimeScale
from dee_es.core.evidence.multiproof import Ranges
from dee_es.engine.exporting.formats import FORMAT
from dee_es.engine.exporting.proofs import Proving, Signed
from dee_es.engine.exporting.records import Records, iso
from dee_es.engine.exporting.scope import Scope, Selection
from dee_es.engine.log.journal import Journal
from dee_es.ports import EventStore, StoredRow

_MOST_PROBLEMS: Final = 20
OnProgress = Callable[[int, int], object]
"""Told how many entries of the log were read, and how many there are to read."""


class Head(Struct, frozen=True):
    """What an export says of itself; none of it but the clock can be proved from the file.

    `made_at` is the time of the log's clock, in UTC.
    """

    scope: Scope
    made_tick: int
    made_at: datetime
    actor: str | None
    reason: str | None
    personal: bool
    scale: TimeScale
    signed: Signed

    def record(self) -> dict[str, Any]:
        """As the first record of a file."""
        scope = self.scope
        return {
            "record": "export",
            "format": FORMAT,
            "scope": {
                "runId": scope.run_id,
                "contactId": scope.contact_id,
                "fromTick": scope.from_tick,
                "beforeTick": scope.before_tick,
                "since": self.time(scope.from_tick),
                "until": self.time(scope.before_tick),
                # Streams may begin in the middle.
                "period": scope.bounded,
            },
            "through": scope.through,
            "madeTick": self.made_tick,
            "madeAt": iso(self.made_at),
            "by": self.actor,
            "reason": self.reason,
            "personalData": self.personal,
            "origin": self.signed.origin,
            "key": None if self.signed.key is None else str(self.signed.key),
        }

    def time(self, tick: int | None) -> str | None:
        """The time of a tick; None for none, or for one that no calendar has."""
        if tick is None or not self.scale.dated(tick):
            return None
        return iso(self.scale.time(tick))


class Draft:
    """Makes the records of one file; each file of a bundle has a draft of its own."""

    def __init__(
        self, store: EventStore, journal: Journal, selection: Selection, head: Head
    ) -> None:
        self._store = store
        self._selection = selection
        self.head = head
        self.records = Records(store, journal, head.scale, personal=head.personal)
        self.entries = 0
        self.covered = 0
        self.problems: tuple[str, ...] = ()

    def table(self, on_progress: OnProgress | None) -> Iterator[dict[str, Any]]:
        """The entries as rows of a table, and nothing else."""
        total = self._reading
        for page in self._pages(lambda done: _tell(on_progress, done, total)):
            yield from self.records.table(page)
        self.problems = tuple(self.records.problems[:_MOST_PROBLEMS])

    def rows(self, most: int) -> list[StoredRow] | None:
        """The entries as stored; None if there are more than so many."""
        found: list[StoredRow] = []
        for page in self._pages(lambda _: None):
            found += page
            if len(found) > most:
                return None
        deque(self.records.table(found), maxlen=0)
        # What it says of being signed has to be so.
        proof = Proving(self._store, self.head.signed, Ranges())
        deque(proof.records(lambda _: None), maxlen=0)
        self.problems = tuple([*self.records.problems, *proof.problems][:_MOST_PROBLEMS])
        return found

    def all(self, on_progress: OnProgress | None) -> Iterator[dict[str, Any]]:
        """All records: head, context, entries, proof, checkpoints, end."""
        scope, signed = self.head.scope, self.head.signed
        proving = 0 if signed.newest is None else min(signed.newest.size, scope.through)
        read, total = self._reading, self._reading + proving
        yield self.head.record()
        context = self._selection.context(scope)
        yield from self.records.of(context, "context")
        numbers = [row.position - 1 for row in context]
        # Of the whole log they come in order, and there may be millions of them.
        chosen = Ranges(numbers if scope.of_the_log else ())
        for page in self._pages(lambda done: _tell(on_progress, done, total)):
            for row in page if scope.of_the_log else ():
                chosen.add(row.position - 1)
            numbers += [] if scope.of_the_log else [row.position - 1 for row in page]
            yield from self.records.of(page, "entry")
        proof = Proving(
            self._store, signed, chosen if scope.of_the_log else Ranges(sorted(numbers))
        )
        yield from proof.records(lambda done: _tell(on_progress, read + done, total))
        self.problems = tuple([*self.records.problems, *proof.problems][:_MOST_PROBLEMS])
        yield {
            "record": "end",
            "entries": self.entries,
            "context": len(context),
            "covered": self.covered,
            "problems": list(self.problems),
        }

    @property
    def _reading(self) -> int:
        """How much of the log is read to find the entries."""
        return self.head.scope.through if self.head.scope.of_the_log else 0

    def _pages(self, on_read: Callable[[int], None]) -> Iterator[list[StoredRow]]:
        newest = self.head.signed.newest
        signed = 0 if newest is None else newest.size
        for page in self._selection.entries(self.head.scope, on_read):
            self.entries += len(page)
            self.covered += sum(row.position <= signed for row in page)
            yield page


def _tell(on_progress: OnProgress | None, done: int, total: int) -> None:
    if on_progress is not None:
        on_progress(done, total)
