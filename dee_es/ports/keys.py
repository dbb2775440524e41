"""Keys of contacts, and the encryption of what is personal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

NO_KEY: Final = bytes(16)
"""Stands in the place of a key's id where personal data is stored in plain."""

OnKeys = Callable[[int, int], object]
"""Called with how many keys are done, and of how many."""
ErasedPages = Callable[[], Iterable[Sequence[bytes]]]
"""Gives the ids of the keys that the log says were destroyed, in pages, from the beginning."""


@dataclass(frozen=True, slots=True)
class LastBackup:
    """The last backup of a key store: when (ms since 1970 UTC), where, what it held, and how many
    keys had been destroyed and how often the master key had been rotated by then."""

    taken_ms: int
    path: str
    keys: int
    destroyed: int
    rotations: int


@dataclass(frozen=True, slots=True)
class KeyStoreState:
    """A key store as it stands. `master` says where its master key comes from, `rotations` how
    often that was replaced, and `rotating` that a rotation was begun and is not finished."""

    where: str
    master: str
    keys: int
    destroyed: int
    rotations: int
    rotating: bool
    last_backup: LastBackup | None


@dataclass(frozen=True, slots=True)
class KeyRotation:
    """A rotation that is complete: how many keys were wrapped anew, where the new master key is,
    and whether it only had to be finished. `moved` says that the settings must name the new one."""

    keys: int
    master: str
    finished_only: bool
    moved: bool


@dataclass(frozen=True, slots=True)
class KeyRestore:
    """What a restore did: keys brought back, keys of the backup that were here already, and keys
    that were destroyed (again) since the log, the backup or this store says they were."""

    restored: int
    present: int
    destroyed: int


class KeyStore(Protocol):
    """Keys of contacts; it hands out ids and does the encryption, so that keys leave it only when
    somebody exports what is encrypted under one.

    Whatever makes, fetches or uses keys raises `MasterKeyRotated` once the master key that the
    store was opened with has been replaced; that shows within a second. `destroy` never does.
    """

    @property
    def encrypts(self) -> bool:
        """False if this database keeps what is personal in plain, under `NO_KEY`."""
        ...

    def new_keys(self, count: int) -> list[bytes]:
        """Ids (16 bytes) of fresh keys that are already durable."""
        ...

    def encrypt(self, key_id: bytes, stream_id: str, version: int, plaintext: bytes) -> bytes:
        """AES-256-GCM-SIV with stream id and version as associated data; same input, same bytes.

        Raises `KeyDestroyed` if the key was.
        """
        ...

    def decrypt(
        self, key_id: bytes, stream_id: str, version: int, ciphertext: bytes
    ) -> bytes | None:
        """The plaintext; None if the key was destroyed. Raises `IntegrityViolation` if the
        ciphertext is not what was encrypted there."""
        ...

    def preload(self, key_ids: Iterable[bytes]) -> None:
        """Fetch many keys at once, before decrypting a page of events."""
        ...

    def reveal(self, key_id: bytes) -> bytes | None:
        """The key itself, for an export; None if it was destroyed. Raises `IntegrityViolation` for
        an unknown one."""
        ...

    def adopt(self, key_id: bytes, key: bytes | None) -> bool:
        """Take in a key of another store, or that it was destroyed (None); durable on return.

        False if another key stands under this id, or one is destroyed and the other is not.
        """
        ...

    def digest(self, kind: str, normalized: str) -> str:
        """Keyed digest of a normalized address, as 64 hex digits: equal for equal addresses, and
        of no use to who has not the key."""
        ...

    def seal(self, name: str, plaintext: bytes) -> bytes:
        """Encrypt what belongs to no contact and is kept for a while only, under a key made of
        `name` and of a secret of the store: nobody without both can read it."""
        ...

    def unseal(self, name: str, sealed: bytes) -> bytes | None:
        """The plaintext; None if this is not what was sealed under that name here."""
        ...

    def check(self) -> None:
        """Ask the store whether it still takes this master key.

        Raises `MasterKeyRotated` if it does not, and `StoreUnavailable`.
        """
        ...

    def destroy(self, key_id: bytes) -> None:
        """Destroy a key for ever, durably; again changes nothing. Raises `IntegrityViolation` for
        an unknown one."""
        ...

    def close(self) -> None:
        """Release the store."""
        ...


class KeyMaintenance(Protocol):
    """Looking after a whole key store, while others use it."""

    def describe(self) -> KeyStoreState:
        """The store as it stands."""
        ...

    def bind(self, personal_data: str) -> None:
        """Note for whom the store is: a database with personal data `encrypted` or `off`.

        Raises `IntegrityViolation` if it was for the other kind: the log alone, in the hands of
        whoever has the database, cannot turn encryption off.
        """
        ...

    def standing(self, key_ids: Sequence[bytes]) -> Mapping[bytes, bool]:
        """Of the ids that are known: whether the key is held, False if it was destroyed."""
        ...

    def rotate(
        self,
        new_key: str | None = None,
        new_file: str | None = None,
        on_progress: OnKeys | None = None,
    ) -> KeyRotation:
        """Wrap everything anew under another master key; see `Keys.rotate` in the engine."""
        ...

    def backup(self, path: str, now_ms: int, on_progress: OnKeys | None = None) -> LastBackup:
        """Write a copy of the store as of one moment to a file, read back before it counts."""
        ...

    def restore(
        self,
        path: str,
        erased: ErasedPages,
        master_key_file: str | None = None,
        on_progress: OnKeys | None = None,
    ) -> KeyRestore:
        """Bring back from a backup what is missing here, and nothing that is `erased`."""
        ...


class ManagedKeyStore(KeyStore, KeyMaintenance, Protocol):
    """A key store that can also be looked after."""
