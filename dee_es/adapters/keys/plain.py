"""The key store of a database that keeps what is personal in plain."""

from __future__ import annotations

from collections.abc import Iterable

from dee_es.errors import IntegrityViolation, InvalidInput
from dee_es.ports import KeyStore
from dee_es.ports.keys import NO_KEY


class PlainKeys:
    """A `KeyStore` that encrypts nothing; addresses still get the keyed digests of the store under
    it. What is read must have been written so: an encrypted entry is refused."""

    encrypts = False

    def __init__(self, digests: KeyStore) -> None:
        self._digests = digests

    def new_keys(self, count: int) -> list[bytes]:
        """See `KeyStore.new_keys`: nobody has a key."""
        return [NO_KEY] * count

    def encrypt(self, key_id: bytes, stream_id: str, version: int, plaintext: bytes) -> bytes:
        """See `KeyStore.encrypt`: the text as it is."""
        _require_plain(key_id, stream_id, version)
        return plaintext

    def decrypt(
        self, key_id: bytes, stream_id: str, version: int, ciphertext: bytes
    ) -> bytes | None:
        """See `KeyStore.decrypt`: the text as it is."""
        _require_plain(key_id, stream_id, version)
        return ciphertext

    def preload(self, key_ids: Iterable[bytes]) -> None:
        """See `KeyStore.preload`: there is nothing to fetch."""

    def reveal(self, key_id: bytes) -> bytes | None:
        """See `KeyStore.reveal`: there is no key."""
        return None

    def adopt(self, key_id: bytes, key: bytes | None) -> bool:
        """See `KeyStore.adopt`: only that there is no key."""
        return key_id == NO_KEY and key is None

    def digest(self, kind: str, normalized: str) -> str:
        """See `KeyStore.digest`."""
        return self._digests.digest(kind, normalized)

    def seal(self, name: str, plaintext: bytes) -> bytes:
        """See `KeyStore.seal`: the text as it is."""
        return plaintext

    def unseal(self, name: str, sealed: bytes) -> bytes | None:
        """See `KeyStore.unseal`: the text as it is."""
        return sealed

    def check(self) -> None:
        """See `KeyStore.check`."""
        self._digests.check()

    def destroy(self, key_id: bytes) -> None:
        """See `KeyStore.destroy`; raises `InvalidInput`: what is plain cannot be destroyed."""
        raise InvalidInput("personal data", "is stored in plain here: there is no key to destroy")

    def close(self) -> None:
        """See `KeyStore.close`."""
        self._digests.close()


def _require_plain(key_id: bytes, stream_id: str, version: int) -> None:
    if key_id != NO_KEY:
        raise IntegrityViolation(
            f"{stream_id}, version {version}: the entry is encrypted, but this database was made "
            "with personal data off"
        )
