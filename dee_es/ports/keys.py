"""Keys of contacts, and the encryption of what is personal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol


class KeyStore(Protocol):
    """Keys of contacts; it hands out ids and does the encryption, so keys never leave it."""

    def new_keys(self, count: int) -> list[bytes]:
        """Ids (16 bytes) of fresh keys that are already durable."""
        ...

    def encrypt(self, key_id: bytes, stream_id: str, version: int, plaintext: bytes) -> bytes:
        """AES-256-GCM-SIV with stream id and version as associated data; same input, same bytes."""
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

    def digest(self, kind: str, normalized: str) -> str:
        """Keyed digest of a normalized address, as 64 hex digits: equal for equal addresses, and
        of no use to who has not the key."""
        ...

    def close(self) -> None:
        """Release the store."""
        ...
