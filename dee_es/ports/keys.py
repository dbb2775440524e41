"""Keys of contacts, and the encryption of what is personal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol


class KeyStore(Protocol):
    """Keys of contacts; it hands out ids and does the encryption, so that keys leave it only when
    somebody exports what is encrypted under one."""

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

    def destroy(self, key_id: bytes) -> None:
        """Destroy a key for ever, durably; again changes nothing. Raises `IntegrityViolation` for
        an unknown one."""
        ...

    def close(self) -> None:
        """Release the store."""
        ...
