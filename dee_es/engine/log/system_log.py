"""Appends to the system's own stream, where checkpoints, exports, archives and holds are told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from dee_es.core import events as e
from dee_es.core.ids import SYSTEM_STREAM
from dee_es.engine.log.committing import Committer
from dee_es.engine.log.journal import Journal, checksum_of
from dee_es.engine.timekeeping import EngineClock
from dee_es.errors import ConcurrencyConflict, IntegrityViolation, UnknownEventVersion
from dee_es.ports import Committed, EventStore, StreamAppend, Unit

_ATTEMPTS: Final = 20
_RECENT: Final = 8
"""Rows at the end among which a repeated command is looked for."""

Guard = Callable[[], tuple[StreamAppend, ...]]
"""Looks at other streams, and says at which versions they must still be."""


class SystemLog:
    """Reads and extends the stream of the system's own events."""

    def __init__(
        self, store: EventStore, journal: Journal, committer: Committer, clock: EngineClock
    ) -> None:
        self._store = store
        self._journal = journal
        self._committer = committer
        self._clock = clock

    def history(self) -> list[e.RecordedEvent]:
        """All of the system's own events; raises `IntegrityViolation` if they do not verify."""
        return self._journal.open(self._store.read_stream(SYSTEM_STREAM))

    def record(self, event: e.Event, meta: Callable[[], e.Meta]) -> int:
        """Append an event; returns its position in the log.

        What the same command recorded a moment ago is not recorded again, unless it gave out other
        bytes then. Reads the end of the stream only. Raises `ConcurrencyConflict` if others kept
        appending.
        """
        for _ in range(_ATTEMPTS):
            head = self._store.heads([SYSTEM_STREAM])[SYSTEM_STREAM]
            given = meta()
            for row in self._store.read_stream(SYSTEM_STREAM, max(0, head.version - _RECENT)):
                # A damaged entry is none of this command's: a damaged log can still be exported.
                with suppress(IntegrityViolation, UnknownEventVersion):
                    known = self._journal.open_one(row)
                    same = _digest(known.event) == _digest(event)
                    if known.meta.command_id == given.command_id and same:
                        return row.position
            done = self._append(head.version, head.checksum, event, given, ())
            if done is not None:
                return done.position
        raise _contended()

    def decide(
        self,
        choose: Callable[[Sequence[e.RecordedEvent]], e.Event],
        meta: Callable[[], e.Meta],
        guard: Guard = tuple,
    ) -> e.RecordedEvent:
        """Append the event that `choose` makes of the history, anew whenever that has grown.

        What the same command recorded before is returned instead. Raises what `choose` and `guard`
        raise, and `ConcurrencyConflict` if others kept appending.
        """
        for _ in range(_ATTEMPTS):
            # Before the history is read: what comes later is then noticed by one of the two.
            others = guard()
            rows = self._store.read_stream(SYSTEM_STREAM)
            history = self._journal.open(rows)
            given = meta()
            for known in reversed(history):
                if known.meta.command_id == given.command_id:
                    return known
            event = choose(history)
            done = self._append(len(rows), checksum_of(rows[-1]), event, given, others)
            if done is not None:
                return done
        raise _contended()

    def append_of(self, event: e.Event, meta: e.Meta) -> StreamAppend:
        """What appends an event in a unit with other things; that is refused if somebody else
        appends before."""
        head = self._store.heads([SYSTEM_STREAM])[SYSTEM_STREAM]
        sealed = self._journal.seal(SYSTEM_STREAM, head.version, head.checksum, [event], meta, None)
        return StreamAppend(SYSTEM_STREAM, head.version, sealed)

    def _append(
        self,
        version: int,
        previous: bytes,
        event: e.Event,
        meta: e.Meta,
        others: tuple[StreamAppend, ...],
    ) -> e.RecordedEvent | None:
        """The event as recorded; None if somebody else has appended since."""
        sealed = self._journal.seal(SYSTEM_STREAM, version, previous, [event], meta, None)
        append = StreamAppend(SYSTEM_STREAM, version, sealed)
        result = self._committer.commit([Unit((append, *others), min_tick=meta.tick)])[0]
        if isinstance(result, Committed):
            return sealed[0].recorded(result.position)
        self._clock.refresh()
        return None


def _digest(event: e.Event) -> str:
    """The SHA-256 (hex) of what was given out; empty if nothing was."""
    return event.digest if isinstance(event, e.LogExported) else ""


def _contended() -> ConcurrencyConflict:
    return ConcurrencyConflict("the system's own stream kept changing; try again")
