"""What the write side keeps beside the log, held against what the log's events say it should be.

A look is of streams as they stood at one moment: their heads are read first, and of their entries
only those that the heads speak of. The rows of a contact are read between two looks at its head; if
that has moved meanwhile, nothing was learnt.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from msgspec import Struct, field

from dee_es.core import events as e
from dee_es.core.evidence.chain import NOT_TYPED_ERRORS
from dee_es.core.evidence.chunk_check import printable
from dee_es.core.ids import contact_stream, is_run, slice_of
from dee_es.core.runs.run import fold
from dee_es.core.runs.state import RunState
from dee_es.engine.auditing.verdicts import IndexDifference
from dee_es.engine.contacts.index import as_listed, consents_of, lifted_by, listed_by
from dee_es.engine.log.journal import Journal, key_id_of
from dee_es.errors import DeeError
from dee_es.ports import NO_KEY, Consent, EventStore, Head, StoredRow, Suppression

CONTACTS: Final = contact_stream("")
"""Begins the stream of every contact."""

_UNREADABLE: Final = (DeeError, AssertionError, KeyError, *NOT_TYPED_ERRORS)
"""What comes of folding entries that are none, or no life of a run."""


class _Run(Struct, frozen=True):
    """A run at the version of its head, and the key that its personal data is under."""

    state: RunState
    position: int
    key_id: bytes | None


class _Contact(Struct):
    """What a contact's stream says that the rows beside the log are."""

    contact_id: str
    listed: set[Suppression] = field(default_factory=set)
    subjects: set[str] = field(default_factory=set)
    consents: dict[str, Consent] = field(default_factory=dict)
    event_ids: list[str] = field(default_factory=list)
    key_ids: set[bytes] = field(default_factory=set)


class _Tables(Struct, frozen=True):
    """The rows about some contacts; `standing` is what is listed on anybody's account."""

    listed: dict[str, set[Suppression]]
    standing: set[tuple[str, str, str]]
    consents: dict[str, dict[str, Consent]]
    event_ids: set[str]
    key_ids: dict[str, bytes]


class IndexRows:
    """Compares. `unread` says of streams that cannot be folded why, and they are left out."""

    def __init__(self, store: EventStore, journal: Journal) -> None:
        self._store = store
        self._journal = journal
        self.unread: dict[str, str] = {}

    # --- heads ------------------------------------------------------------------------------------

    def heads(
        self, ordinals: Mapping[str, int], imported: Mapping[str, int]
    ) -> dict[str, list[IndexDifference]]:
        """How the heads of these streams, and the keys of the contacts of the runs among them,
        differ from the log.

        `ordinals` has each run's own number, and 0 for other streams; `imported` the last position
        up to which a run came in from elsewhere: until something is done to it, it is not due.
        """
        heads = self._store.heads(list(ordinals))
        runs = [stream for stream in ordinals if is_run(stream)]
        stored = self._store.read_streams(runs)
        archived = self._store.tombstones_of([run for run in runs if run not in stored])
        lives = {
            run: life
            for run, rows in stored.items()
            if run in heads and (life := self._life(run, rows, heads[run].version)) is not None
        }
        keys = self._store.contact_keys(list({each.state.contact_id for each in lives.values()}))
        found: dict[str, list[IndexDifference]] = {}
        for stream, ordinal in ordinals.items():
            head = heads.get(stream)
            if head is None:
                found[stream] = [IndexDifference(stream, "head", "there", "missing")]
                continue
            life = lives.get(stream)
            if life is not None:
                differing = _head_differences(head, _head_of(head, life, imported, ordinal))
                differing += _key_differences(stream, {life.key_id}, life.state.contact_id, keys)
            elif not is_run(stream):
                differing = _head_differences(head, Head(stream, head.version, head.checksum))
            elif stream in archived:
                # What it was has left the log; that it has ended, and waits for nothing, is known.
                was = Head(stream, head.version, head.checksum, None, True, head.slice, ordinal)
                differing = _head_differences(head, was)
            else:
                continue
            if differing:
                found[stream] = differing
        return found

    def _life(self, run_id: str, rows: Sequence[StoredRow], version: int) -> _Run | None:
        try:
            seen = [row for row in rows if row.version <= version]
            state = fold(self._journal.open_public(seen))
            assert state is not None, "none of its entries is there"
            return _Run(state, seen[-1].position, key_id_of(seen[0]))
        except _UNREADABLE as error:
            self._cannot_read(run_id, error)
            return None

    def _cannot_read(self, stream: str, error: Exception) -> None:
        why = printable(error) if isinstance(error, DeeError) else type(error).__name__
        self.unread[stream] = f"cannot be folded ({why})"

    # --- contacts ---------------------------------------------------------------------------------

    def contacts(
        self, streams: Sequence[str], also: Iterable[str] = ()
    ) -> tuple[dict[str, list[IndexDifference]], list[str]]:
        """How the rows about the contacts of these streams differ from the log, and the streams to
        which something was appended meanwhile, of which nothing is said. Subjects are those that
        the streams name, and `also` these.

        A suppression that stands on another contact's account is not missing: a list that was made
        before each contact had its own row knew the last one only, and the gate reads no accounts.
        """
        before = self._store.heads(streams)
        stored = self._store.read_streams(streams)
        folded = {
            stream: contact
            for stream in streams
            if (contact := self._folded(stream, stored.get(stream, []))) is not None
        }
        tables = self._tables(list(folded.values()), also)
        after = self._store.heads(list(folded))
        found: dict[str, list[IndexDifference]] = {}
        moved: list[str] = []
        for stream, contact in folded.items():
            if before.get(stream) != after.get(stream):
                moved.append(stream)
            elif differing := _contact_differences(stream, contact, tables):
                found[stream] = differing
        return found, moved

    def _folded(self, stream: str, rows: Sequence[StoredRow]) -> _Contact | None:
        contact = _Contact(stream.removeprefix(CONTACTS))
        try:
            for row, recorded in zip(rows, self._journal.open_public(rows), strict=True):
                _follow(contact, recorded, key_id_of(row))
        except _UNREADABLE as error:
            self._cannot_read(stream, error)
            return None
        return contact

    def _tables(self, contacts: Sequence[_Contact], also: Iterable[str]) -> _Tables:
        ids = [each.contact_id for each in contacts]
        subjects = {*also, *(subject for each in contacts for subject in each.subjects)}
        listed: dict[str, set[Suppression]] = {}
        standing = set()
        # Some are from the table itself, where anything may stand.
        asked = sorted(subject for subject in subjects if type(subject) is str)
        for row in self._store.suppressions(asked):
            listed.setdefault(row.contact_id, set()).add(row)
            if type(row.contact_id) is str:
                standing.add(as_listed(row))
        consents: dict[str, dict[str, Consent]] = {}
        for consent in self._store.consents(ids):
            consents.setdefault(consent.contact_id, {})[consent.channel] = consent
        event_ids = [event_id for each in contacts for event_id in each.event_ids]
        return _Tables(
            listed,
            standing,
            consents,
            self._store.known_event_ids(event_ids),
            self._store.contact_keys(ids),
        )


