"""Appends to the system's own stream, where checkpoints, exports, archives and holds are told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, TypeVar

from dee_es.core import events as e
from dee_es.core.ids import SYSTEM_STREAM
from dee_es.engine.log.committing import Committer
from dee_es.engine.log.journal import Journal, checksum_of
from dee_es.engine.log.settling import Standing, Wanted, first_by, reused, settle
from dee_es.engine.timekeeping import EngineClock
from dee_es.errors import UNREADABLE
from dee_es.ports import EventStore, StreamAppend, Unit

AnswerT = TypeVar("AnswerT")
_ATTEMPTS: Final = 20
"""More than elsewhere: one stream is shared by all who sign, export, hold and archive."""
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

        def look() -> Standing[int] | Wanted[int]:
            head = self._store.heads([SYSTEM_STREAM])[SYSTEM_STREAM]
            given = meta()
            for row in self._store.read_stream(SYSTEM_STREAM, max(0, head.version - _RECENT)):
                # A damaged entry is none of this command's: a damaged log can still be exported.
                with suppress(*UNREADABLE):
                    known = self._journal.open_one(row)
                    same = _digest(known.event) == _digest(event)
                    if known.meta.command_id == given.command_id and same:
                        return Standing(row.position)
            append = self._append_behind(head.version, head.checksum, event, given)
            return Wanted(Unit((append,), min_tick=given.tick), lambda done: done.position)

        return self._settled(look)

    def decide(
        self,
        choose: Callable[[Sequence[e.RecordedEvent]], e.Event],
        meta: Callable[[], e.Meta],
        is_it: Callable[[e.Event], bool],
        guard: Guard = tuple,
    ) -> e.RecordedEvent:
        """Append the event that `choose` makes of the history, anew whenever that has grown.

        What the same command recorded before is returned instead, if it `is_it` that was asked for.
        Raises what `choose` and `guard` raise, `InvalidInput` if the command's id was used by
        another one, and `ConcurrencyConflict` if others kept appending.
        """

        def look() -> Standing[e.RecordedEvent] | Wanted[e.RecordedEvent]:
            # Before the history is read: what comes later is then noticed by one of the two.
            others = guard()
            rows = self._store.read_stream(SYSTEM_STREAM)
            history = self._journal.open(rows)
            given = meta()
            known = first_by(given.command_id, reversed(history))
            if known is not None:
                if known.meta.command != given.command or not is_it(known.event):
                    raise reused(known.meta)
                return Standing(known)
            append = self._append_behind(len(rows), checksum_of(rows[-1]), choose(history), given)
            unit = Unit((append, *others), min_tick=given.tick)
            return Wanted(unit, lambda done: append.events[0].recorded(done.position))

        return self._settled(look)

    def _settled(self, look: Callable[[], Standing[AnswerT] | Wanted[AnswerT]]) -> AnswerT:
        return settle(self._committer, self._clock, look, "the system's own stream", _ATTEMPTS)

    def append_of(self, event: e.Event, meta: e.Meta) -> StreamAppend:
        """What appends an event in a unit with other things; that is refused if somebody else
        appends before."""
        head = self._store.heads([SYSTEM_STREAM])[SYSTEM_STREAM]
        return self._append_behind(head.version, head.checksum, event, meta)

    def _append_behind(
        self, version: int, previous: bytes, event: e.Event, meta: e.Meta
    ) -> StreamAppend:
        sealed = self._journal.seal(SYSTEM_STREAM, version, previous, [event], meta, None)
        return StreamAppend(SYSTEM_STREAM, version, sealed)


def _digest(event: e.Event) -> str:
    """The SHA-256 (hex) of what was given out; empty if nothing was."""
    return event.digest if isinstance(event, e.LogExported) else ""
