"""Checkpoints: what they say of the log, and their text by C2SP tlog-checkpoint.

dee-es/<id of the log>          origin: which log
<number of entries>             decimal
<root of the Merkle tree>       base64
                                (then the signatures, see `signed_note`)
"""

from __future__ import annotations

import base64
import binascii
from typing import Final

from msgspec import Struct

from dee_es.core.evidence.merkle import HASH_BYTES
from dee_es.core.evidence.signed_note import Sign, VerifierKey, Verify, open_note, sign_note
from dee_es.errors import InvalidInput

_MOST: Final = 64 * 1024


class Checkpoint(Struct, frozen=True):
    """The state of a log: its first `size` entries and the root of the tree over them."""

    origin: str
    size: int
    root: bytes

    @property
    def body(self) -> str:
        """The text that is signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


def origin_of(first_checksum: bytes) -> str:
    """The name of a log, from the checksum of its first entry, which no two logs share."""
    return f"dee-es/{first_checksum.hex()[:32]}"


def signed(checkpoint: Checkpoint, key: VerifierKey, sign: Sign) -> str:
    """The text of the checkpoint with a signature."""
    return sign_note(checkpoint.body, key, sign)


def opened(note: str, key: VerifierKey, verify: Verify) -> Checkpoint:
    """The checkpoint in a text that this key has signed; raises `InvalidInput`."""
    if len(note) > _MOST:
        raise InvalidInput("checkpoint", "is not a signed note")
    return parse_body(open_note(note, "checkpoint", key, verify))


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
