"""How keys and personal data are encrypted; no state and no storage."""

from __future__ import annotations

import hashlib
import struct
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

from dee_es.core.ids import length_prefixed

KEY_BYTES: Final = 32
KEY_ID_BYTES: Final = 16
_NONCE_BYTES: Final = 12
_KINDS: Final = 64
"""Kinds of digests that are remembered: there are a few."""
_LENGTH: Final = struct.Struct(">I").pack
_VERSION: Final = struct.Struct(">IQ").pack
_SECRET_LABEL: Final = b"dee-es key store secret"
_FINGERPRINT_LABEL: Final = b"dee-es master key"


class Wrapper:
    """Wraps other keys with the master key; what is wrapped is bound to what it is for."""

    def __init__(self, master: bytes) -> None:
        self._cipher = AESGCMSIV(master)
        self.fingerprint = hashlib.blake2b(_FINGERPRINT_LABEL, key=master, digest_size=16).digest()
        """Tells master keys apart, and nothing else about them."""

    def wrap(self, key_id: bytes, key: bytes) -> bytes:
        """The key, encrypted, and bound to its id."""
        return self._cipher.encrypt(key_id[:_NONCE_BYTES], key, key_id)

    def unwrap(self, key_id: bytes, wrapped: bytes) -> bytes | None:
        """The key; None if this is not what was wrapped for the id with this master key."""
        return _open(self._cipher, key_id[:_NONCE_BYTES], wrapped, key_id)

    def wrap_secret(self, secret: bytes) -> bytes:
        """The store's own secret, encrypted."""
        return self._cipher.encrypt(_nonce(_SECRET_LABEL), secret, _SECRET_LABEL)

    def unwrap_secret(self, wrapped: bytes) -> bytes | None:
        """The store's own secret; None if it was wrapped with another master key."""
        return _open(self._cipher, _nonce(_SECRET_LABEL), wrapped, _SECRET_LABEL)

    def __repr__(self) -> str:
        return "Wrapper(...)"


def encrypt(key: bytes, stream_id: str, version: int, plaintext: bytes) -> bytes:
    """AES-256-GCM-SIV of the plaintext, bound to its place in the log."""
    place = _place(stream_id, version)
    return AESGCMSIV(key).encrypt(_nonce(place), plaintext, place)


def decrypt(key: bytes, stream_id: str, version: int, ciphertext: bytes) -> bytes | None:
    """The plaintext; None if this is not what was encrypted there with this key."""
    place = _place(stream_id, version)
    return _open(AESGCMSIV(key), _nonce(place), ciphertext, place)


class Digests:
    """Keyed BLAKE2b (RFC 7693) of kinds of texts, as 64 hex digits; kinds do not share digests."""

    def __init__(self, secret: bytes) -> None:
        self._keyed = hashlib.blake2b(key=secret, digest_size=32)
        self._kinds: dict[str, hashlib.blake2b] = {}

    def of(self, kind: str, text: str) -> str:
        """The digest of both, as `length_prefixed` joins them."""
        # Every enrolment makes two of these: what all of a kind begin with is copied, which takes
        # half as long as to begin anew.
        begun = self._kinds.get(kind) or self._begin(kind)
        digest, content = begun.copy(), text.encode()
        digest.update(_LENGTH(len(content)) + content)
        return digest.hexdigest()

    def _begin(self, kind: str) -> hashlib.blake2b:
        begun = self._keyed.copy()
        begun.update(length_prefixed((kind.encode(),)))
        if len(self._kinds) < _KINDS:
            self._kinds[kind] = begun
        return begun

    def __repr__(self) -> str:
        return "Digests(...)"


def _place(stream_id: str, version: int) -> bytes:
    # length_prefixed((stream id, version as 8 bytes)), written out: this is a hot path.
    stream = stream_id.encode()
    return b"".join((_LENGTH(len(stream)), stream, _VERSION(8, version)))


def _nonce(associated: bytes) -> bytes:
    # Derived, not drawn, so that the same event has the same bytes when it is decided again. A
    # refused append is decided anew at the same place with other content, under the same nonce:
    # GCM would be broken by that, GCM-SIV only tells whether two plaintexts were equal.
    return hashlib.sha256(associated).digest()[:_NONCE_BYTES]


def _open(cipher: AESGCMSIV, nonce: bytes, ciphertext: bytes, associated: bytes) -> bytes | None:
    try:
        return cipher.decrypt(nonce, ciphertext, associated)
    except (InvalidTag, ValueError):
        return None
