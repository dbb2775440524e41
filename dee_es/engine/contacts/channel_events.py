"""Channel events: what happened to messages and calls, taken in one by one or many at a time.

Each event is one unit of commit: it is appended to its contact's stream and to the runs it concerns
or to none of them. The units of a batch share a transaction. They are decided in order, each on
what those before it leave behind, so that the events of one contact apply in the order in which
they were given; if one of them is refused by the store, so are those that were built on it.

A run that cannot be read keeps out what its contact is told of, except for what puts the contact on
the suppression list: nobody is contacted for longer because an entry was changed, or is of newer
code. That run is not told then; the gate closes its sends all the same.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Final, Literal, NamedTuple

from msgspec import Struct, field

from dee_es.core import commands as c
from dee_es.core import contact_state
from dee_es.core import events as e
from dee_es.core.contact_state import ContactState
from dee_es.core.evidence.chain import GENESIS
from dee_es.core.ids import contact_stream
from dee_es.core.views import RunFilter, RunRow, RunStatus
from dee_es.engine.contacts.identity import Identities
from dee_es.engine.contacts.index import listed_by
from dee_es.engine.contacts.latecomers import Latecomers, Taken
from dee_es.engine.contacts.received import Received
from dee_es.engine.log.journal import checksum_of
from dee_es.engine.log.settling import ATTEMPTS, in_parts, reused
from dee_es.engine.queries import Queries
from dee_es.engine.run_cache import LoadedRun
from dee_es.engine.transact import Runs
from dee_es.errors import ConcurrencyConflict, DeeError, InvalidInput, RunNotFound, StoreUnavailable
from dee_es.ports import Committed, Conflict, KeyStore, StreamAppend, Suppression, Unit

_log: Final = logging.getLogger(__name__)
Meta = Callable[[], e.Meta]
Outcome = Literal["accepted", "known"] | DeeError
"""What became of an event: taken in, known by its id from before, or why it cannot be used."""


class _Stream(NamedTuple):
    """The end of a contact's own stream; `state` is folded only for events that suppress."""

    version: int
    checksum: bytes
    state: ContactState | None


class _Decided(NamedTuple):
    """An event's place in its batch, what to commit for it, and its runs afterwards."""

    place: int
    unit: Unit
    after: list[LoadedRun]


class _Working(Struct):
    """Runs and contacts as they stand after the events of a batch that were decided so far; and
    why other runs cannot be read."""

    runs: dict[str, LoadedRun] = field(default_factory=dict)
    unread: dict[str, DeeError] = field(default_factory=dict)
    rows: dict[str, list[RunRow]] = field(default_factory=dict)
    streams: dict[str, _Stream] = field(default_factory=dict)
    keys: dict[str, bytes] = field(default_factory=dict)


