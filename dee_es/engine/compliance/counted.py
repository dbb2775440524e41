"""The log read through once, every entry counted."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Final

from dee_es.core import events as e
from dee_es.core.compliance import (
    ContactFacts,
    Counting,
    Fact,
    RunFacts,
    gate_rule,
    request_kind,
)
from dee_es.engine.compliance.lookups import Lookups
from dee_es.engine.log.journal import Journal
from dee_es.errors import ConcurrencyConflict, IntegrityViolation
from dee_es.ports import EventStore, StoredRow

_PAGE: Final = 2000
_ARCHIVED: Final = "runs were archived while the log was read; report again"
OnCounted = Callable[[int], None]
"""Called with the position that has been reached."""


class Reader:
    """Feeds the log, up to position `through`, to a `Counting`."""

    def __init__(
        self,
        store: EventStore,
        journal: Journal,
        lookups: Lookups,
        counting: Counting,
        sections: Collection[str],
        through: int,
    ) -> None:
        self._store = store
        self._journal = journal
        self._lookups = lookups
        self._counting = counting
        self._through = through
        self._imported = 0
        self._windows = "windows" in sections
        self._contacts = not {"consent", "suppressions", "unsubscribes"}.isdisjoint(sections)

    def count(self, on_counted: OnCounted | None) -> None:
        """Count all entries; raises `IntegrityViolation` or `UnknownEventVersion` for one that
        cannot be read, and `ConcurrencyConflict` if some went into an archive meanwhile."""
        archived = self._store.archived()
        for rows in self._pages():
            page = self._journal.open_public(rows)
            for fact in self._facts(rows, page):
                self._counting.take(fact)
            if on_counted is not None:
                on_counted(rows[-1].position)
        if self._store.archived() != archived:
            # Of some runs the beginning was counted, and what came of it was not.
            raise ConcurrencyConflict(_ARCHIVED)
        self._counting.reach(self._through)

    def _pages(self) -> Iterator[list[StoredRow]]:
        position = 0
        while position < self._through:
            rows = self._store.read_log(position, _PAGE)
            rows = [row for row in rows if row.position <= self._through]
            if not rows:
                return
            position = rows[-1].position
            yield rows

    def _facts(self, rows: list[StoredRow], page: Sequence[e.RecordedEvent]) -> Iterator[Fact]:
        needs = self._counting.needs(page)
        runs = self._lookups.runs(needs.runs, page)
        if lost := needs.runs - runs.keys():
            gone = self._store.tombstones_of(sorted(lost))
            if damaged := lost - gone.keys():
                raise IntegrityViolation(
                    f"{min(damaged)} does not begin with its enrolment; run `dee audit verify`"
                )
            raise ConcurrencyConflict(_ARCHIVED)
        self._counting.know(runs)
        contacts: dict[str, ContactFacts] = {}
        if self._contacts:
            sends = (
                runs[each.stream_id].contact_id
                for each in page
                if isinstance(each.event, e.StepDispatched) and self._counting.counts(each)
            )
            contacts = self._lookups.contacts({*needs.contacts, *sends})
        if self._windows:
            noted = [row for row, each in zip(rows, page, strict=True) if self._windowed(each)]
            self._journal.preload(noted)
        for row, recorded in zip(rows, page, strict=True):
            if isinstance(recorded.event, e.LogImported):
                # Its entries follow; what another log says of their contact is not in this one.
                self._imported = recorded.position + recorded.event.entries
            if self._counting.tells(recorded):
                yield self._fact(row, recorded, runs, contacts)
            else:
                yield Fact(recorded, self._counting.counts(recorded))

    def _fact(
        self,
        row: StoredRow,
        recorded: e.RecordedEvent,
        runs: dict[str, RunFacts],
        contacts: dict[str, ContactFacts],
    ) -> Fact:
        event, counted = recorded.event, self._counting.counts(recorded)
        run = runs.get(recorded.stream_id)
        if not counted:
            return Fact(recorded, False, run)
        if isinstance(event, e.StepDispatched):
            windowed = self._windows and self._windowed(recorded)
            here = run is not None and recorded.position > self._imported
            return Fact(
                recorded,
                True,
                run,
                contacts.get(run.contact_id) if run is not None and here else None,
                self._lookups.policy(event.reads.get("policy")),
                self._lookups.in_window(row, recorded) if windowed else None,
            )
        if isinstance(event, e.RunPaused) and gate_rule(event) is not None:
            return Fact(recorded, True, run, step_id=self._lookups.step_of(recorded))
        if self._contacts and request_kind(recorded) is not None:
            contact = contacts[str(getattr(event, "contact_id", ""))]
            earlier = self._lookups.earlier_sends(recorded, contact)
            return Fact(recorded, True, run, contact, earlier=earlier)
        return Fact(recorded, True, run)

    def _windowed(self, recorded: e.RecordedEvent) -> bool:
        event = recorded.event
        if not isinstance(event, e.StepDispatched) or not self._counting.counts(recorded):
            return False
        return "zone" in event.reads
