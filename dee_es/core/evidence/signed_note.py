"""Signed texts by C2SP signed-note, the form of checkpoints, certificates and manifests.

    text                            one or more lines
                                    (empty line)
    — <key name> <base64 of the key's id (4 bytes) and the signature (64 bytes)>

The signature is of everything up to and including the newline before the empty line. Further
signatures, of witnesses, may follow; those of unknown keys are passed over.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from dee_es.errors import InvalidInput

ED25519: Final = b"\x01"
"""The kind of signature, as part of a key's id."""
KEY_BYTES: Final = 32
_ID_BYTES: Final = 4
_SIGNATURE_BYTES: Final = 64
_DASH: Final = "\u2014 "
_SEPARATOR: Final = "\n\n"

Sign = Callable[[bytes], bytes]
Verify = Callable[[bytes, bytes], bool]
"""Takes a signature and a message."""


class VerifierKey(Struct, frozen=True):
    """A public Ed25519 key with its name."""

    name: str
    public: bytes

    @property
    def key_id(self) -> bytes:
        """Four bytes by which a signature says whose it is."""
        named = self.name.encode() + b"\n" + ED25519 + self.public
        return hashlib.sha256(named).digest()[:_ID_BYTES]

    def __str__(self) -> str:
        encoded = base64.b64encode(ED25519 + self.public).decode()
        return f"{self.name}+{self.key_id.hex()}+{encoded}"


def parse_key(text: str) -> VerifierKey:
    """Read `name+id+key`, the form in which public keys are handed on; raises `InvalidInput`."""
    try:
        name, key_id, encoded = text.strip().split("+", 2)
        held = base64.b64decode(encoded, validate=True)
    except (ValueError, binascii.Error):
        raise InvalidInput("verifier key", "must be NAME+ID+KEY") from None
    key = VerifierKey(name, held[1:])
    if held[:1] != ED25519 or len(held) != 1 + KEY_BYTES or not name:
        raise InvalidInput("verifier key", "must be an Ed25519 key")
    if key.key_id.hex() != key_id:
        raise InvalidInput("verifier key", "its id is not that of its name and key")
    return key


def sign_note(text: str, key: VerifierKey, sign: Sign) -> str:
    """The text with a signature; it must end with a newline and hold no empty line."""
    if not text.endswith("\n") or _SEPARATOR in text:
        raise ValueError("a text that is signed ends with a newline and holds no empty line")
    signature = base64.b64encode(key.key_id + sign(text.encode())).decode()
    return f"{text}\n{_DASH}{key.name} {signature}\n"


def open_note(note: str, what: str, key: VerifierKey, verify: Verify) -> str:
    """The text that this key has signed; raises `InvalidInput` naming `what` it is not."""
    text, separator, signatures = note.partition(_SEPARATOR)
    if not separator or not note.endswith("\n"):
        raise InvalidInput(what, "is not a signed note")
    text += "\n"
    if not any(_signs(line, key, text, verify) for line in signatures.splitlines()):
        raise InvalidInput(what, f"is not signed by {key.name} ({key.key_id.hex()})")
    return text


def _signs(line: str, key: VerifierKey, text: str, verify: Verify) -> bool:
    name, _, encoded = line.removeprefix(_DASH).rpartition(" ")
    if not line.startswith(_DASH) or name != key.name:
        return False
    try:
        held = base64.b64decode(encoded, validate=True)
    except (ValueError, binascii.Error):
        return False
    own = held[:_ID_BYTES] == key.key_id and len(held) == _ID_BYTES + _SIGNATURE_BYTES
    return own and verify(held[_ID_BYTES:], text.encode())
