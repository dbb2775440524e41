"""Folded states of runs, kept for when the runs are next due.

The latest are kept as they are. Those before them are packed into bytes, which take less room: to
pack and unpack one takes some 3 us, to read its entries and fold them again more than 100. What is
kept counts only while the stream's head has its checksum.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from threading import Lock
from typing import Final, NamedTuple

import msgspec

from dee_es.core.runs.state import RunState
from dee_es.ports import Head

LATEST: Final = 20_000
"""Runs that are kept as they are."""
PACKED_BYTES: Final = 96 * 2**20
"""What the others may take: some 100,000 runs of contacts with a few attributes."""
_ENTRY_BYTES: Final = 300
"""What an entry takes beside its packed state, about."""


class LoadedRun(msgspec.Struct, frozen=True, gc=False):
    """A run's state with what is needed to append to it."""

    state: RunState
    checksum: bytes
    key_id: bytes | None
    slice: int


class Known(NamedTuple):
    """What is known of runs, by id: those that were kept as they are, those that were packed, and
    the ids of the others."""

    latest: dict[str, LoadedRun]
    unpacked: dict[str, LoadedRun]
    unknown: list[str]


_pack: Final = msgspec.msgpack.Encoder().encode
_unpack: Final = msgspec.msgpack.Decoder(LoadedRun).decode


class RunCache:
    """Runs as they were last known, for any number of threads; those that were kept first are
    forgotten first."""

    def __init__(self, latest: int = LATEST, packed_bytes: int = PACKED_BYTES) -> None:
        self._most_latest, self._most_bytes = latest, packed_bytes
        self._latest: OrderedDict[str, LoadedRun] = OrderedDict()
        self._packed: OrderedDict[str, tuple[bytes, bytes]] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    def look_up(self, heads: Iterable[Head]) -> Known:
        """The runs that are known as these heads have them."""
        known = Known({}, {}, [])
        with self._lock:
            for head in heads:
                run_id = head.stream_id
                latest = self._latest.get(run_id)
                if latest is not None and latest.checksum == head.checksum:
                    known.latest[run_id] = latest
                    continue
                checksum, packed = self._packed.get(run_id, (b"", b""))
                if checksum == head.checksum:
                    known.unpacked[run_id] = _unpack(packed)
                else:
                    known.unknown.append(run_id)
        return known

    def keep(self, runs: Iterable[LoadedRun]) -> None:
        """Keep runs as they are now, as far as anything is left to do for them."""
        with self._lock:
            for run in runs:
                run_id = run.state.run_id
                self._latest.pop(run_id, None)
                self._forget_packed(run_id)
                if not run.state.status.ended or run.state.due_tick is not None:
                    self._latest[run_id] = run
            while len(self._latest) > self._most_latest:
                run_id, run = self._latest.popitem(last=False)
                packed = _pack(run)
                self._packed[run_id] = run.checksum, packed
                self._bytes += len(packed) + _ENTRY_BYTES
            while self._bytes > self._most_bytes:
                self._forget_packed(next(iter(self._packed)))

    def _forget_packed(self, run_id: str) -> None:
        gone = self._packed.pop(run_id, None)
        if gone is not None:
            self._bytes -= len(gone[1]) + _ENTRY_BYTES

    def clear(self) -> None:
        """Forget all runs."""
        with self._lock:
            self._latest.clear()
            self._packed.clear()
            self._bytes = 0
