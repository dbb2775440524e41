"""The hash chain of a stream, and the bytes of a stored event.

A stored state is `tag | previous checksum | own checksum | payload`. The checksum covers all that
the database keeps of an event but its place in the log, so that a change to any of it shows. It can
be checked without a class of this project, without a key, and after an erasure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

import msgspec

from dee_es.core.ids import length_prefixed
from dee_es.errors import IntegrityViolation

FORMAT: Final = b"DEE1"
CHECKSUM_BYTES: Final = 32
GENESIS: Final = bytes(CHECKSUM_BYTES)
"""The previous checksum of a stream's first event: 64 zeros in hex."""
HEADER_BYTES: Final = len(FORMAT) + 2 * CHECKSUM_BYTES

Entry = tuple[int, str, int, str, bytes]
"""Position, stream, version, name and state of an entry, as they came from the database: of types
that only the engine vouches for, and of nothing else."""
Stone = tuple[int, str, int, bytes]
"""Position, stream, version and checksum of an entry that was archived, as Entry is vouched for."""
UNKNOWN: Final = b"\xff" * CHECKSUM_BYTES
"""In the place of the previous checksum of an entry that was archived."""
Checksum = Callable[[str, int, str, bytes, bytes], bytes]

MALFORMED: Final = "the stored state is malformed"
NOT_LINKED: Final = "the previous checksum is not that of the entry before it"
NOT_ITS_CHECKSUM: Final = "the checksum does not match what is stored"
NOT_TYPED_ERRORS: Final = (AttributeError, OverflowError, TypeError, ValueError)
"""What using an entry as one raises if a column holds something else than it ever could."""
NOT_TYPED: Final = "a column of it holds what the engine never writes"

_SMALL: Final = 4096


class SealedState(msgspec.Struct, frozen=True, gc=False):
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
    own = _quick(stream_id, version, name, previous, payload)
    return own, b"".join((FORMAT, previous, own, payload))


def unseal(state: bytes, where: object) -> SealedState:
    """Take a stored state apart; raises `IntegrityViolation` naming `where` if it is malformed."""
    try:
        malformed = is_malformed(state)
    except TypeError:  # SQLite keeps anything in any column.
        malformed = True
    if malformed:
        raise IntegrityViolation(f"{where}: the stored state is not in a format this code knows")
    middle = len(FORMAT) + CHECKSUM_BYTES
    return SealedState(
        state[len(FORMAT) : middle], state[middle:HEADER_BYTES], state[HEADER_BYTES:]
    )


def previous_of(state: bytes) -> bytes:
    """The previous checksum in a stored state that was sealed here."""
    return state[len(FORMAT) : len(FORMAT) + CHECKSUM_BYTES]


def is_malformed(state: bytes) -> bool:
    """Whether a stored state cannot be taken apart."""
    return len(state) < HEADER_BYTES or state[: len(FORMAT)] != FORMAT


def fault(stream_id: str, version: int, name: str, previous: bytes, state: bytes) -> str | None:
    """Say what is wrong with a stored event that follows `previous`, or None if it verifies."""
    try:
        if is_malformed(state):
            return MALFORMED
        sealed = unseal(state, "entry")
        if sealed.previous != previous:
            return NOT_LINKED
        if sealed.checksum != checksum(stream_id, version, name, previous, sealed.payload):
            return NOT_ITS_CHECKSUM
    except NOT_TYPED_ERRORS:
        return NOT_TYPED
    return None


class Middles(dict[tuple[int, str], bytes]):
    """Of versions and names, what stands between stream and previous checksum in the bytes that a
    checksum covers; they are few, and many entries share them."""

    def __missing__(self, key: tuple[int, str]) -> bytes:
        version, name = key
        middle = length_prefixed((version.to_bytes(8, "big"), name.encode()))
        middle += CHECKSUM_BYTES.to_bytes(4, "big")
        if len(self) < _SMALL:
            self[key] = middle
        return middle


class Lengths(dict[int, bytes]):
    """Lengths as they stand before a part; those of nearly all parts are kept."""

    def __missing__(self, size: int) -> bytes:
        length = size.to_bytes(4, "big")
        if size < _SMALL:
            self[size] = length
        return length


START: Final = length_prefixed((FORMAT,))
"""What the bytes that a checksum covers begin with."""


def hasher() -> Checksum:
    """`checksum` for many entries: it keeps the bytes that names and versions have in common."""
    sha256, join, middles, lengths = hashlib.sha256, b"".join, Middles(), Lengths()

    def of(stream_id: str, version: int, name: str, previous: bytes, payload: bytes) -> bytes:
        stream = stream_id.encode()
        middle = middles[version, name]
        lead, size = lengths[len(stream)], lengths[len(payload)]
        parts = (START, lead, stream, middle, previous, size, payload)
        return sha256(join(parts)).digest()

    return of


_quick: Final = hasher()
