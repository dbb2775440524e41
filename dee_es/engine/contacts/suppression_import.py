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
from dee_es.engine.contacts.streams import ContactStreams
from dee_es.engine.log.committing import Committer
from dee_es.engine.log.journal import Journal
from dee_es.engine.log.settling import ATTEMPTS
from dee_es.engine.timekeeping import EngineClock
from dee_es.errors import ConcurrencyConflict, StoreUnavailable
from dee_es.ports import Committed, EventStore, StoredRow, Suppression, Unit


class Listing(Struct, frozen=True):
    """An entry that was checked: who is meant, by which subjects, how far it reaches, and why."""

    contact_id: str
    subjects: tuple[str, ...]
    level: e.Level
    scope: str
    reason: str | None

    @property
    def listed(self) -> frozenset[Listed]:
        """What has to be on the list for the entry to hold."""
        return frozenset((subject, self.level, self.scope) for subject in self.subjects)


class SuppressionImport:
    """Puts entries on the suppression list, each an event of its contact."""

    def __init__(
        self,
        store: EventStore,
        journal: Journal,
        contacts: ContactStreams,
        committer: Committer,
        clock: EngineClock,
    ) -> None:
        self._store = store
        self._journal = journal
        self._contacts = contacts
        self._committer = committer
        self._clock = clock

    def missing(self, entries: Sequence[Listing], seen: set[bytes]) -> int:
        """How many of the entries are not on the list yet; nothing is written.

        `seen` is what earlier batches would have listed, as digests of 16 bytes; it is added to.
        """
        listed, streams = self._read(entries)
        missing = 0
        for entry in entries:
            own = {_digest(each) for each in entry.listed}
            if not own <= seen and self._events(entry, listed, streams):
                missing += 1
                seen |= own
        return missing

    def add(self, entries: Sequence[Listing], meta: Callable[[], e.Meta]) -> int:
        """Put a batch on the list in one transaction; returns how many were not on it yet.

        Entries about one contact follow each other in transactions of their own. Raises
        `ConcurrencyConflict` if others keep changing the same contacts, and `StoreUnavailable` if a
        commit failed of which the log knows nothing.
        """
        added, left, refused = 0, list(entries), 0
        lost: tuple[StoreUnavailable, int] | None = None
        while left:
            now, later = _first_of_each(left)
            units = self._units(now, meta())
            if lost is not None:
                error, asked = lost
                if len(units) == asked:
                    raise error
                added, lost = added + asked - len(units), None
            try:
                results = self._committer.commit(list(units.values())) if units else []
            except StoreUnavailable as failed:
                # The commit may have happened although its answer was lost; the list knows.
                lost = failed, len(units)
                continue
            done = [isinstance(result, Committed) for result in results]
            added += sum(done)
            again = [entry for entry, fine in zip(units, done, strict=True) if not fine]
            if again:
                refused += 1
                if refused == ATTEMPTS:
                    raise ConcurrencyConflict("others keep changing these contacts; try again")
                self._clock.refresh()
            left = [now[place] for place in again] + later
        return added

    def _units(self, entries: Sequence[Listing], meta: e.Meta) -> dict[int, Unit]:
        """What to commit for the entries, by their place, that are not on the list yet."""
        listed, streams = self._read(entries)
        units = {}
        for place, entry in enumerate(entries):
            events = self._events(entry, listed, streams)
            if events:
                stream = contact_stream(entry.contact_id)
                given = meta if entry.reason is None else replace(meta, reason=entry.reason)
                units[place] = self._contacts.unit(stream, streams.get(stream, []), events, given)
        return units

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


def _holds(entry: Listing, listed: Set[Suppression]) -> bool:
    return all(Suppression(*each, entry.contact_id) in listed for each in entry.listed)


def _first_of_each(entries: Iterable[Listing]) -> tuple[list[Listing], list[Listing]]:
    """The first entry about each contact, and the others, both in order."""
    first: dict[str, Listing] = {}
    others = [entry for entry in entries if first.setdefault(entry.contact_id, entry) is not entry]
    return list(first.values()), others


def _digest(listed: Listed) -> bytes:
    return hashlib.blake2b("\0".join(listed).encode(), digest_size=16).digest()
