"""Looking after the contacts' keys: how they stand beside the log, backup, restore, rotation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from dee_es.core import events as e
from dee_es.core.ids import contact_stream
from dee_es.core.values import check_text
from dee_es.engine.log.journal import Journal
from dee_es.ports import (
    EventStore,
    KeyMaintenance,
    KeyRestore,
    KeyRotation,
    KeyStore,
    KeyStoreState,
    LastBackup,
    OnKeys,
    WallClock,
)

PLAIN: Final = (
    "personal data is off in this database: it stands in the log in plain, whoever gets hold of "
    "the database or of a copy can read it, and no contact can ever be erased"
)
BACKUP_WARNING: Final = (
    "this backup holds every key that has not been destroyed by now: after an erasure, make a new "
    "one and delete this one, or whoever has it can undo the erasure"
)
_PAGE: Final = 1_000
_SHOWN: Final = 5
_ERASED: Final = "ContactErased"
_STREAMS: Final = contact_stream("")

OnChecked = Callable[[int], object]
"""Called with how many contacts were looked at."""


@dataclass(frozen=True, slots=True)
class KeyStatus:
    """The key store beside the log. `ok` if every contact's key is there, every erased contact's
    key is destroyed, and nobody else's.

    `missing` counts contacts whose key is unknown to the key store (not erased ones), `undestroyed`
    erased contacts whose key is still held, `unrecorded` contacts whose key is destroyed and of
    whose erasure the log knows nothing, as a copy from before it; the first few of each are named.
    `advice` says what somebody should do in time.
    """

    ok: bool
    store: str
    master_key: str
    personal_data: str
    keys: int
    destroyed: int
    rotations: int
    contacts: int
    erased: int
    missing: int
    undestroyed: int
    unrecorded: int
    missing_contacts: tuple[str, ...]
    undestroyed_contacts: tuple[str, ...]
    unrecorded_contacts: tuple[str, ...]
    last_backup: datetime | None
    advice: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class KeyBackup:
    """A backup that was read back: `keys` are those held, `destroyed` those marked as destroyed.

    It is wrapped by the master key of `master_key`, without which it is of no use. `warning` says
    what it means for erasures.
    """

    path: str
    keys: int
    destroyed: int
    taken_at: datetime
    master_key: str
    warning: str = BACKUP_WARNING


class Keys:
    """The calls of `engine.keys`."""

    def __init__(
        self,
        store: EventStore,
        journal: Journal,
        keys: KeyStore,
        care: KeyMaintenance,
        wall: WallClock,
    ) -> None:
        self._store = store
        self._journal = journal
        self._keys = keys
        self._care = care
        self._wall = wall

    @property
    def encrypts(self) -> bool:
        """Whether this database encrypts what is personal; decided when it was made."""
        return self._keys.encrypts

    def check(self) -> None:
        """Ask the key store whether it still takes this process's master key.

        Raises `MasterKeyRotated` if it was replaced, and `StoreUnavailable`.
        """
        self._keys.check()

    def status(self, on_progress: OnChecked | None = None) -> KeyStatus:
        """How the key store stands, and whether it fits the log; goes through all contacts."""
        erased, undestroyed = 0, _Sample()
        for page in self._erasures():
            erased += len(page)
            held = self._held([key for _, key in page])
            undestroyed.add([who for who, key in page if held.get(key)])
        contacts, missing, unrecorded = 0, _Sample(), _Sample()
        for owners in self._owners():
            contacts += len(owners)
            held = self._held([key for _, key in owners])
            missing.add(self._not_erased([who for who, key in owners if key not in held]))
            gone = [who for who, key in owners if held.get(key) is False]
            unrecorded.add(self._not_erased(gone))
            if on_progress is not None:
                on_progress(contacts)
        state = self._care.describe()
        last = state.last_backup
        return KeyStatus(
            ok=not (missing.count or undestroyed.count or unrecorded.count),
            store=state.where,
            master_key=state.master,
            personal_data="encrypted" if self._keys.encrypts else "off",
            keys=state.keys,
            destroyed=state.destroyed,
            rotations=state.rotations,
            contacts=contacts,
            erased=erased,
            missing=missing.count,
            undestroyed=undestroyed.count,
            unrecorded=unrecorded.count,
            missing_contacts=tuple(missing.names),
            undestroyed_contacts=tuple(undestroyed.names),
            unrecorded_contacts=tuple(unrecorded.names),
            last_backup=None if last is None else _time(last.taken_ms),
            advice=tuple(self._advice(state, missing, undestroyed, unrecorded)),
        )

    def backup(self, path: str, on_progress: OnKeys | None = None) -> KeyBackup:
        """Write a copy of the key store as of now to a file (SQLite, mode 0600), while others work.

        It is read back key by key before it replaces an earlier backup of that name. It is wrapped
        by the same master key, which is not in it. A backup holds the keys of everybody who is
        erased later: it must be replaced after an erasure. Raises `InvalidInput` if the file cannot
        be written or something else is there.
        """
        check_text("path", path, blank=False)
        made = self._care.backup(path, self._wall.now_ms(), on_progress)
        master = self._care.describe().master
        return KeyBackup(made.path, made.keys, made.destroyed, _time(made.taken_ms), master)

    def restore(
        self, path: str, master_key_file: str | None = None, on_progress: OnKeys | None = None
    ) -> KeyRestore:
        """Bring back from a backup the keys that are missing here; nothing is overwritten.

        A key that was destroyed never comes back: neither one that was destroyed here or in the
        backup, nor that of a contact whose erasure is in the log. If this is broken off, call it
        again. `master_key_file` names the master key of then, if it was rotated since. Raises
        `InvalidInput` if the file is no backup of this key store, and `IntegrityViolation`, with
        nothing changed, if it is damaged.
        """
        check_text("path", path, blank=False)
        return self._care.restore(path, self._erased_pages, master_key_file, on_progress)

    def rotate(
        self,
        new_master_key: str | None = None,
        new_key_file: str | None = None,
        on_progress: OnKeys | None = None,
    ) -> KeyRotation:
        """Wrap every key, and the store's own secret, anew under another master key.

        A master key that is kept in a file is replaced there, by a new one or by the one given
        (base64). With `new_key_file` the new one is taken from that file, or made there, and it is
        for the caller to name it in the settings. Others go on working until the new one is in
        force, at one moment; from then on who holds the former one gets `MasterKeyRotated`. If this
        is broken off, even by kill -9, nothing is lost: call it again in the same way. Raises
        `InvalidInput` for a key that cannot be the new one.
        """
        return self._care.rotate(new_master_key, new_key_file, on_progress)

    def _held(self, key_ids: Sequence[bytes]) -> dict[bytes, bool]:
        return dict(self._care.standing(key_ids)) if key_ids else {}

    def _owners(self) -> Iterator[list[tuple[str, bytes]]]:
        after = ""
        while page := self._store.contact_key_page(after, _PAGE):
            yield page
            after = page[-1][0]

    def _erasures(self) -> Iterator[list[tuple[str, bytes]]]:
        """Erased contacts with the ids of their keys, as the log has them, in pages."""
        after = ""
        while streams := self._store.stream_ids(_STREAMS, after, _PAGE):
            found = self._erasures_in(streams)
            if found:
                yield found
            after = streams[-1]

    def _erasures_in(self, streams: Sequence[str]) -> list[tuple[str, bytes]]:
        read = self._store.read_streams(streams)
        rows = [row for stream in read.values() for row in stream if row.name == _ERASED]
        events = [recorded.event for recorded in self._journal.open_public(rows)]
        return [
            (event.contact_id, bytes.fromhex(event.key_id))
            for event in events
            if isinstance(event, e.ContactErased) and event.key_id
        ]

    def _erased_pages(self) -> Iterator[list[bytes]]:
        for page in self._erasures():
            yield [key for _, key in page]

    def _not_erased(self, contacts: Sequence[str]) -> list[str]:
        if not contacts:
            return []
        erased = {who for who, _ in self._erasures_in([contact_stream(who) for who in contacts])}
        return [who for who in contacts if who not in erased]

    def _advice(
        self, state: KeyStoreState, missing: _Sample, undestroyed: _Sample, unrecorded: _Sample
    ) -> Iterator[str]:
        if not self._keys.encrypts:
            yield PLAIN
        if missing.count:
            yield "keys are missing: bring them back with `dee keys restore FILE`"
        if undestroyed.count:
            yield "keys of erased contacts are held: repeat `dee contact erase` for each of them"
        if unrecorded.count:
            yield (
                "keys are destroyed of contacts whose erasure is not in the log, as after an older "
                "copy of it was put back: repeat `dee contact erase` for each of them; their "
                "addresses cannot be read any more: `dee contact suppress --email` lists them"
            )
        if state.rotating:
            yield "a rotation of the master key is not finished: run `dee keys rotate` again"
        if state.last_backup is None:
            yield (
                "no backup of the keys was made from here: if the key store is lost, nobody can "
                "read personal data again; `dee keys backup FILE`"
            )
        else:
            yield from _backup_advice(state, state.last_backup)


class _Sample:
    """A count, and the first few of what is counted."""

    def __init__(self) -> None:
        self.count = 0
        self.names: list[str] = []

    def add(self, names: Sequence[str]) -> None:
        self.count += len(names)
        self.names += names[: _SHOWN - len(self.names)]


def _backup_advice(state: KeyStoreState, last: LastBackup) -> Iterator[str]:
    when = f"{_time(last.taken_ms):%Y-%m-%d %H:%M}Z"
    destroyed = state.destroyed - last.destroyed
    made = state.keys + destroyed - last.keys
    if destroyed > 0:
        yield (
            f"{destroyed:,} keys were destroyed since the last backup ({when}): it still holds "
            "them; make a new one and delete the older ones"
        )
    if state.rotations > last.rotations:
        yield (
            f"the master key was rotated since the last backup ({when}), which only the former one "
            "opens; make a new one"
        )
    if made > 0:
        yield f"{made:,} keys were made since the last backup ({when}); make a new one"


def _time(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
