"""The certificate of an erasure: what was erased, and what had left before and must be seen to.

It follows from the log alone, so that finishing or repeating an erasure gives the same text. It
names contact, runs and files, and holds no personal data.

What had left is everything that may have been read while the key still existed, which is longer
than until the erasure was recorded. When the key is destroyed the log has some length; the first
certificate records that together with itself, before it is written anywhere, and it holds for every
later one. Whatever was begun before is listed: an export names the length of the log that it began
with, also if it is on record only after the certificate, in which case the next one lists it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from msgspec import Struct

from dee_es.core import events as e
from dee_es.core.clock import TimeScale
from dee_es.core.evidence.checkpoint import origin_of
from dee_es.core.ids import SYSTEM_STREAM, contact_stream
from dee_es.core.messages.message import message_id
from dee_es.core.runs.channel_events import call_outcome
from dee_es.engine.log.journal import Journal, checksum_of
from dee_es.engine.log.system_log import SystemLog
from dee_es.engine.retention.archiver import Archiver
from dee_es.ports import Channel, EventStore, LeavesFiles, Sent, StoredRow

FORMAT: Final = "dee-erasure/1"
_NOTE: Final = (
    "What is listed under 'left' was outside of the database before the erasure and is not changed "
    "by it. Archives hold what is personal in encrypted form only, and its key is destroyed; so do "
    "backups of the database. A backup of the key store that was made before still holds the key: "
    "replace it."
)


def file_name(contact_id: str) -> str:
    """The name of a certificate's file; no two contacts share one, nor do those whose ids differ
    only by case where a file system makes no difference between such names."""
    # A tilde or an equals sign is in no id, and a colon is in no name that every file system takes.
    name = f"erasure-{contact_id.replace(':', '~')}"
    # Which characters are capitals, as bits from the first one on.
    capitals = sum(1 << at for at, char in enumerate(contact_id) if char.isupper())
    return f"{name}={capitals:x}.txt" if capitals else f"{name}.txt"


class Certificate(Struct, frozen=True):
    """The text of a certificate (JSON, to be signed) of a contact with so many `entries`, whose key
    was gone when the log ended at `through`; `known` if that is on record."""

    contact_id: str
    text: str
    entries: int
    through: int
    known: bool


class Certificates:
    """Makes certificates, and records that they were given out."""

    def __init__(
        self,
        store: EventStore,
        journal: Journal,
        system: SystemLog,
        archiver: Archiver,
        channels: Mapping[str, Channel],
        scale: TimeScale,
    ) -> None:
        self._store = store
        self._journal = journal
        self._system = system
        self._archiver = archiver
        self._channels = channels
        self._scale = scale

    def of(self, contact_id: str, run_ids: Sequence[str]) -> Certificate:
        """The certificate of a contact with these runs; its key is destroyed already."""
        end = self._store.log_head().position
        exports = [
            (each, each.event)
            for each in self._system.history()
            if isinstance(each.event, e.LogExported)
        ]
        first = next((event for _, event in exports if _certifies(event, contact_id)), None)
        through = end if first is None else first.through
        stored = self._store.read_stream(contact_stream(contact_id))
        streams = {run_id: self._stream(run_id) for run_id in sorted(run_ids)}
        rows = [*stored, *(row for stream in streams.values() for row in stream)]
        # The public parts are enough: of each entry only its place and its tick are asked.
        places = [(each.position, each.meta.tick) for each in self._journal.open_public(rows)]
        left = {
            "messages": [sent for stream in streams.values() for sent in self._messages(stream)],
            "exports": [
                self._export(recorded, event)
                for recorded, event in exports
                if _began(recorded, event) <= through
                and _covers(event, contact_id, set(streams), places)
            ],
            "archives": self._archives(list(streams)),
        }
        text = self._text(contact_id, stored, streams, left)
        return Certificate(contact_id, text, len(rows), through, first is not None)

    def record(self, made: Certificate, note: str, target: str, meta: Callable[[], e.Meta]) -> None:
        """Record that this certificate, signed as `note`, is given out."""
        event = e.LogExported(
            kind="report",
            format=FORMAT,
            through=made.through,
            entries=made.entries,
            contact_id=made.contact_id,
            digest=hashlib.sha256(note.encode()).hexdigest(),
            target=target,
        )
        self._system.record(event, meta)

    def _text(
        self,
        contact_id: str,
        stored: Sequence[StoredRow],
        streams: Mapping[str, Sequence[StoredRow]],
        left: Mapping[str, Any],
    ) -> str:
        history = self._journal.open_public(stored)
        at = max(i for i, each in enumerate(history) if isinstance(each.event, e.ContactErased))
        erased, row = history[at], stored[at]
        assert isinstance(erased.event, e.ContactErased), "found as such"
        told = {
            "format": FORMAT,
            "log": self._origin(),
            "contact": contact_id,
            "erasedAt": self._time(erased.meta.tick),
            "entry": {
                "stream": row.stream_id,
                "version": row.version,
                "position": row.position,
                "checksum": checksum_of(row).hex(),
            },
            "actor": erased.meta.actor,
            "reason": erased.meta.reason,
            "keyDestroyed": erased.event.key_id or None,
            "suppressed": self._suppressed(history),
            "runs": [
                {"run": run_id, "entries": len(rows), "checksum": checksum_of(rows[-1]).hex()}
                for run_id, rows in streams.items()
            ],
            "left": left,
            "note": _NOTE,
        }
        return json.dumps(told, indent=1, ensure_ascii=False) + "\n"

    def _stream(self, run_id: str) -> list[StoredRow]:
        return self._store.read_stream(run_id) or self._archiver.stream(run_id)

    def _origin(self) -> str:
        (first,) = self._store.read_stream(SYSTEM_STREAM, 0, 1)
        return origin_of(checksum_of(first))

    def _time(self, tick: int) -> str:
        return self._scale.time(tick).isoformat().replace("+00:00", "Z")

    @staticmethod
    def _suppressed(history: Iterable[e.RecordedEvent]) -> list[str]:
        """What the contact stays suppressed under: its id, and keyed digests of its addresses."""
        return sorted(
            {
                subject
                for each in history
                if isinstance(each.event, e.ContactSuppressed) and each.event.level == "regulatory"
                for subject in each.event.subjects
            }
        )

    def _messages(self, rows: Sequence[StoredRow]) -> list[dict[str, Any]]:
        """The messages of a run that may have reached somebody."""
        under_way: dict[tuple[str, bool], dict[str, Any]] = {}
        lost: dict[str, dict[str, Any]] = {}
        found = []
        for recorded in self._journal.open_public(rows):
            event = recorded.event
            if isinstance(event, e.StepDispatched):
                sent = self._message(recorded, event)
                under_way[event.step_id, event.resend] = sent
                found.append(sent)
            elif isinstance(event, e.StepPending):
                if (event.step_id, False) in under_way:
                    under_way[event.step_id, False]["outcome"] = "pending"
            elif (outcome := _outcome(event)) is not None:
                # Settled once: what is told of the step later is not about this message.
                step = str(getattr(event, "step_id", ""))
                late, resend = getattr(event, "late", False), getattr(event, "resend", False)
                settled = lost.get(step) if late else under_way.pop((step, resend), None)
                if settled is not None:
                    settled["outcome"] = outcome
                    if isinstance(event, e.OutcomeUnknown):
                        lost[step] = settled
        return [sent for sent in found if sent["outcome"] != "failed"]

    def _message(self, recorded: e.RecordedEvent, event: e.StepDispatched) -> dict[str, Any]:
        time_ms = round(self._scale.time(recorded.meta.tick).timestamp() * 1000)
        sent = Sent(
            recorded.stream_id, event.step_id, event.channel, event.key, event.attempt, time_ms
        )
        return {
            "run": recorded.stream_id,
            "step": event.step_id,
            "at": self._time(recorded.meta.tick),
            "channel": event.channel,
            "messageId": message_id(event.key),
            "outcome": "unknown",
            "files": _files(self._channels.get(event.channel), sent),
        }

    def _export(self, recorded: e.RecordedEvent, event: e.LogExported) -> dict[str, Any]:
        return {
            "at": self._time(recorded.meta.tick),
            "position": recorded.position,
            "kind": event.kind,
            "format": event.format,
            "actor": recorded.meta.actor,
            "target": event.target or None,
            "digest": event.digest or None,
        }

    def _archives(self, runs: list[str]) -> list[dict[str, Any]]:
        numbers = {
            stones[0].archive for stones in self._store.tombstones_of(runs).values() if stones
        }
        return [
            {"number": each.number, "place": each.place, "name": each.name, "digest": each.digest}
            for each in self._archiver.archives()
            if each.number in numbers
        ]


def _outcome(event: e.Event) -> str | None:
    """What an event says became of a message or call; None if it says nothing of that."""
    if isinstance(event, e.StepCompleted):
        return event.result
    if isinstance(event, e.StepFailed | e.StepRetried):
        return "failed"
    if isinstance(event, e.OutcomeUnknown):
        return "unknown"
    if isinstance(event, e.ChannelEventReceived) and event.ended:
        # The run ended while the call went on: nothing else tells what came of it.
        return call_outcome(event.type, event.kind)
    return None


def _files(channel: object, sent: Sent) -> list[str]:
    return list(channel.files_of(sent)) if isinstance(channel, LeavesFiles) else []


def _certifies(event: e.LogExported, contact_id: str) -> bool:
    return event.format == FORMAT and event.contact_id == contact_id


def _began(recorded: e.RecordedEvent, event: e.LogExported) -> int:
    """The end of the log when somebody began to read what was given out, or a later one."""
    # A file may take long to be written. What a query has shown is recorded at once, and its own
    # end may be that of what was asked for.
    return recorded.position if event.kind == "query" else event.through


def _covers(
    event: e.LogExported, contact_id: str, runs: set[str], places: Sequence[tuple[int, int]]
) -> bool:
    """Whether something of the contact, at these positions and ticks, was readable in what was
    given out. Of what holds more than one contact it is not on record whose data was: there
    anything that falls into it counts."""
    if not event.personal_data:
        return False
    if event.run_id is not None or event.contact_id is not None:
        return event.run_id in runs or event.contact_id == contact_id
    return any(
        position <= event.through
        and (event.from_tick is None or event.from_tick <= tick)
        and (event.before_tick is None or tick < event.before_tick)
        for position, tick in places
    )
