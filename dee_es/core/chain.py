"""The hash chain of a stream, and the bytes of a stored event.

A stored state is `tag | previous checksum | own checksum | payload`. The checksum covers all that
the database keeps of an event but its place in the log, so that a change to any of it shows. It can
be checked without a class of this project, without a key, and after an erasure.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from dee_es.core.ids import length_prefixed
from dee_es.errors import IntegrityViolation

FORMAT: Final = b"DEE1"
CHECKSUM_BYTES: Final = 32
GENESIS: Final = bytes(CHECKSUM_BYTES)
"""The previous checksum of a stream's first event: 64 zeros in hex."""
HEADER_BYTES: Final = len(FORMAT) + 2 * CHECKSUM_BYTES


@dataclass(frozen=True, slots=True)
class SealedState:
    """A stored state taken apart; nothing in it has been verified yet."""

    previous: bytes
    checksum: bytes
    payload: bytes


def checksum(stream_id: str, version: int, name: str, previous: bytes, payload: bytes) -> bytes:
    """SHA-256 over the length-prefixed format tag, stream, version, name, previous and payload."""
    parts = (
        FORMAT,
        stream_id.encode(),
        version.to_bytes(8, "big"),
        name.encode(),
        previous,
    )
    digest = hashlib.sha256(length_prefixed(parts))
    digest.update(len(payload).to_bytes(4, "big"))
    digest.update(payload)
    return digest.digest()


def seal(
    stream_id: str, version: int, name: str, previous: bytes, payload: bytes
) -> tuple[bytes, bytes]:
    """Return the checksum and the state to store for an event."""
    own = checksum(stream_id, version, name, previous, payload)
    return own, b"".join((FORMAT, previous, own, payload))


def unseal(state: bytes, where: str) -> SealedState:
    """Take a stored state apart; raises `IntegrityViolation` naming `where` if it is malformed."""
    if len(state) < HEADER_BYTES or state[: len(FORMAT)] != FORMAT:
        raise IntegrityViolation(f"{where}: the stored state is not in a format this code knows")
    middle = len(FORMAT) + CHECKSUM_BYTES
    return SealedState(
        state[len(FORMAT) : middle], state[middle:HEADER_BYTES], state[HEADER_BYTES:]
    )


def fault(stream_id: str, version: int, name: str, previous: bytes, state: bytes) -> str | None:
    """Say what is wrong with a stored event that follows `previous`, or None if it verifies."""
    try:
        sealed = unseal(state, "entry")
    except IntegrityViolation:
        return "the stored state is malformed"
    if sealed.previous != previous:
        return "the previous checksum is not that of the entry before it"
    if sealed.checksum != checksum(stream_id, version, name, previous, sealed.payload):
        return "the checksum does not match what is stored"
    return None
