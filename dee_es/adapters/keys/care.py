"""A key store with what it takes to look after it: state, rotation, backup, restore."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

import msgspec

from dee_es.adapters.keys.backup import NOTE, BackupFile, write_backup
from dee_es.adapters.keys.cipher import Wrapper
from dee_es.adapters.keys.holders import FileHolder
from dee_es.adapters.keys.key_table import GenerationMoved, RotationReplaced, Row
from dee_es.adapters.keys.master import (
    MasterKey,
    create_master_key,
    load_master_key,
    parse_master_key,
)
from dee_es.adapters.keys.rotation import rotate_rows
from dee_es.adapters.keys.vault import KeyVault
from dee_es.errors import ConcurrencyConflict, IntegrityViolation, InvalidInput
from dee_es.ports.keys import (
    ErasedPages,
    KeyRestore,
    KeyRotation,
    KeyStoreState,
    LastBackup,
    OnKeys,
)

_FIELD = "new master key"
_BOUND = "personal_data"


class ManagedKeys(KeyVault):
    """A `KeyStore` that also is a `KeyMaintenance`."""

    def describe(self) -> KeyStoreState:
        """See `KeyMaintenance.describe`."""
        self._forget_destroyed()
        keys, destroyed = self._table.counts()
        note = self._table.note(NOTE)
        return KeyStoreState(
            where=self._table.where.removeprefix("key store ").removeprefix("the key store "),
            master=self._holder.where,
            keys=keys,
            destroyed=destroyed,
            rotations=self._era.generation,
            rotating=self._table.rotating() or self._holder.pending() is not None,
            last_backup=None if note is None else msgspec.json.decode(note, type=LastBackup),
        )

    def bind(self, personal_data: str) -> None:
        """See `KeyMaintenance.bind`."""
        known = self._table.note(_BOUND)
        if known is None:
            self._table.set_note(_BOUND, personal_data.encode())
        elif known != personal_data.encode():
            raise IntegrityViolation(
                f"{self._table.where} is for a database with personal data {known.decode()}, and "
                f"this one has it {personal_data}; name the right key store"
            )

    def standing(self, key_ids: Sequence[bytes]) -> Mapping[bytes, bool]:
        """See `KeyMaintenance.standing`."""
        found = self._table.fetch(key_ids)
        return {key_id: wrapped is not None for key_id, wrapped in found.items()}

    # --- rotation ---------------------------------------------------------------------------------

    def rotate(
        self,
        new_key: str | None = None,
        new_file: str | None = None,
        on_progress: OnKeys | None = None,
    ) -> KeyRotation:
        """See `KeyMaintenance.rotate`."""
        given = None if new_key is None else parse_master_key(new_key, _FIELD)
        if given is not None:
            self._require_unused(Wrapper(given.reveal()))
        key = self._in_file(new_file, given) if new_file else self._successor(given)
        new = Wrapper(key.reveal())
        finished = new.fingerprint == self._era.wrapper.fingerprint
        if not finished:
            self._require_unused(new)
            self._rewrap(new, on_progress)
        self._table.clear()
        moved = new_file is not None
        if new_file is not None:
            self._holder = FileHolder(new_file, self._source)
        else:
            self._holder.settle(key)
            moved = not self._holder.settles_in_file
        return KeyRotation(self._table.counts()[0], self._holder.where, finished, moved)

    def _successor(self, given: MasterKey | None) -> MasterKey:
        if given is not None:
            self._require_other(given)
        return self._holder.successor(given)

    def _in_file(self, name: str, given: MasterKey | None) -> MasterKey:
        """The key in a file that the user names, which is made if it is not there."""
        path = Path(name)
        pending = self._holder.pending()
        key = load_master_key(path) if path.exists() else None
        if pending is not None and (key is None or key.reveal() != pending.reveal()):
            raise InvalidInput(
                _FIELD, f"an earlier rotation of the key in {self._holder.where} is not finished; "
                "rotate without naming a key to finish it first"
            )  # fmt: skip
        if key is None:
            return create_master_key(path, self._source, given)
        if given is not None and given.reveal() != key.reveal():
            raise InvalidInput(_FIELD, f"is not the one that is in {path}")
        return key

    def _require_unused(self, new: Wrapper) -> None:
        if self._table.retired(new.fingerprint):
            raise InvalidInput(_FIELD, "was the master key before; give one never used here")

    def _require_other(self, key: MasterKey) -> None:
        """Refuse the master key itself, unless the settings still name the one before it: then it
        is the end of a rotation that was broken off."""
        current = Wrapper(key.reveal()).fingerprint == self._era.wrapper.fingerprint
        if current and {each.reveal() for each in self._holder.candidates()} == {key.reveal()}:
            raise InvalidInput(_FIELD, "is the master key already")

    def _rewrap(self, new: Wrapper, on_progress: OnKeys | None) -> None:
        self._next = new
        old, generation = self._era
        try:
            rotate_rows(self._table, old, new, self._secret, generation, on_progress)
        except GenerationMoved:
            pass  # by another process: to this key or, as is found out below, to another one
        except RotationReplaced:
            raise ConcurrencyConflict(
                f"{self._table.where}: another rotation, to another master key, has begun"
            ) from None
        self._renew()

    # --- backup -----------------------------------------------------------------------------------

    def backup(self, path: str, now_ms: int, on_progress: OnKeys | None = None) -> LastBackup:
        """See `KeyMaintenance.backup`."""
        self._forget_destroyed()
        return write_backup(self._table, self._era.wrapper, Path(path), now_ms, on_progress)

    def restore(
        self,
        path: str,
        erased: ErasedPages,
        master_key_file: str | None = None,
        on_progress: OnKeys | None = None,
    ) -> KeyRestore:
        """See `KeyMaintenance.restore`."""
        self._forget_destroyed()
        wrappers = [self._era.wrapper]
        if master_key_file is not None:
            wrappers.append(Wrapper(load_master_key(master_key_file).reveal()))
        with closing(BackupFile(Path(path), *wrappers)) as backup:
            if backup.secret != self._secret:
                raise InvalidInput("backup file", f"{path} is of another key store")
            done = 0
            # All of it is read before anything is written: a damaged backup changes nothing.
            for page in backup.verified():
                done += len(page)
                if on_progress is not None:
                    on_progress(done, 2 * backup.total)
            # What was destroyed is marked so before the first key comes back, so that none of those
            # is back for a moment, whatever happens.
            destroyed = self._bury(erased)
            restored = present = 0
            for page in backup.verified():
                added, held, dead = self._take_in(backup.wrapper, page)
                restored += added
                present += held
                destroyed += dead
                done += len(page)
                if on_progress is not None:
                    on_progress(done, 2 * backup.total)
        # Somebody may have been erased meanwhile whose key was not here yet to be destroyed.
        destroyed += self._bury(erased)
        return KeyRestore(restored, present, destroyed)

    def _bury(self, erased: ErasedPages) -> int:
        buried = 0
        for page in erased():
            if page:
                buried += self._table.bury(page)
        self._cache.clear()
        return buried

    def _take_in(self, wrapper: Wrapper, page: Sequence[Row]) -> tuple[int, int, int]:
        """Add a page of a backup; returns how many keys were added, how many of it were here
        already, and how many were destroyed."""
        dead = [key_id for key_id, wrapped in page if wrapped is None]
        buried = self._table.bury(dead) if dead else 0
        known = self._table.fetch([key_id for key_id, _ in page])
        held = sum(wrapped is not None for wrapped in known.values())
        while True:
            mine, generation = self._era
            rows: list[Row] = [
                (key_id, wrapped if mine is wrapper else _rewrapped(wrapper, mine, key_id, wrapped))
                for key_id, wrapped in page
                if wrapped is not None and key_id not in known
            ]
            try:
                return (self._table.add(rows, generation) if rows else 0), held, buried
            except GenerationMoved:
                self._renew()


def _rewrapped(old: Wrapper, new: Wrapper, key_id: bytes, wrapped: bytes) -> bytes:
    key = old.unwrap(key_id, wrapped)
    assert key is not None, "the page was verified"
    return new.wrap(key_id, key)
