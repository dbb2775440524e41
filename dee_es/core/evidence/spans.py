"""What a stretch of the log has of each stream, in packed records: how stretches are joined.

A link says how a stream goes on: its key, the next version, and the checksum that comes before it.
An entry claims one link and leaves another; where what is claimed is what was left, nothing is
missing. A span is the link that a stream's first entry in a stretch claims, and its `end`: what
follows the key in the link that the last one leaves, and the position of the first.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator
from typing import Final

from dee_es.core.evidence import chain

_MOST_OF_STREAM: Final = 30
_DIGEST: Final = _MOST_OF_STREAM + 1
KEY_BYTES: Final = 1 + _DIGEST
"""Of a key as it is packed: behind its length."""
_LINK: Final = struct.Struct(f">{KEY_BYTES}pQ32s")
_SPAN: Final = struct.Struct(f">{KEY_BYTES}pQ32sQ32sq")
LINK_BYTES: Final = _LINK.size
_OPENED: Final = struct.Struct(f"{LINK_BYTES}s{_SPAN.size - LINK_BYTES}s")
_UNSIGNED: Final = 2**64 - 1

Began = tuple[int, int, bytes]
"""Of the first entry of a stream: position, version and previous checksum."""
Ended = tuple[int, bytes]
"""Of the last one: version and checksum."""


def stream_key(stream: str) -> bytes:
    """What stands for a stream where there are many: the stream itself if it is no longer than a
    run's id, else 248 bits of its SHA-256. Such keys are longer, so that none is another's."""
    name = stream.encode()
    if len(name) <= _MOST_OF_STREAM:
        return name
    return hashlib.sha256(name).digest()[:_DIGEST]


def link(stream: str, version: int, checksum: bytes) -> bytes:
    """The link that an entry leaves."""
    return _LINK.pack(stream_key(stream), version + 1 & _UNSIGNED, checksum)


def next_of(packed: bytes) -> tuple[int, bytes]:
    """The version that comes next by a link, and the checksum before it."""
    _, version, checksum = _LINK.unpack(packed)
    return version, checksum


BEGINNING: Final = link("", 0, chain.GENESIS)[KEY_BYTES:]
"""What follows the key in the link that a stream begins with."""


def pack_spans(streams: Iterable[tuple[str, Began, Ended]]) -> bytes:
    """The spans of so many streams."""
    pack, key, unsigned = _SPAN.pack, stream_key, _UNSIGNED
    return b"".join(
        [
            pack(key(stream), first & unsigned, before, last + 1 & unsigned, own, position)
            for stream, (position, first, before), (last, own) in streams
        ]
    )


def unpack_spans(spans: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The link and the end of each."""
    return _OPENED.iter_unpack(spans)
