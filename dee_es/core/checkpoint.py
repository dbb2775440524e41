"""Signed checkpoints: what they say, and their text by C2SP tlog-checkpoint and signed-note.

    dee-es/<id of the log>          origin: which log
    <number of entries>             decimal
    <root of the Merkle tree>       base64
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
from dataclasses import dataclass
from typing import Final

from dee_es.core.merkle import HASH_BYTES
from dee_es.errors import InvalidInput

ED25519: Final = b"\x01"
"""The kind of signature, as part of a key's id."""
KEY_BYTES: Final = 32
_ID_BYTES: Final = 4
_SIGNATURE_BYTES: Final = 64
_DASH: Final = "\u2014 "
_MOST: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state of a log: its first `size` entries and the root of the tree over them."""

    origin: str
    size: int
    root: bytes

    @property
    def body(self) -> str:
        """The text that is signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


@dataclass(frozen=True, slots=True)
class VerifierKey:
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


def origin_of(first_checksum: bytes) -> str:
    """The name of a log, from the checksum of its first entry, which no two logs share."""
    return f"dee-es/{first_checksum.hex()[:32]}"


def signed(checkpoint: Checkpoint, key: VerifierKey, sign: Callable[[bytes], bytes]) -> str:
    """The text of the checkpoint with a signature."""
    body = checkpoint.body
    signature = base64.b64encode(key.key_id + sign(body.encode())).decode()
    return f"{body}\n{_DASH}{key.name} {signature}\n"


def opened(note: str, key: VerifierKey, verify: Callable[[bytes, bytes], bool]) -> Checkpoint:
    """The checkpoint in a text that this key has signed; `verify` takes signature and message.

    Raises `InvalidInput` saying what is wrong with it.
    """
    body, separator, signatures = note.partition("\n\n")
    if len(note) > _MOST or not separator or not note.endswith("\n"):
        raise InvalidInput("checkpoint", "is not a signed note")
    body += "\n"
    if not any(_signs(line, key, body, verify) for line in signatures.splitlines()):
        raise InvalidInput("checkpoint", f"is not signed by {key.name} ({key.key_id.hex()})")
    return parse_body(body)


def parse_body(body: str) -> Checkpoint:
    """The checkpoint in a text whose signature somebody else looks at; raises `InvalidInput`."""
    lines = body.split("\n")
    try:
        origin, size, root = lines[0], lines[1], base64.b64decode(lines[2], validate=True)
        number = int(size)
    except (IndexError, ValueError, binascii.Error):
        raise InvalidInput("checkpoint", "has no origin, size and root") from None
    if not origin or str(number) != size or number < 0 or len(root) != HASH_BYTES:
        raise InvalidInput("checkpoint", "has no origin, size and root")
    return Checkpoint(origin, number, root)


def _signs(line: str, key: VerifierKey, body: str, verify: Callable[[bytes, bytes], bool]) -> bool:
    name, _, encoded = line.removeprefix(_DASH).rpartition(" ")
    if not line.startswith(_DASH) or name != key.name:
        return False
    try:
        held = base64.b64decode(encoded, validate=True)
    except (ValueError, binascii.Error):
        return False
    own = held[:_ID_BYTES] == key.key_id and len(held) == _ID_BYTES + _SIGNATURE_BYTES
    return own and verify(held[_ID_BYTES:], body.encode())
