"""The last entry of every stream, in little memory: a log may have millions of streams."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterable, Iterator
from typing import Final

from msgspec import Struct

from dee_es.core.evidence import chain
from dee_es.core.evidence.chunk_check import OF_LINK, OF_VERSION, missing_before
from dee_es.core.evidence.spans import (
    BEGINNING,
    KEY_BYTES,
    LINK_BYTES,
    link,
    next_of,
    unpack_spans,
)

_POSITION: Final = struct.Struct(">q")
_SIZE: Final = LINK_BYTES + _POSITION.size
_FIRST_SLOTS: Final = 1024
_NO_HEAD: Final = (struct.error, *chain.NOT_TYPED_ERRORS)
"""What comes of packing a head in which something stands that the engine never writes."""


class StreamEnd(Struct, frozen=True):
    """The last entry seen of a stream, and the position of one of its entries."""

    version: int
    position: int
    checksum: bytes


class Unfit(Struct, frozen=True):
    """An entry that does not continue its stream: where it is, what is wrong, and why."""

    position: int
    rank: int
    text: str


class StreamEnds:
    """A hash table of records of 80 bytes, with open addressing: a dict of objects would take
    three times as much. A record is the link that the stream's last entry leaves, and a position;
    they are compared and replaced as bytes, since very many are."""

    def __init__(self) -> None:
        # The first record is of no stream, so that 0 stands for none.
        self._records = bytearray(_SIZE)
        self._slots = array("I", bytes(4 * _FIRST_SLOTS))
        self._count = 0
        self._found = bytearray()

    def __len__(self) -> int:
        return self._count

    def follow(self, spans: bytes) -> list[Unfit]:
        """Go on by what a chunk has of each stream; returns what does not fit."""
        unfit = []
        records, slots, mask = self._records, self._slots, len(self._slots) - 1
        size, key_bytes, link_bytes = _SIZE, KEY_BYTES, LINK_BYTES
        for claimed, end in unpack_spans(spans):
            key = claimed[:key_bytes]
            slot = hash(key) & mask
            while number := slots[slot]:
                at = number * size
                left = records[at : at + link_bytes]
                if left == claimed:
                    records[at + key_bytes : at + size] = end
                    break
                if left.startswith(key):
                    unfit += _misfit(bytes(left), claimed, end)
                    records[at + key_bytes : at + size] = end
                    break
                slot = (slot + 1) & mask
            else:
                self._count += 1
                slots[slot] = self._count
                records += key + end
                if not claimed.endswith(BEGINNING):
                    unfit += _misfit(key + BEGINNING, claimed, end)
                if 2 * self._count > len(slots):
                    slots = self._grow()
                    mask = len(slots) - 1
        return unfit

    def differing(
        self, heads: Iterable[tuple[str, int, bytes]]
    ) -> Iterator[tuple[str, tuple[int, bytes]]]:
        """Of streams with version and checksum of their heads, those that have not ended so here,
        with both. None of the streams is then among those never found."""
        self._mark(0)
        for stream, version, checksum in heads:
            try:
                left = link(stream, version, checksum)
            except _NO_HEAD:
                self._mark(self._number_of(stream))
                yield stream, (version, checksum)
                continue
            number = self._number(left[:KEY_BYTES])
            self._found[number] = 1
            at = number * _SIZE
            # One of another length would have been cut or filled up.
            if self._records[at : at + LINK_BYTES] != left or len(checksum) != chain.CHECKSUM_BYTES:
                yield stream, (version, checksum)

    def find(self, stream: str) -> StreamEnd | None:
        """The end of a stream, which is then no longer among those never found."""
        number = self._number_of(stream)
        self._mark(number)
        return self._end(number) if number else None

    def _number_of(self, stream: str) -> int:
        try:
            return self._number(link(stream, 0, b"")[:KEY_BYTES])
        except _NO_HEAD:
            return 0

    def never_found(self) -> Iterator[StreamEnd]:
        """The ends of the streams that nobody looked for."""
        self._mark(0)
        for number in range(1, self._count + 1):
            if not self._found[number]:
                yield self._end(number)

    def _end(self, number: int) -> StreamEnd:
        record = bytes(self._records[number * _SIZE : (number + 1) * _SIZE])
        version, checksum = next_of(record[:LINK_BYTES])
        (position,) = _POSITION.unpack(record[LINK_BYTES:])
        return StreamEnd(version - 1, position, checksum)

    def _number(self, key: bytes) -> int:
        """The number of a stream's record, 0 if it has none."""
        records, slots, mask = self._records, self._slots, len(self._slots) - 1
        slot = hash(key) & mask
        while number := slots[slot]:
            at = number * _SIZE
            if records[at : at + KEY_BYTES] == key:
                break
            slot = (slot + 1) & mask
        return number

    def _mark(self, number: int) -> None:
        if len(self._found) <= self._count:
            self._found += bytes(self._count + 1 - len(self._found))
        self._found[number] = 1

    def _grow(self) -> array[int]:
        slots = array("I", bytes(8 * len(self._slots)))
        mask = len(slots) - 1
        for number in range(1, self._count + 1):
            at = number * _SIZE
            slot = hash(bytes(self._records[at : at + KEY_BYTES])) & mask
            while slots[slot]:
                slot = (slot + 1) & mask
            slots[slot] = number
        self._slots = slots
        return slots


def _misfit(left: bytes, claimed: bytes, end: bytes) -> list[Unfit]:
    """What is wrong with an entry that claims another link than was left, if anything is."""
    (position,) = _POSITION.unpack(end[-_POSITION.size :])
    (expected, _), (first, before) = next_of(left), next_of(claimed)
    if first != expected:
        return [Unfit(position, OF_VERSION, missing_before(expected))]
    # Behind an archived entry nobody can say more than its version.
    if before == chain.UNKNOWN:
        return []
    return [Unfit(position, OF_LINK, chain.NOT_LINKED)]
