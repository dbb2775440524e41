"""The certificate of an erasure: what was erased, and what had left before and must be seen to.

It follows from the log alone, so that finishing or repeating an erasure gives the same text. It
names contact, runs and files, and holds no personal data.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

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


class Certificates:
    """Writes the text of certificates."""

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

    def text(self, contact_id: str, run_ids: Sequence[str]) -> str:
        """The certificate of a contact that was erased, with these runs; JSON, to be signed."""
        stored = self._store.read_stream(contact_stream(contact_id))
        history = self._journal.open_public(stored)
        at = max(i for i, each in enumerate(history) if isinstance(each.event, e.ContactErased))
        erased, row = history[at], stored[at]
        assert isinstance(erased.event, e.ContactErased), "found as such"
        streams = {run_id: self._stream(run_id) for run_id in sorted(run_ids)}
        entries = [*stored, *(entry for rows in streams.values() for entry in rows)]
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
            "left": {
                "messages": [sent for rows in streams.values() for sent in self._messages(rows)],
                "exports": self._exports(contact_id, set(streams), entries, erased.position),
                "archives": self._archives(list(streams)),
            },
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

    def _exports(
        self, contact_id: str, runs: set[str], entries: Sequence[StoredRow], until: int
    ) -> list[dict[str, Any]]:
        """What was given out, personal data readable, with anything of the contact in it."""
        places = [(each.position, each.meta.tick) for each in self._journal.open_public(entries)]
        return [
            {
                "at": self._time(recorded.meta.tick),
                "position": recorded.position,
                "kind": event.kind,
                "format": event.format,
                "actor": recorded.meta.actor,
                "target": event.target or None,
                "digest": event.digest or None,
            }
            for recorded in self._system.history()
            if isinstance(event := recorded.event, e.LogExported)
            and event.personal_data
            and recorded.position < until
            and _covers(event, contact_id, runs, places)
        ]

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


def _covers(
    event: e.LogExported, contact_id: str, runs: set[str], places: Sequence[tuple[int, int]]
) -> bool:
    """Whether something of the contact, at these positions and ticks, was in what was exported."""
    if event.run_id is not None or event.contact_id is not None:
        return event.run_id in runs or event.contact_id == contact_id
    return any(
        position <= event.through
        and (event.from_tick is None or event.from_tick <= tick)
        and (event.before_tick is None or tick < event.before_tick)
        for position, tick in places
    )
