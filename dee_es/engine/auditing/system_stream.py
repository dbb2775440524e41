"""The system's stream as far as checkpoints depend on it, however long it has become."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from dee_es.core import chain, checkpoint
from dee_es.core import events as e
from dee_es.core.ids import SYSTEM_STREAM
from dee_es.engine.journal import Journal, checksum_of, place
from dee_es.errors import IntegrityViolation
from dee_es.ports import EventStore, StoredRow

_BACK: Final = 64
"""Entries read at once, from the end backwards."""


@dataclass(frozen=True, slots=True)
class System:
    """The first and the last entry of the system's stream, and the last checkpoint in it."""

    first: StoredRow
    end: StoredRow
    checkpoint: e.CheckpointSigned | None

    @property
    def origin(self) -> str:
        """The name of the log."""
        return checkpoint.origin_of(checksum_of(self.first))


def read_system(store: EventStore, journal: Journal) -> System:
    """The system's stream as far as signing and proving depend on it.

    Only its first entry and those from the last checkpoint on are read, so that it costs the
    same however many checkpoints there are. Raises `IntegrityViolation` if the chain of these
    is broken; what is before the checkpoint, its root tells.
    """
    firsts = store.read_stream(SYSTEM_STREAM, 0, 1)
    head = store.heads([SYSTEM_STREAM]).get(SYSTEM_STREAM)
    if not firsts or head is None:
        raise IntegrityViolation("the log has no first entry; run `dee audit verify`")
    end: StoredRow | None = None
    version, expected = head.version, head.checksum
    while version > 0:
        rows = store.read_stream(SYSTEM_STREAM, max(version - _BACK, 0), version)
        for row in reversed(rows):
            expected = _checked(row, version, expected)
            version -= 1
            end = end or row
            if row.name == "CheckpointSigned":
                event = journal.open_one(row).event
                assert isinstance(event, e.CheckpointSigned), "named so"
                return System(firsts[0], end, event)
        if not rows:
            break
    if version > 0 or end is None or expected != chain.GENESIS:
        raise IntegrityViolation(
            f"{SYSTEM_STREAM} entry {version} is missing; run `dee audit verify`"
        )
    return System(firsts[0], end, None)


def _checked(row: StoredRow, version: int, expected: bytes) -> bytes:
    """The checksum before an entry that must have this version and checksum."""
    sealed = chain.unseal(row.state, place(row))
    fault = chain.fault(row.stream_id, row.version, row.name, sealed.previous, row.state)
    if fault is None and (row.version != version or sealed.checksum != expected):
        fault = "it is not the entry that what follows it names"
    if fault is not None:
        raise IntegrityViolation(f"{place(row)}: {fault}; run `dee audit verify`")
    return sealed.previous
