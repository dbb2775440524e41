"""Deciding and applying the units of one commit."""

from __future__ import annotations

from functools import partial

from eventsourcing.persistence import StoredEvent

from dee_es.adapters.storage.memory.database import (
    ConsentRow,
    Journal,
    MemoryDatabase,
    SuppressionRow,
)
from dee_es.adapters.storage.rules import CONTACT_SUBJECT, moved, over_limit, totals
from dee_es.core.events import RecordedEvent
from dee_es.core.ids import is_run
from dee_es.core.registry import CREATING
from dee_es.ports import (
    Committed,
    Conflict,
    Consent,
    Head,
    StreamAppend,
    Suppression,
    SuppressionGuard,
    Unit,
)


class Commit:
    """One transaction's appends; `appended` grows with each unit that is accepted."""

    def __init__(self, database: MemoryDatabase, journal: Journal) -> None:
        self._database = database
        self._journal = journal
        self.appended: list[RecordedEvent] = []

    def take(self, unit: Unit) -> Committed | Conflict:
        """Apply the unit whole, or say what had moved and leave no trace."""
        check_shape(unit)
        conflict = self._conflict(unit)
        if conflict is not None:
            return conflict
        ordinal = self._database.ordinal
        for append in unit.appends:
            self._append(append)
        self._index(unit)
        ticks = [event.meta.tick for a in unit.appends for event in a.events]
        database = self._database
        changed = bool(unit.suppress or unit.unsuppress or unit.consents)
        database.put_counters(
            self._journal,
            database.ordinal,
            max([database.tick, *ticks]),
            database.suppression_epoch + changed,
        )
        created = database.ordinal if database.ordinal != ordinal else 0
        return Committed(database.recorder.position if ticks else 0, created)

    def _conflict(self, unit: Unit) -> Conflict | None:
        """What refuses the unit, looked for in the order in which `Conflict` lists the kinds."""
        database = self._database
        stream_id = moved(unit.appends, database.heads)
        if stream_id is not None:
            return Conflict("version", stream_id)
        if unit.min_tick is not None and database.tick > unit.min_tick:
            return Conflict("clock", unit.appends[0].stream_id if unit.appends else "")
        return self._index_conflict(unit)

    def _index_conflict(self, unit: Unit) -> Conflict | None:
        database = self._database
        keys: dict[str, bytes] = {}
        for contact_id, key_id in unit.contact_keys:
            known = keys.setdefault(contact_id, database.contact_keys.get(contact_id, key_id))
            if known != key_id:
                return Conflict("key", contact_id)
        if unit.guard is not None:
            subject = self._changed_since(unit.guard)
            if subject is not None:
                return Conflict("suppression", subject)
        for event_id in unit.event_ids:
            if event_id in database.event_ids:
                return Conflict("event_id", event_id)
        full = over_limit(
            unit.counters, totals(unit.counters), lambda counter: database.counts.get(counter, 0)
        )
        return Conflict("limit", full) if full is not None else None

    def _changed_since(self, guard: SuppressionGuard) -> str | None:
        """The first subject about which the decision may no longer be right."""
        database = self._database
        for subject in guard.subjects:
            epochs = [row.epoch for row in database.suppressions.get(subject, {}).values()]
            if subject.startswith(CONTACT_SUBJECT):
                consents = database.consents.get(subject.removeprefix(CONTACT_SUBJECT), {})
                epochs += [row.epoch for row in consents.values()]
            if any(epoch > guard.epoch for epoch in epochs):
                return subject
        return None

    def _append(self, append: StreamAppend) -> None:
        if not append.events:
            # What a head says follows from the stream's events, so nothing can have changed.
            return
        database = self._database
        old = database.heads.get(append.stream_id)
        before = database.recorder.position
        self._journal.on_undo(partial(database.recorder.cut, before))
        database.recorder.append(
            [StoredEvent(e.stream_id, e.version, e.name, e.state) for e in append.events]
        )
        ordinal = old.ordinal if old is not None else self._next_ordinal(append)
        for place, event in enumerate(append.events, before + 1):
            first = event.version == 1
            self.appended.append(event.recorded(place, ordinal if first else 0))
        head = Head(
            append.stream_id,
            append.expected_version + len(append.events),
            append.events[-1].checksum,
            append.due_tick,
            append.ended,
            append.slice,
            ordinal,
        )
        database.put_head(self._journal, head)

    def _next_ordinal(self, append: StreamAppend) -> int:
        if not is_run(append.stream_id) or append.events[0].name not in CREATING:
            return 0
        database = self._database
        ordinal = database.ordinal + 1
        database.put_counters(self._journal, ordinal, database.tick, database.suppression_epoch)
        return ordinal

    def _index(self, unit: Unit) -> None:
        database, journal = self._database, self._journal
        for contact_id, key_id in unit.contact_keys:
            if contact_id not in database.contact_keys:
                journal.put(database.contact_keys, contact_id, key_id)
        for event_id in unit.event_ids:
            journal.put(database.event_ids, event_id, True)
        for row in unit.unsuppress:
            self._unsuppress(row)
        for row in unit.suppress:
            self._suppress(row)
        for consent in unit.consents:
            self._consent(consent)
        for counter, added in totals(unit.counters).items():
            if added:
                journal.put(database.counts, counter, database.counts.get(counter, 0) + added)

    def _consent(self, consent: Consent) -> None:
        # As below: a new inner map each time.
        database = self._database
        rows = dict(database.consents.get(consent.contact_id, {}))
        rows[consent.channel] = ConsentRow(consent, database.suppression_epoch + 1)
        self._journal.put(database.consents, consent.contact_id, rows)

    def _suppress(self, row: Suppression) -> None:
        # A new inner map each time, so that undoing is putting the old one back.
        database = self._database
        rows = dict(database.suppressions.get(row.subject, {}))
        rows[(row.level, row.scope, row.contact_id)] = SuppressionRow(
            row, database.suppression_epoch + 1
        )
        self._journal.put(database.suppressions, row.subject, rows)

    def _unsuppress(self, row: Suppression) -> None:
        rows = dict(self._database.suppressions.get(row.subject, {}))
        rows.pop((row.level, row.scope, row.contact_id), None)
        self._journal.put(self._database.suppressions, row.subject, rows)


def check_shape(unit: Unit) -> None:
    """Refuse a unit whose events are not numbered on from the expected version: a caller's bug."""
    for append in unit.appends:
        for version, event in enumerate(append.events, append.expected_version + 1):
            if (event.stream_id, event.version) != (append.stream_id, version):
                raise ValueError(
                    f"{append.stream_id}: expected its event {version}, "
                    f"got event {event.version} of {event.stream_id}"
                )
