"""What stays in the log of archived entries, held against what the log says of each archive."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from dee_es.core import codec
from dee_es.core import events as e
from dee_es.core.evidence import chain
from dee_es.core.evidence.merkle import Edge
from dee_es.core.ids import SYSTEM_STREAM
from dee_es.core.printing import printable
from dee_es.errors import DeeError
from dee_es.ports import EventStore

_PAGE: Final = 10_000


def archive_faults(store: EventStore, end: int) -> list[str]:
    """What is wrong with tombstones up to a position: each archive's must lead to the root that was
    recorded with it, and all must be of an archive that was recorded."""
    edges: dict[int, Edge] = {}
    first: dict[int, int] = {}
    for after in range(0, end, _PAGE):
        leaves: dict[int, list[bytes]] = {}
        for stone in store.tombstones(after, min(after + _PAGE, end)):
            first.setdefault(stone.archive, stone.position)
            leaves.setdefault(stone.archive, []).append(stone.checksum)
        for number, checksums in leaves.items():
            # What is no checksum has been told already; the root will not be right.
            with suppress(TypeError):
                edges[number] = edges.get(number, Edge()).extended(checksums)
    # Read last: what was archived meanwhile is then among them.
    told = _archives(store)
    found = [
        f"position {first[number]}: the entry is missing, and no archive "
        f"{printable(str(number))} was recorded"
        # By position: what stands for a number may be none.
        for number in sorted(first.keys() - told.keys(), key=first.__getitem__)
    ]
    for number, (position, event) in sorted(told.items()):
        kept = edges.get(number, Edge())
        if position <= end and (kept.size, kept.root.hex()) != (event.entries, event.root):
            found.append(
                f"archive {number}: what the log keeps of its {event.entries} entries between "
                f"positions {event.first} and {event.last} is not what was archived"
            )
    return found


def _archives(store: EventStore) -> dict[int, tuple[int, e.LogArchived]]:
    """The archives that were recorded, by number, each with the position of its record."""
    told: dict[int, tuple[int, e.LogArchived]] = {}
    for row in store.read_stream(SYSTEM_STREAM):
        # What cannot be read any more is told by whoever checks its chain.
        with suppress(DeeError, *chain.NOT_TYPED_ERRORS):
            if row.name == "LogArchived":
                public, _ = codec.split(chain.unseal(row.state, "entry").payload, "entry")
                event = codec.decode(row.name, public, None, "entry")[0]
                if isinstance(event, e.LogArchived):
                    told[event.number] = (row.position, event)
    return told
