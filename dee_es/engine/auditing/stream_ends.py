"""The last entry of every stream, in little memory: a log may have millions of streams."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from dee_es.core.evidence import chain
from dee_es.core.evidence.chunk_check import (
    OF_LINK,
    OF_VERSION,
    STREAM_KEY,
    missing_before,
    stream_key,
    unpack_spans,
)

_KEY: Final = struct.Struct(STREAM_KEY)
_RECORD: Final = struct.Struct(f">{STREAM_KEY}qq32s")
_FIRST_SLOTS: Final = 1024


@dataclass(frozen=True, slots=True)
class StreamEnd:
    """The last entry seen of a stream, and the position of one of its entries."""

    version: int
    position: int
    checksum: bytes


@dataclass(frozen=True, slots=True)
class Unfit:
    """An entry that does not continue its stream: where it is, what is wrong, and why."""

    position: int
    rank: int
    text: str


class StreamEnds:
    """A hash table of records of 80 bytes, with open addressing: a dict of objects would take
    three times as much."""

    def __init__(self) -> None:
        self._records = bytearray()
        self._slots = array("I", bytes(4 * _FIRST_SLOTS))
        self._count = 0
        self._found = bytearray()

    def __len__(self) -> int:
        return self._count

    def follow(self, spans: bytes) -> list[Unfit]:
        """Go on by what a chunk has of each stream; returns what does not fit."""
        unfit = []
        records, slots, mask = self._records, self._slots, len(self._slots) - 1
        unpack, pack_into, size = _RECORD.unpack_from, _RECORD.pack_into, _RECORD.size
        for key, position, first, previous, version, checksum in unpack_spans(spans):
            slot = hash(key) & mask
            last, expected = chain.GENESIS, 1
            while number := slots[slot]:
                at = (number - 1) * size
                held_key, held_version, _, held = unpack(records, at)
                if held_key == key:
                    last, expected = held, held_version + 1
                    pack_into(records, at, key, version, position, checksum)
                    break
                slot = (slot + 1) & mask
            else:
                self._count += 1
                slots[slot] = self._count
                records += _RECORD.pack(key, version, position, checksum)
                if 2 * self._count > len(slots):
                    slots = self._grow()
                    mask = len(slots) - 1
            if first != expected:
                unfit.append(Unfit(position, OF_VERSION, missing_before(expected)))
            elif previous not in (last, chain.UNKNOWN):
                unfit.append(Unfit(position, OF_LINK, chain.NOT_LINKED))
        return unfit

    def differing(
        self, heads: Iterable[tuple[str, int, bytes]]
    ) -> Iterator[tuple[str, tuple[int, bytes]]]:
        """Of streams with version and checksum of their heads, those that have not ended so here,
        with both. None of the streams is then among those never found."""
        self._mark(0)
        for stream, version, checksum in heads:
            number = self._number(stream)
            if number:
                self._found[number] = 1
                _, ended, _, last = _RECORD.unpack_from(self._records, (number - 1) * _RECORD.size)
                if ended == version and last == checksum:
                    continue
            yield stream, (version, checksum)

    def find(self, stream: str) -> StreamEnd | None:
        """The end of a stream, which is then no longer among those never found."""
        number = self._number(stream)
        if not number:
            return None
        self._mark(number)
        _, version, position, checksum = _RECORD.unpack_from(
            self._records, (number - 1) * _RECORD.size
        )
        return StreamEnd(version, position, checksum)

    def _number(self, stream: str) -> int:
        """The number of a stream's record, 0 if it has none."""
        key = stream_key(stream)
        slots, mask = self._slots, len(self._slots) - 1
        slot = hash(key) & mask
        while number := slots[slot]:
            if self._key(number) == key:
                break
            slot = (slot + 1) & mask
        return number

    def never_found(self) -> Iterator[StreamEnd]:
        """The ends of the streams that nobody looked for."""
        self._mark(0)
        for number in range(1, self._count + 1):
            if not self._found[number]:
                _, version, position, checksum = _RECORD.unpack_from(
                    self._records, (number - 1) * _RECORD.size
                )
                yield StreamEnd(version, position, checksum)

    def _key(self, number: int) -> bytes:
        (key,) = _KEY.unpack_from(self._records, (number - 1) * _RECORD.size)
        return bytes(key)

    def _mark(self, number: int) -> None:
        if len(self._found) <= self._count:
            self._found += bytes(self._count + 1 - len(self._found))
        self._found[number] = 1

    def _grow(self) -> array[int]:
        slots = array("I", bytes(8 * len(self._slots)))
        mask = len(slots) - 1
        for number in range(1, self._count + 1):
            slot = hash(self._key(number)) & mask
            while slots[slot]:
                slot = (slot + 1) & mask
            slots[slot] = number
        self._slots = slots
        return slots
