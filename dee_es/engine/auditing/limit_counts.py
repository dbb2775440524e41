"""The counters of limits and budgets, held against the sends that the log tells of.

Whoever lowers one has more go out than the policy allows; whoever raises one, or puts one in for a
day to come, keeps messages in. An intent tells what it uses of which counter, and what became of it
whether that is given back. Only what the gate may still ask for is compared: the days from the one
before the clock's on, and what counts for all time. Earlier days are forgotten with each archive.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from typing import Final

from msgspec import Struct

from dee_es.core import events as e
from dee_es.core.clock import TimeScale
from dee_es.core.evidence.chunk_check import printable
from dee_es.core.gate.kinds import KINDS, kind_of
from dee_es.core.gate.slots import day_number, day_of
from dee_es.core.ids import CounterKey, outcome_id
from dee_es.engine.auditing.verdicts import IndexDifference
from dee_es.engine.log.journal import Journal
from dee_es.errors import DeeError
from dee_es.ports import EventStore

THE_LOG: Final = "the log"
_LOOKS: Final = 10
"""How often counters are looked at while something is appended each time."""
_ALL_TIME: Final = 0
"""The slot of what counts for all time."""


class _Sent(Struct):
    """An intent of which the log has yet to tell what became: what it uses of the counters that are
    compared, and whether its run has ended meanwhile."""

    counted: tuple[tuple[CounterKey, int], ...]
    ended: bool = False


class LimitCounts:
    """What the counters should stand at by the log, in a few hundred bytes for each one that is
    compared and for each intent without an outcome. `unread` says why nothing was compared."""

    def __init__(self, store: EventStore, journal: Journal, scale: TimeScale, page: int) -> None:
        self._store = store
        self._journal = journal
        self._scale = scale
        self._page = page
        self._tick = store.log_head().tick
        self._position = 0
        self._used: dict[CounterKey, int] = {}
        # What was given back or not: of some failures the log does not say whose fault they were.
        self._doubtful: dict[CounterKey, int] = {}
        self._open: dict[str, dict[str, _Sent]] = {}
        self._imported: dict[str, int] = {}
        self._archived: int | None = None
        self.unread: str | None = None

    # --- what the log tells -----------------------------------------------------------------------

    def tell(self, recorded: e.RecordedEvent) -> None:
        """The log has the event; they are told in order."""
        self._position = recorded.position
        stream, event, meta = recorded.stream_id, recorded.event, recorded.meta
        if recorded.position <= self._imported.get(stream, 0):
            return  # it was counted where it is from
        match event:
            case e.LogImported():
                self._imported[event.run_id] = recorded.position + event.entries
            case e.LogArchived():
                # The last tick at which any of its runs may have sent.
                last = day_of(self._scale, min(event.before_tick - 1, meta.tick))
                self._archived = last if self._archived is None else max(self._archived, last)
            case e.StepDispatched():
                self._sent(stream, event)
            case e.RunCompleted() | e.RunCancelled():
                for sent in self._open.get(stream, {}).values():
                    sent.ended = True
            case _ if meta.command == "result":
                self._became(stream, meta.command_id, event)

    def miss_one(self) -> None:
        """An entry cannot be read, so that nobody knows what it counts."""
        self.unread = "cannot be compared (not every entry of the log can be read)"

    def _sent(self, stream: str, event: e.StepDispatched) -> None:
        first = self._first_slot(self._tick)
        counted = tuple(
            ((name, slot), amount)
            for name, slot, amount, _ in event.counted
            if slot >= first or slot == _ALL_TIME
        )
        for counter, amount in counted:
            self._used[counter] = self._used.get(counter, 0) + amount
        if counted:
            attempt = outcome_id(event.key, event.attempt)
            self._open.setdefault(stream, {})[attempt] = _Sent(counted)

    def _became(self, stream: str, command_id: str, event: e.Event) -> None:
        """See `gatekeeping.given_back`, by which it was done."""
        under_way = self._open.get(stream, {})
        sent = under_way.pop(command_id, None)
        if not under_way:
            self._open.pop(stream, None)
        if sent is None or not isinstance(event, e.StepRetried | e.StepFailed):
            return
        for counter, amount in sent.counted:
            kind = KINDS.get(kind_of(counter[0]))
            if kind is not None and (not kind.keeps_failed or _ours(event)):
                self._used[counter] -= amount
            elif kind is None or _maybe_ours(event, sent):
                self._doubtful[counter] = self._doubtful.get(counter, 0) + amount

    def _catch_up(self) -> None:
        """Hear what was appended since."""
        while rows := self._store.read_log(self._position, self._page):
            for row in rows:
                try:
                    (recorded,) = self._journal.open_public([row])
                except (DeeError, TypeError, AttributeError):
                    self.miss_one()
                else:
                    self.tell(recorded)
            self._position = rows[-1].position

    def _first_slot(self, tick: int) -> int:
        """The first day that no archive made by this tick has forgotten."""
        return day_of(self._scale, tick) - 1

    # --- what the table holds ---------------------------------------------------------------------

    def others(self, tick: int) -> Iterator[IndexDifference]:
        """Those that stand otherwise than the log says, of which `tick` is the last."""
        self._tick = max(tick, self._tick)
        for held in self._held():
            yield from (_not_typed(each) for each in held if not _typed(each))
            yield from self._look(
                [each for each in held if _typed(each) and each not in self._used]
            )
        told = list(self._used)
        for first in range(0, len(told), self._page):
            yield from self._look(told[first : first + self._page])

    def _held(self) -> Iterator[list[CounterKey]]:
        """Those that have a row, some at a time: of all time, then of days that are compared."""
        first = self._first_slot(self._tick)
        last: CounterKey = ("", min(_ALL_TIME, first))
        while page := self._store.counter_page(last, self._page):
            yield page
            last = page[-1]
            if _typed(last) and _ALL_TIME < last[1] < first:
                last = ("", first)

    def _look(self, counters: Sequence[CounterKey]) -> Iterator[IndexDifference]:
        """Tell which of them differ at a look that nobody's appends came between."""
        for _ in range(_LOOKS):
            before = self._store.log_head().position
            self._catch_up()
            held = self._store.counters(counters)
            # Asked for afterwards: what an archive forgot meanwhile is of days before.
            head = self._store.log_head()
            first = self._first_slot(max(self._tick, head.tick))
            counters = [
                each
                for each in counters
                if each[1] == _ALL_TIME or each[1] >= first
                if not self._is_so(each, held.get(each, 0))
            ]
            if not counters or self.unread is not None:
                return
            if head.position == before:
                yield from (self._difference(each, held.get(each)) for each in counters)
                return
        self.unread = "kept changing while they were looked at"

    def _bounds(self, counter: CounterKey) -> tuple[int, int | None]:
        """The least and the most that it may stand at; of what has left the log for an archive
        nobody knows how much it was."""
        most = self._used.get(counter, 0)
        least = most - self._doubtful.get(counter, 0)
        archived = self._archived
        open_end = archived is not None and (counter[1] == _ALL_TIME or counter[1] <= archived)
        return least, None if open_end else most

    def _is_so(self, counter: CounterKey, held: object) -> bool:
        least, most = self._bounds(counter)
        return type(held) is int and least <= held and (most is None or held <= most)

    def _difference(self, counter: CounterKey, held: object) -> IndexDifference:
        least, most = self._bounds(counter)
        log = str(most or "none")
        if most is None:
            log = f"at least {least}"
        elif least < most:
            log = f"{least} to {most}"
        return IndexDifference(
            THE_LOG, _name(counter), log, "none" if held is None else printable(held)
        )


def _ours(event: e.StepRetried | e.StepFailed) -> bool:
    return isinstance(event, e.StepRetried) and event.ours


def _maybe_ours(event: e.StepRetried | e.StepFailed, sent: _Sent) -> bool:
    """Whether the fault may have been that of our own settings without the event saying so: such a
    step fails only where nothing is tried again for other reasons."""
    return isinstance(event, e.StepFailed) and (sent.ended or event.resend or event.late)


def _typed(counter: CounterKey) -> bool:
    key, slot = counter
    return type(key) is str and type(slot) is int


def _not_typed(counter: CounterKey) -> IndexDifference:
    key, slot = counter
    return IndexDifference(THE_LOG, f"counter {printable(f'{key!r} of {slot!r}')}", "none", "a row")


def _name(counter: CounterKey) -> str:
    name, slot = counter
    return f"counter {printable(name)} of {'all time' if slot == _ALL_TIME else _day(slot)}"


def _day(slot: int) -> str:
    try:
        return date.fromordinal(slot - day_number(date.min) + 1).isoformat()
    except (ValueError, OverflowError):
        return f"day {slot}"