class ChannelEvents:
    """Takes channel events into the log."""

    def __init__(
        self, runs: Runs, queries: Queries, identities: Identities, keys: KeyStore
    ) -> None:
        self._runs = runs
        self._queries = queries
        self._identities = identities
        self._keys = keys
        self._store = runs.store
        self._latecomers = Latecomers(runs, queries)

    def ingest(self, events: Sequence[Received], meta: Meta) -> list[Outcome]:
        """Take in a batch; says of each event what became of it.

        Raises `ConcurrencyConflict` and `StoreUnavailable`; some events may be in the log then, and
        are known when the batch is given again.
        """
        outcomes: dict[int, Outcome] = {}
        waiting = dict(enumerate(events))
        for refused in range(ATTEMPTS):
            for part in in_parts(list(waiting), refused):
                now = {place: waiting[place] for place in part}
                self._set_known_aside(now, outcomes)
                if now:
                    self._round(now, outcomes, meta())
                if now:
                    # Those of one contact apply in their order: nothing goes ahead of it.
                    break
            waiting = {place: event for place, event in waiting.items() if place not in outcomes}
            if not waiting:
                return [outcomes[place] for place in range(len(events))]
            self._runs.clock.refresh()
        first = next(iter(waiting.values()))
        what = f"run {first.run_id}" if first.run_id else f"contact {first.contact_id!r}"
        raise ConcurrencyConflict(f"{what} kept changing; try again")

    def was_taken_by(self, contact_id: str, event: Received, command_id: str) -> bool:
        """Whether it was this very command that took in the event, which is known; raises
        `InvalidInput` if the command, or the event that it is to name, was another one."""
        rows = self._store.read_stream(contact_stream(contact_id))
        for each in self._runs.journal.open_public(rows):
            known = each.event
            if not isinstance(known, e.ChannelEventReceived) or known.event_id != event.event_id:
                continue
            if each.meta.command_id != command_id:
                break
            asked = (event.type, event.run_id, event.step_id, event.kind)
            if (known.type, known.run_id, known.step_id, known.kind) != asked:
                raise reused(each.meta)
            return True
        if event.event_id == command_id:
            # An event without an id of its own is known by that of its command.
            problem = "was used by another event; give each command an id of its own"
            raise InvalidInput("command_id", problem)
        return False

    def _set_known_aside(self, waiting: dict[int, Received], outcomes: dict[int, Outcome]) -> None:
        known = self._store.known_event_ids([event.event_id for event in waiting.values()])
        for place in [place for place, event in waiting.items() if event.event_id in known]:
            outcomes[place] = "known"
            del waiting[place]

    def _round(
        self, waiting: dict[int, Received], outcomes: dict[int, Outcome], meta: e.Meta
    ) -> None:
        """Decide and commit what is waiting; what was refused by the store stays waiting."""
        since = self._store.log_head().ordinal
        try:
            decided, refused = self._decide(waiting, meta)
        except (ConcurrencyConflict, StoreUnavailable):
            raise
        except DeeError as error:
            # A stream that cannot be read holds up its own events and nobody else's.
            self._one_by_one(waiting, outcomes, meta, error)
            return
        outcomes.update(refused)
        for place in refused:
            del waiting[place]
        results = self._commit([each.unit for each in decided])
        taken: list[Taken] = []
        for (place, unit, after), result in zip(decided, results, strict=True):
            if isinstance(result, Committed):
                outcomes[place] = "accepted"
                own, *runs = [append.stream_id for append in unit.appends]
                contact_id = own.removeprefix(contact_stream(""))
                taken.append(Taken(waiting.pop(place), contact_id, runs, result.position))
                self._runs.remember(after)
        if taken:
            self._latecomers.tell(taken, since, meta)

    def _one_by_one(
        self,
        waiting: dict[int, Received],
        outcomes: dict[int, Outcome],
        meta: e.Meta,
        error: DeeError,
    ) -> None:
        if len(waiting) == 1:
            outcomes[waiting.popitem()[0]] = error
            return
        for place in list(waiting):
            alone = {place: waiting[place]}
            self._set_known_aside(alone, outcomes)
            if alone:
                self._round(alone, outcomes, meta)
            if not alone:
                del waiting[place]

    def _commit(self, units: Sequence[Unit]) -> Sequence[Committed | Conflict]:
        if not units:
            return []
        try:
            return self._runs.committer.commit(units)
        except StoreUnavailable:
            # The commit may have happened although its answer was lost; the log knows.
            ids = [event_id for unit in units for event_id in unit.event_ids]
            known = self._store.known_event_ids(ids)
            if not known:
                raise
            return [
                self._found(unit) if known.issuperset(unit.event_ids) else Conflict("version", "")
                for unit in units
            ]

    def _found(self, unit: Unit) -> Committed | Conflict:
        """Where the log has a unit whose answer was lost: runs that began before it are told."""
        own = unit.appends[0]
        before = own.expected_version
        rows = self._store.read_stream(own.stream_id, before, before + 1)
        # Of another contact, somebody else may have told under the same id.
        return Committed(rows[0].position) if rows else Conflict("event_id", unit.event_ids[0])

    # --- one round --------------------------------------------------------------------------------

    def _decide(
        self, waiting: dict[int, Received], meta: e.Meta
    ) -> tuple[list[_Decided], dict[int, DeeError]]:
        """What to commit for which event, in order, and the events that cannot be used."""
        refused: dict[int, DeeError] = {}
        named = {event.run_id for event in waiting.values() if event.run_id is not None}
        working = _Working()
        self._read(sorted(named), working)
        whose: dict[int, str] = {}
        for place, event in waiting.items():
            try:
                whose[place] = self._contact_of(event, working)
            except (InvalidInput, RunNotFound) as error:
                refused[place] = error
        self._load([(whose[place], waiting[place]) for place in whose], working)
        decided: list[_Decided] = []
        ids: set[str] = set()
        for place, contact_id in whose.items():
            event = waiting[place]
            if event.event_id in ids:
                # Given twice: in the next round it is known, unless the first was refused.
                continue
            try:
                unit, after = self._take(event, contact_id, working, meta)
            except InvalidInput as error:
                refused[place] = error
                continue
            ids.add(event.event_id)
            decided.append(_Decided(place, unit, after))
        return decided, refused

    def _read(self, run_ids: Sequence[str], working: _Working) -> None:
        working.runs.update(self._runs.load_readable(run_ids, working.unread.__setitem__))

    def _contact_of(self, event: Received, working: _Working) -> str:
        """The contact that the event is about; raises `InvalidInput`, `RunNotFound`, and why the
        run that it names cannot be read."""
        if event.run_id is None:
            if event.contact_id is None:
                raise InvalidInput("contact_id", "is missing; or give a run_id")
            return event.contact_id
        if event.run_id in working.unread:
            raise working.unread[event.run_id]
        if event.run_id not in working.runs:
            working.runs[event.run_id] = self._runs.load(event.run_id)
        owner = working.runs[event.run_id].state.contact_id
        if event.contact_id not in (None, owner):
            text = f"run {event.run_id} is not one of contact {event.contact_id!r}"
            raise InvalidInput("run_id", text)
        return owner

    def _load(self, events: Collection[tuple[str, Received]], working: _Working) -> None:
        """Read all that the events are decided on, in few look-ups for them all."""
        suppressing = {who for who, event in events if event.suppresses}
        asking = {who for who, event in events if event.run_id is None}
        for who in sorted(asking | suppressing):
            working.rows[who] = self._queries.all_rows(RunFilter(contact_id=who))
        runs = [
            row.run_id
            for who, rows in working.rows.items()
            for row in rows
            if who in suppressing or not RunStatus(row.status).ended
        ]
        known = working.runs.keys() | working.unread.keys()
        self._read([run for run in runs if run not in known], working)
        streams = {contact_stream(who): who for who, _ in events}
        for stream, head in self._store.heads(list(streams)).items():
            working.streams[streams[stream]] = _Stream(head.version, head.checksum, None)
        journal = self._runs.journal
        histories = self._store.read_streams([contact_stream(who) for who in sorted(suppressing)])
        for who in suppressing:
            rows = histories.get(contact_stream(who), [])
            journal.preload(rows)
            state = contact_state.fold(journal.open(rows))
            last = checksum_of(rows[-1]) if rows else GENESIS
            working.streams[who] = _Stream(len(rows), last, state)
        detailed = sorted({who for who, event in events if event.data})
        working.keys = self._store.contact_keys(detailed)

    def _take(
        self, event: Received, contact_id: str, working: _Working, meta: e.Meta
    ) -> tuple[Unit, list[LoadedRun]]:
        """The event's unit, and the runs after it; `working` is moved on."""
        command, elsewhere = event.command(meta), event.command_elsewhere(meta)
        appends, after = [], []
        for run in _concerned(event, contact_id, working):
            here = event.run_id in (None, run.state.run_id)
            decided = self._runs.decide(run, command if here else elsewhere)
            assert decided is not None, "a channel event is always recorded"
            appends.append(decided.unit.appends[0])
            after.append(decided.after)
        key_id: bytes | None = None
        if command.detail is not None:
            key_id = working.keys.get(contact_id) or self._keys.new_keys(1)[0]
        own, added, stream = self._on_contact(event, contact_id, command, key_id, working)
        new_key = self._keys.encrypts and contact_id not in working.keys
        unit = Unit(
            (own, *appends),
            min_tick=meta.tick,
            contact_keys=((contact_id, key_id),) if new_key and key_id else (),
            suppress=added,
            event_ids=(event.event_id,),
        )
        # Only now: an event that is too large to be stored leaves nothing behind.
        working.streams[contact_id] = stream
        working.runs.update((run.state.run_id, run) for run in after)
        if key_id is not None:
            working.keys[contact_id] = key_id
        return unit, after

    def _on_contact(
        self,
        event: Received,
        contact_id: str,
        command: c.ReceiveEvent,
        key_id: bytes | None,
        working: _Working,
    ) -> tuple[StreamAppend, tuple[Suppression, ...], _Stream]:
        """The event in the contact's own stream, with the suppression it brings about."""
        before = working.streams.get(contact_id, _Stream(0, GENESIS, None))
        events: list[e.Event] = [
            e.ChannelEventReceived(
                type=event.type,
                contact_id=contact_id,
                event_id=command.event_id,
                occurred_tick=command.occurred_tick,
                run_id=event.run_id,
                step_id=command.step_id,
                kind=event.kind,
                personal=command.detail,
            )
        ]
        brought = event.suppression
        if brought is not None:
            assert before.state is not None, "whoever an event suppresses was folded"
            subjects = self._subjects(contact_id, working)
            events += contact_state.suppress(before.state, contact_id, subjects, *brought)
        name = contact_stream(contact_id)
        sealed = self._runs.journal.seal(
            name, before.version, before.checksum, events, command.meta, key_id
        )
        state = before.state
        if state is not None:
            for each in sealed:
                state = contact_state.evolve(state, each.recorded())
        end = _Stream(before.version + len(sealed), sealed[-1].checksum, state)
        return StreamAppend(name, before.version, sealed), listed_by(events), end

    def _subjects(self, contact_id: str, working: _Working) -> tuple[str, ...]:
        """All that the contact was ever enrolled by, as far as it can be read."""
        runs = [working.runs.get(row.run_id) for row in working.rows[contact_id]]
        people = [run.state.contact for run in runs if run is not None]
        return tuple(sorted(self._identities.listed_for(contact_id, people)))


def _concerned(event: Received, contact_id: str, working: _Working) -> Iterable[LoadedRun]:
    """The runs that the event is recorded in: the one it names, and those it reaches besides.

    Raises why one of them cannot be read, unless the event suppresses the contact.
    """
    reached = [] if event.run_id is None else [event.run_id]
    if event.reaches_others:
        rows = working.rows[contact_id]
        reached += [row.run_id for row in rows if not RunStatus(row.status).ended]
    runs = []
    for run_id in dict.fromkeys(reached):
        if (error := working.unread.get(run_id)) is not None:
            if not event.suppresses:
                raise error
            _log.warning("run_not_told", extra={"run": run_id, "problem": str(error)})
            continue
        run = working.runs.get(run_id)
        if run is not None and (run_id == event.run_id or not run.state.status.ended):
            runs.append(run)
    return runs
