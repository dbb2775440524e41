"""Suppression lists from outside, such as a national one: many entries in few transactions."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence, Set

from msgspec import Struct
from msgspec.structs import replace

from dee_es.core import contact_state
from dee_es.core import events as e
from dee_es.core.contact_state import Listed
from dee_es.core.ids import contact_stream
from dee_es.engine.contacts.index import on_the_list
from dee_es.engine.contacts.run_addresses import RunAddresses
from dee_es.engine.contacts.streams import ContactStreams
from dee_es.engine.contacts.suppressed_runs import TOGETHER, Asked, SuppressedRuns, appends_of
from dee_es.engine.log.committing import Committer
from dee_es.engine.log.journal import Journal
from dee_es.engine.log.settling import ATTEMPTS, at_once
from dee_es.engine.timekeeping import EngineClock
from dee_es.errors import ConcurrencyConflict, StoreUnavailable
from dee_es.ports import Committed, EventStore, StoredRow, StreamAppend, Suppression, Unit


class Listing(Struct, frozen=True):
    """An entry that was checked: who is meant, by which subjects, how far it reaches, and why."""

    contact_id: str
    subjects: tuple[str, ...]
    level: e.Level
    scope: str
    reason: str | None
    by_id: bool = False
    """Whether the contact was meant by its id, and not by an address that a list may have millions
    of: then the addresses of its runs are listed as well, and open ones are told."""

    @property
    def tells(self) -> bool:
        """Whether open runs of the contact are told."""
        return self.by_id and self.level != "channel"

    @property
    def plan_id(self) -> str:
        """The plan that it is about; empty for all."""
        return self.scope if self.level == "plan" else ""

    @property
    def listed(self) -> frozenset[Listed]:
        """What has to be on the list for the entry to hold."""
        return frozenset((subject, self.level, self.scope) for subject in self.subjects)


class _Wanted(Struct, frozen=True):
    """What is to be committed for an entry; `lists` if it was not on the list yet."""

    unit: Unit
    lists: bool


class SuppressionImport:
    """Puts entries on the suppression list, each an event of its contact, and tells its runs."""

    def __init__(
        self,
        store: EventStore,
        journal: Journal,
        contacts: ContactStreams,
        suppressed_runs: SuppressedRuns,
        addresses: RunAddresses,
        committer: Committer,
        clock: EngineClock,
    ) -> None:
        self._store = store
        self._journal = journal
        self._contacts = contacts
        self._suppressed_runs = suppressed_runs
        self._addresses = addresses
        self._committer = committer
        self._clock = clock

    def missing(self, entries: Sequence[Listing], seen: set[bytes]) -> int:
        """How many of the entries are not on the list yet; nothing is written.

        `seen` is what earlier batches would have listed, as digests of 16 bytes; it is added to.
        """
        entries = self._in_full(entries)
        listed, streams = self._read(entries)
        missing = 0
        for entry in entries:
            own = {_digest(each) for each in entry.listed}
            if not own <= seen and self._events(entry, listed, streams):
                missing += 1
                seen |= own
        return missing

    def add(self, entries: Sequence[Listing], meta: Callable[[], e.Meta]) -> int:
        """Put a batch on the list in one transaction, with what tells the contacts' open runs;
        returns how many were not on it yet.

        Entries about one contact follow each other in transactions of their own, and so do parts of
        a batch that takes so long to be decided that time goes on meanwhile. Raises
        `ConcurrencyConflict` if others keep changing the same contacts, and `StoreUnavailable` if a
        commit failed of which the log knows nothing.
        """
        since = self._store.log_head().ordinal
        entries = self._in_full(entries)
        added, left, refused = 0, list(entries), 0
        lost: tuple[StoreUnavailable, dict[int, _Wanted]] | None = None
        while left:
            now, later = _first_of_each(left)
            most = at_once(len(entries), refused)
            now, later = now[:most], [*now[most:], *later]
            wanted = self._wanted(now, meta(), together=refused < TOGETHER)
            if lost is not None:
                error, asked = lost
                listing, left_to_list = _listing(asked), _listing(wanted)
                if wanted.keys() == asked.keys() and listing == left_to_list:
                    raise error
                added, lost = added + len(listing - left_to_list), None
            units = [each.unit for each in wanted.values()]
            try:
                results = self._committer.commit(units) if units else []
            except StoreUnavailable as failed:
                # The commit may have happened although its answer was lost; the log knows.
                lost = failed, wanted
                continue
            again = []
            for (place, each), result in zip(wanted.items(), results, strict=True):
                if isinstance(result, Committed):
                    added += each.lists
                else:
                    again.append(place)
            if again:
                refused += 1
                if refused == ATTEMPTS:
                    raise ConcurrencyConflict("others keep changing these contacts; try again")
                self._clock.refresh()
            left = [now[place] for place in again] + later
        if refused >= TOGETHER or self._began_since(since):
            self._tell_others(entries, meta)
        return added

    def _in_full(self, entries: Sequence[Listing]) -> list[Listing]:
        """The entries, those by id with the addresses of the runs of their contacts."""
        meant = {entry.contact_id: None for entry in entries if entry.by_id}
        known = self._addresses.of(list(meant)) if meant else {}
        return [
            replace(entry, subjects=tuple(sorted({*entry.subjects, *known[entry.contact_id]})))
            if entry.by_id and entry.contact_id in known
            else entry
            for entry in entries
        ]

    def _began_since(self, ordinal: int) -> bool:
        return self._store.log_head().ordinal != ordinal

    def _wanted(
        self, entries: Sequence[Listing], meta: e.Meta, *, together: bool
    ) -> dict[int, _Wanted]:
        """What to commit for the entries, by their place, that are not on the list yet, or whose
        contact has open runs that were not told; `together` unless these keep changing."""
        listed, streams = self._read(entries)
        runs = self._told(entries, meta) if together else {}
        wanted = {}
        for place, entry in enumerate(entries):
            given, told = _meta_of(entry, meta), runs.get(place, ())
            events = self._events(entry, listed, streams)
            unit = Unit((), min_tick=given.tick)
            if events:
                stream = contact_stream(entry.contact_id)
                unit = self._contacts.unit(stream, streams.get(stream, []), events, given)
            if events or told:
                unit = replace(unit, appends=(*unit.appends, *told))
                wanted[place] = _Wanted(unit, bool(events))
        return wanted

    def _told(
        self, entries: Sequence[Listing], meta: e.Meta
    ) -> dict[int, tuple[StreamAppend, ...]]:
        """What tells the open runs that entries are about, by the place of the entry."""
        places = [place for place, entry in enumerate(entries) if entry.tells]
        asked = [(_asked(entries[place]), _meta_of(entries[place], meta)) for place in places]
        decided = self._suppressed_runs.decide_each(asked)
        return {place: appends_of(each) for place, each in zip(places, decided, strict=True)}

    def _tell_others(self, entries: Iterable[Listing], meta: Callable[[], e.Meta]) -> None:
        """Tell runs that began meanwhile, or kept changing. One that cannot be read is left to
        the scheduler, which holds it up and says so: it holds no list up."""
        self._suppressed_runs.tell_each(
            [(_asked(entry), _later(entry, meta)) for entry in entries if entry.tells]
        )

    def _read(
        self, entries: Sequence[Listing]
    ) -> tuple[frozenset[Suppression], dict[str, list[StoredRow]]]:
        """What stands on the list about the entries, and the streams that tell on whose account.

        Streams are left out where the list itself says that the entry's own contact is the one.
        """
        subjects = sorted({subject for entry in entries for subject in entry.subjects})
        listed = frozenset(self._store.suppressions(subjects))
        unsure = [
            contact_stream(entry.contact_id) for entry in entries if not _holds(entry, listed)
        ]
        return listed, self._store.read_streams(unsure) if unsure else {}

    def _events(
        self,
        entry: Listing,
        listed: Set[Suppression],
        streams: Mapping[str, Sequence[StoredRow]],
    ) -> list[e.Event]:
        """The event that puts the entry on the list; none if it is there on its own account."""
        if _holds(entry, listed):
            return []
        rows = streams.get(contact_stream(entry.contact_id), [])
        state = contact_state.fold(self._journal.open(rows))
        standing = on_the_list(state, entry.contact_id, listed)
        return contact_state.suppress(
            standing, entry.contact_id, entry.subjects, entry.level, entry.scope
        )


def _listing(wanted: Mapping[int, _Wanted]) -> Set[int]:
    """The places of entries that are not on the list yet."""
    return {place for place, each in wanted.items() if each.lists}


def _asked(entry: Listing) -> Asked:
    return Asked(entry.contact_id, entry.plan_id)


def _meta_of(entry: Listing, meta: e.Meta) -> e.Meta:
    """With the entry's own reason, if it has one."""
    return meta if entry.reason is None else replace(meta, reason=entry.reason)


def _later(entry: Listing, meta: Callable[[], e.Meta]) -> Callable[[], e.Meta]:
    return lambda: _meta_of(entry, meta())


def _holds(entry: Listing, listed: Set[Suppression]) -> bool:
    return all(Suppression(*each, entry.contact_id) in listed for each in entry.listed)


def _first_of_each(entries: Iterable[Listing]) -> tuple[list[Listing], list[Listing]]:
    """The first entry about each contact, and the others, both in order."""
    first: dict[str, Listing] = {}
    others = [entry for entry in entries if first.setdefault(entry.contact_id, entry) is not entry]
    return list(first.values()), others


def _digest(listed: Listed) -> bytes:
    return hashlib.blake2b("\0".join(listed).encode(), digest_size=16).digest()
