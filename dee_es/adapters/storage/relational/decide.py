"""What a commit does, decided in memory under the append lock: which units still fit, and all rows
that follow from them. No SQL here, so that every backend decides alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from dee_es.adapters.storage.relational.session import Values
from dee_es.adapters.storage.rules import CONTACT_SUBJECT, moved, over_limit, totals
from dee_es.core.events import RecordedEvent
from dee_es.core.ids import CounterKey, is_run
from dee_es.core.registry import CREATING
from dee_es.ports import (
    Committed,
    Conflict,
    Consent,
    Head,
    LogHead,
    StreamAppend,
    Suppression,
    SuppressionGuard,
    Unit,
)


class Known(msgspec.Struct):
    """What the database says about everything the units touch, read under the append lock.

    `changed` holds, by subject, the epoch of each suppression (by level, scope and contact) and
    consent (by no level, channel and contact) that a guard may have missed. `counts` holds what
    limited counters stand at, where that is not 0.
    """

    head: LogHead
    heads: dict[str, Head]
    keys: dict[str, bytes]
    event_ids: set[str]
    changed: dict[str, dict[tuple[str | None, str, str], int]]
    counts: dict[CounterKey, int]


class Batch(msgspec.Struct):
    """The outcome for each unit, and what has to be written for the accepted ones."""

    outcomes: list[Committed | Conflict] = msgspec.field(default_factory=list)
    recorded: list[RecordedEvent] = msgspec.field(default_factory=list)
    events: list[Values] = msgspec.field(default_factory=list)
    new_heads: dict[str, Head] = msgspec.field(default_factory=dict)
    moved_heads: dict[str, Head] = msgspec.field(default_factory=dict)
    keys: list[Values] = msgspec.field(default_factory=list)
    event_ids: list[Values] = msgspec.field(default_factory=list)
    late_runs: list[Values] = msgspec.field(default_factory=list)
    suppress: dict[tuple[str, str, str, str], Values] = msgspec.field(default_factory=dict)
    lift: set[tuple[str, str, str, str]] = msgspec.field(default_factory=set)
    consents: dict[tuple[str, str], Values] = msgspec.field(default_factory=dict)
    counts: dict[CounterKey, int] = msgspec.field(default_factory=dict)


class Decider:
    """Takes units in order; a later one sees the effects of those accepted before it."""

    def __init__(self, known: Known) -> None:
        self._known = known
        self._existing = frozenset(known.heads)
        self._position = known.head.position
        self._ordinal = known.head.ordinal
        self._tick = known.head.tick
        self._epoch = known.head.suppression_epoch
        self.batch = Batch()

    @property
    def head(self) -> LogHead:
        """The end of the log after the units taken so far."""
        return LogHead(self._position, self._ordinal, self._tick, self._epoch)

    def take(self, unit: Unit) -> None:
        """Accept the unit and note its rows, or note why it was refused."""
        added = totals(unit.counters) if unit.counters else {}
        conflict = self._conflict(unit, added)
        if conflict is not None:
            self.batch.outcomes.append(conflict)
            return
        last, ordinal = 0, self._ordinal
        for append in unit.appends:
            if append.events:
                self._append(append)
                last = self._position
        self._index(unit, added)
        created = self._ordinal if self._ordinal != ordinal else 0
        self.batch.outcomes.append(Committed(last, created))

    def _conflict(self, unit: Unit, added: Mapping[CounterKey, int]) -> Conflict | None:
        stream_id = moved(unit.appends, self._known.heads)
        if stream_id is not None:
            return Conflict("version", stream_id)
        if unit.min_tick is not None and self._tick > unit.min_tick:
            return Conflict("clock", unit.appends[0].stream_id if unit.appends else "")
        contact_id = self._key_differs(unit.contact_keys)
        if contact_id is not None:
            return Conflict("key", contact_id)
        if unit.guard is not None:
            subject = self._changed_since(unit.guard)
            if subject is not None:
                return Conflict("suppression", subject)
        for event_id in unit.event_ids:
            if event_id in self._known.event_ids:
                return Conflict("event_id", event_id)
        full = over_limit(unit.counters, added, self._stands_at) if added else None
        return Conflict("limit", full) if full is not None else None

    def _key_differs(self, pairs: Sequence[tuple[str, bytes]]) -> str | None:
        """The first contact that has another key, or is given two at once."""
        given: dict[str, bytes] = {}
        for contact_id, key_id in pairs:
            known = self._known.keys.get(contact_id, key_id)
            if known != key_id or given.setdefault(contact_id, key_id) != key_id:
                return contact_id
        return None

    def _changed_since(self, guard: SuppressionGuard) -> str | None:
        if guard.epoch >= self._epoch:
            return None
        for subject in guard.subjects:
            epochs = self._known.changed.get(subject, {}).values()
            if any(epoch > guard.epoch for epoch in epochs):
                return subject
        return None

    def _stands_at(self, counter: CounterKey) -> int:
        return self._known.counts.get(counter, 0) + self.batch.counts.get(counter, 0)

    def _append(self, append: StreamAppend) -> None:
        batch, stream_id = self.batch, append.stream_id
        known = self._known.heads.get(stream_id)
        run_ordinal = known.ordinal if known is not None else 0
        version = append.expected_version
        for sealed in append.events:
            version += 1
            if sealed.version != version or sealed.stream_id != stream_id:
                raise ValueError(f"{stream_id}: event sealed for version {sealed.version}")
            self._position += 1
            ordinal = 0
            tick = sealed.meta.tick
            if version == 1 and sealed.name in CREATING and is_run(stream_id):
                self._ordinal += 1
                ordinal = run_ordinal = self._ordinal
                if tick < self._tick:
                    batch.late_runs.append((ordinal,))
            if tick > self._tick:
                self._tick = tick
            batch.recorded.append(sealed.recorded(self._position, ordinal))
            batch.events.append((self._position, stream_id, version, sealed.name, sealed.state))
        head = Head(
            stream_id,
            version,
            append.events[-1].checksum,
            append.due_tick,
            append.ended,
            append.slice,
            run_ordinal,
        )
        self._known.heads[stream_id] = head
        (batch.moved_heads if stream_id in self._existing else batch.new_heads)[stream_id] = head

    def _index(self, unit: Unit, added: Mapping[CounterKey, int]) -> None:
        known, batch = self._known, self.batch
        for contact_id, key_id in unit.contact_keys:
            if contact_id not in known.keys:
                known.keys[contact_id] = key_id
                batch.keys.append((contact_id, key_id))
        for event_id in unit.event_ids:
            if event_id not in known.event_ids:
                known.event_ids.add(event_id)
                batch.event_ids.append((event_id,))
        if unit.suppress or unit.unsuppress or unit.consents:
            self._epoch += 1
            self._suppress(unit.suppress, unit.unsuppress)
            self._consent(unit.consents)
        for counter, more in added.items():
            batch.counts[counter] = batch.counts.get(counter, 0) + more

    def _suppress(self, added: Sequence[Suppression], lifted: Sequence[Suppression]) -> None:
        for gone in lifted:
            key = (gone.subject, gone.level, gone.scope, gone.contact_id)
            self.batch.suppress.pop(key, None)
            self.batch.lift.add(key)
            self._known.changed.get(gone.subject, {}).pop(key[1:], None)
        for new in added:
            key = (new.subject, new.level, new.scope, new.contact_id)
            self.batch.lift.discard(key)
            self.batch.suppress[key] = (*key, self._epoch)
            self._known.changed.setdefault(new.subject, {})[key[1:]] = self._epoch

    def _consent(self, consents: Sequence[Consent]) -> None:
        for new in consents:
            row = (*msgspec.structs.astuple(new), self._epoch)
            self.batch.consents[new.contact_id, new.channel] = row
            subject = CONTACT_SUBJECT + new.contact_id
            self._known.changed.setdefault(subject, {})[None, new.channel, new.contact_id] = (
                self._epoch
            )


def stream_ids(units: Sequence[Unit]) -> list[str]:
    """All streams the units append to, each once."""
    return list({append.stream_id: None for unit in units for append in unit.appends})


def contact_ids(units: Sequence[Unit]) -> list[str]:
    """All contacts whose keys the units name, each once."""
    return list({contact: None for unit in units for contact, _ in unit.contact_keys})


def event_ids(units: Sequence[Unit]) -> list[str]:
    """All ids of channel events the units bring, each once."""
    return list({event_id: None for unit in units for event_id in unit.event_ids})


def guarded(units: Sequence[Unit], epoch: int) -> tuple[list[str], int]:
    """Subjects of the guards that are older than `epoch`, and the oldest of these guards."""
    guards = [unit.guard for unit in units if unit.guard and unit.guard.epoch < epoch]
    subjects = {subject: None for guard in guards for subject in guard.subjects}
    return list(subjects), min((guard.epoch for guard in guards), default=epoch)


def contacts_of(subjects: Sequence[str]) -> list[str]:
    """The contacts among the subjects, whose consents count for a guard."""
    return [s.removeprefix(CONTACT_SUBJECT) for s in subjects if s.startswith(CONTACT_SUBJECT)]


def limited(units: Sequence[Unit]) -> tuple[list[int], list[str]]:
    """Slots and keys, each once, of the counters that may refuse a unit."""
    uses = [use for unit in units for use in unit.counters if use.limit is not None]
    return list({use.slot: None for use in uses}), list({use.key: None for use in uses})


def is_small(units: Sequence[Unit], most_events: int, most_bytes: int) -> bool:
    """Whether the units hold no more events, and no more bytes of state, than these."""
    if len(units) > most_events:
        return False
    sizes = [len(e.state) for unit in units for append in unit.appends for e in append.events]
    return len(sizes) <= most_events and sum(sizes) <= most_bytes


def head_values(heads: Mapping[str, Head]) -> list[Values]:
    """Heads as rows."""
    return [msgspec.structs.astuple(head) for head in heads.values()]


def count_values(counts: Mapping[CounterKey, int]) -> list[Values]:
    """What is added to counters, as rows in key order; what adds nothing leaves no row."""
    return sorted((slot, key, added) for (key, slot), added in counts.items() if added)