def _head_of(head: Head, life: _Run, imported: Mapping[str, int], ordinal: int) -> Head:
    """What the head of a run says by the log; see `StreamAppend`."""
    state = life.state
    due = None if life.position <= imported.get(state.run_id, 0) else state.due_tick
    own = slice_of(state.contact_id)
    return Head(head.stream_id, head.version, head.checksum, due, state.status.ended, own, ordinal)


def _head_differences(head: Head, log: Head) -> list[IndexDifference]:
    columns = ("due_tick", "ended", "slice", "ordinal")
    return [
        IndexDifference(head.stream_id, name, _text(of_log), _text(of_head))
        for name in columns
        if (of_log := getattr(log, name)) != (of_head := getattr(head, name))
    ]


def _key_differences(
    stream: str, own: Iterable[bytes | None], contact_id: str, keys: Mapping[str, bytes]
) -> list[IndexDifference]:
    held = keys.get(contact_id)
    return [
        IndexDifference(stream, "key of the contact", key_id.hex(), _key_text(held))
        for key_id in own
        if key_id not in (None, NO_KEY, held)
    ]


def _follow(contact: _Contact, recorded: e.RecordedEvent, key_id: bytes | None) -> None:
    event = recorded.event
    lifted, listed = lifted_by([event]), listed_by([event])
    contact.listed.difference_update(lifted)
    contact.listed.update(listed)
    contact.subjects.update(each.subject for each in (*lifted, *listed))
    for consent in consents_of([event], recorded.meta.tick):
        contact.consents[consent.channel] = consent
    if isinstance(event, e.ChannelEventReceived):
        contact.event_ids.append(event.event_id)
    if isinstance(event, e.ContactErased) and event.key_id:
        contact.key_ids.add(bytes.fromhex(event.key_id))
    if key_id is not None:
        contact.key_ids.add(key_id)


def _contact_differences(stream: str, contact: _Contact, tables: _Tables) -> list[IndexDifference]:
    held = tables.listed.get(contact.contact_id, set())
    found = [
        IndexDifference(stream, _suppression(each), "on the list", "not on the list")
        for each in contact.listed - held
        if as_listed(each) not in tables.standing
    ]
    found += [
        IndexDifference(stream, _suppression(each), "not on the list", "on the list")
        for each in held - contact.listed
    ]
    consents = tables.consents.get(contact.contact_id, {})
    found += [
        IndexDifference(stream, f"consent {printable(channel)}", _given(log), _given(table))
        for channel in contact.consents.keys() | consents.keys()
        if (log := contact.consents.get(channel)) != (table := consents.get(channel))
    ]
    found += [
        IndexDifference(stream, f"channel event {printable(event_id)}", "known", "not known")
        for event_id in contact.event_ids
        if event_id not in tables.event_ids
    ]
    found += _key_differences(stream, contact.key_ids, contact.contact_id, tables.key_ids)
    return sorted(found, key=lambda each: each.what)


def _suppression(row: Suppression) -> str:
    scope = f" {row.scope}" if row.scope else ""
    return f"suppression {printable(f'{row.level}{scope} of {row.subject}')}"


def _given(consent: Consent | None) -> str:
    if consent is None:
        return "none"
    ends = "" if consent.expires_tick is None else f" until tick {consent.expires_tick}"
    return printable(f"{consent.state} since tick {consent.since_tick}{ends}")


def _key_text(key_id: bytes | None) -> str:
    return key_id.hex() if isinstance(key_id, bytes) else _text(key_id)


def _text(value: object) -> str:
    return "none" if value is None else printable(value)
