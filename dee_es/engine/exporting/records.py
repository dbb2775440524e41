"""An entry of the log as an export tells it: what was stored, byte for byte, and what it says.

All that is readable but `personal` can be compared with the stored public part by whoever has the
file; so nothing stands beside it that does not follow from it. Nothing here needs an event's class:
an entry of any version, and a damaged one, is told as far as it can be read.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, NamedTuple

import msgspec

from dee_es.core import codec
from dee_es.core import events as e
from dee_es.core.clock import TimeScale
from dee_es.core.evidence import chain
from dee_es.core.ids import SYSTEM_STREAM, is_run, ulid
from dee_es.core.registry import REGISTRY
from dee_es.engine.log.journal import Journal
from dee_es.errors import DeeError, IntegrityViolation
from dee_es.ports import EventStore, StoredRow

Kind = Literal["entry", "context"]
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_UNREADABLE: Final = (DeeError, msgspec.DecodeError, RecursionError, OverflowError)
_WORD: Final = re.compile("[A-Z][a-z]+")


class _Public(msgspec.Struct, frozen=True):
    meta: e.Meta
    data: dict[str, Any]


_decoder: Final = msgspec.json.Decoder(_Public)


class _Read(NamedTuple):
    """What of a row can be read; `personal` is None if there is none to be shown."""

    sealed: chain.SealedState
    public: bytes
    meta: e.Meta
    data: dict[str, Any]
    time: datetime
    personal: bytes | None
    erased: bool


class Records:
    """Makes records of entries, and notices what does not verify on its way."""

    def __init__(
        self, store: EventStore, journal: Journal, scale: TimeScale, *, personal: bool
    ) -> None:
        self._store = store
        self._journal = journal
        self._scale = scale
        self._personal = personal
        self.shown = 0
        """How many entries showed personal data."""
        self.problems: list[str] = []

    def of(self, rows: Sequence[StoredRow], kind: Kind) -> Iterator[dict[str, Any]]:
        """The records of a page of rows."""
        self._preload(rows)
        for row in rows:
            record: dict[str, Any] = {
                "record": kind,
                "position": row.position,
                "stream": row.stream_id,
                "version": row.version,
                "name": row.name,
            }
            read = self._read(row)
            if read is not None:
                record["action"] = action_of(row.name)
                record["timestamp"] = iso(read.time)
                record["stored"] = msgspec.Raw(read.public)
                record["personal"] = None if read.personal is None else msgspec.Raw(read.personal)
                record["erased"] = read.erased
                record["checksum"] = read.sealed.checksum.hex()
                record["previousChecksum"] = read.sealed.previous.hex()
            record["state"] = base64.b64encode(row.state).decode()
            yield record

    def table(self, rows: Sequence[StoredRow]) -> Iterator[dict[str, Any]]:
        """The same as cells of a table, for reading: with plan and contact, and nothing stored."""
        self._preload(rows)
        runs = sorted({row.stream_id for row in rows if is_run(row.stream_id)})
        starts = {
            stream: read.data
            for stream, row in self._store.read_first(runs).items()
            if (read := self._opened(row)) is not None
        }
        for row in rows:
            named = {
                "position": row.position,
                "stream": row.stream_id,
                "version": row.version,
                "name": row.name,
            }
            read = self._read(row)
            yield named if read is None else {**named, **_cells(row, read, starts)}

    def _preload(self, rows: Sequence[StoredRow]) -> None:
        for row in rows:
            # SQLite keeps anything in any column; such a row is none that a file could hold.
            numbers = type(row.version), type(row.position)
            if numbers != (int, int) or type(row.state) is not bytes:
                raise IntegrityViolation(f"{row} is no entry; run `dee audit verify`")
        # If a row is damaged, keys are fetched one by one.
        with suppress(IntegrityViolation):
            self._journal.preload(rows)

    def _read(self, row: StoredRow) -> _Read | None:
        """What can be read of a row, noticing whether it verifies; None if nothing can."""
        try:
            previous = chain.unseal(row.state, row).previous
        except IntegrityViolation as error:
            self.problems.append(str(error))
            return None
        fault = chain.fault(row.stream_id, row.version, row.name, previous, row.state)
        if fault is not None:
            self.problems.append(f"{row}: {fault}")
        read = self._opened(row)
        if read is None:
            self.problems.append(f"{row}: its public part cannot be read")
        elif read.personal is not None:
            self.shown += 1
        return read

    def _opened(self, row: StoredRow) -> _Read | None:
        plain, erased = None, False
        try:
            sealed = chain.unseal(row.state, row)
            public, hidden = codec.split(sealed.payload, row)
            held = _decoder.decode(public)
        except _UNREADABLE:
            return None
        if not self._scale.dated(held.meta.tick):
            return None
        time = self._scale.time(held.meta.tick)
        try:
            if hidden:
                _, plain, erased = self._journal.reveal(row)
        except IntegrityViolation as error:
            # What is personal cannot be read; the public part can.
            self.problems.append(str(error))
        shown = plain if self._personal else None
        return _Read(sealed, public, held.meta, held.data, time, shown, erased)


def _cells(row: StoredRow, read: _Read, starts: dict[str, dict[str, Any]]) -> dict[str, Any]:
    meta, data = read.meta, read.data
    run = is_run(row.stream_id)
    about = starts.get(row.stream_id, {}) if run else data
    kind, _, name = row.stream_id.partition(":")
    run_id = data.get("run_id") if row.stream_id == SYSTEM_STREAM else None
    return {
        "id": ulid(round(read.time.timestamp() * 1000), read.sealed.checksum),
        "tick": meta.tick,
        "timestamp": iso(read.time),
        "action": action_of(row.name),
        "runId": row.stream_id if run else run_id,
        "planId": about.get("plan_id", name if kind == "plan" else None),
        "contactId": about.get("contact_id", name if kind == "contact" else None),
        "stepId": data.get("step_id"),
        "actor": meta.actor,
        "reason": meta.reason,
        "command": meta.command,
        "commandId": meta.command_id,
        "recordedAt": iso(_EPOCH + timedelta(milliseconds=meta.recorded_at)),
        "data": data,
        "personal": None if read.personal is None else msgspec.Raw(read.personal),
        "erased": read.erased,
        "checksum": read.sealed.checksum.hex(),
        "previousChecksum": read.sealed.previous.hex(),
    }


def action_of(name: str) -> str:
    """The audit action of an event; of one that this code does not know, by its name."""
    entry = REGISTRY.get(name)
    return ".".join(_WORD.findall(name)).lower() if entry is None else entry.action


def iso(moment: datetime) -> str:
    """The time in UTC by ISO 8601, with fractions of a second only where there are any."""
    return f"{moment.astimezone(UTC).replace(tzinfo=None).isoformat()}Z"
