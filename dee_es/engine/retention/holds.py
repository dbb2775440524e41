"""Legal holds: while one is in force, nothing of a run or a contact may be erased or archived."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from msgspec import Struct

from dee_es.core import events as e
from dee_es.core.clock import TimeScale
from dee_es.core.ids import SYSTEM_STREAM, contact_stream, is_run
from dee_es.core.printing import printable
from dee_es.core.views import RunFilter
from dee_es.engine.log.system_log import SystemLog
from dee_es.engine.queries import Queries
from dee_es.engine.retention.models import Hold
from dee_es.errors import HoldInForce, InvalidInput, RunNotFound
from dee_es.ports import EventStore, StreamAppend


class Standing(Struct, frozen=True):
    """The holds in force, as of entry `version` of the system's own stream."""

    version: int
    holds: tuple[Hold, ...]

    def on(self, run_id: str, contact_id: str) -> Hold | None:
        """The hold that keeps a run of a contact, if one does."""
        for hold in self.holds:
            if run_id == hold.run_id or contact_id == hold.contact_id:
                return hold
        return None

    def guard(self) -> StreamAppend:
        """What lets a commit through only as long as no hold has come since."""
        return StreamAppend(SYSTEM_STREAM, self.version, ())


class Holds:
    """Places, lifts and tells legal holds."""

    def __init__(
        self, store: EventStore, queries: Queries, system: SystemLog, scale: TimeScale
    ) -> None:
        self._store = store
        self._queries = queries
        self._system = system
        self._scale = scale

    def standing(self) -> Standing:
        """The holds that are in force now."""
        history = self._system.history()
        return Standing(len(history), tuple(self._fold(history)))

    def place(self, run_id: str | None, contact_id: str | None, meta: Callable[[], e.Meta]) -> Hold:
        """Place a hold on a run or a contact; raises `RunNotFound`, or `InvalidInput` for a contact
        that nobody knows or that was erased, and for an id of another command."""

        def choose(history: Sequence[e.RecordedEvent]) -> e.Event:
            placed = sum(isinstance(each.event, e.HoldPlaced) for each in history)
            return e.HoldPlaced(f"hold_{placed + 1}", run_id, contact_id)

        def is_it(event: e.Event) -> bool:
            held = (event.run_id, event.contact_id) if isinstance(event, e.HoldPlaced) else None
            return held == (run_id, contact_id)

        done = self._system.decide(choose, meta, is_it, lambda: self._known(run_id, contact_id))
        assert isinstance(done.event, e.HoldPlaced), "it is a hold that was asked for"
        return self._hold(done.meta, done.event)

    def _known(self, run_id: str | None, contact_id: str | None) -> tuple[StreamAppend, ...]:
        """Refuse what there is not; returns what must not change before the hold is placed."""
        if run_id is not None:
            if not is_run(run_id) or run_id not in self._store.heads([run_id]):
                raise RunNotFound.named(run_id)
            return ()
        assert contact_id is not None, "a hold is on a run or on a contact"
        stream = contact_stream(contact_id)
        rows = self._store.read_stream(stream)
        # With personal data off nobody has a key.
        known = rows or contact_id in self._store.contact_keys([contact_id])
        if not known and not self._queries.rows(RunFilter(contact_id=contact_id), limit=1):
            raise InvalidInput("contact_id", f"nothing is known of {contact_id!r}")
        if any(row.name == "ContactErased" for row in rows):
            raise InvalidInput("contact_id", f"{contact_id!r} was erased; there is nothing to hold")
        return (StreamAppend(stream, len(rows), ()),)

    def lift(self, hold_id: str, meta: Callable[[], e.Meta]) -> None:
        """Lift a hold; raises `InvalidInput` if none of this id is in force."""

        def choose(history: Sequence[e.RecordedEvent]) -> e.Event:
            if hold_id not in {hold.hold_id for hold in self._fold(history)}:
                raise InvalidInput("hold_id", f"no hold {hold_id!r} is in force")
            return e.HoldLifted(hold_id)

        self._system.decide(choose, meta, lambda event: event == e.HoldLifted(hold_id))

    def refuse(self, standing: Standing, contact_id: str, run_ids: Iterable[str]) -> None:
        """Raise `HoldInForce` if a hold keeps the contact, or one of its runs."""
        for run_id in ("", *run_ids):
            hold = standing.on(run_id, contact_id)
            if hold is not None:
                raise HoldInForce(f"{contact_id!r} cannot be erased: {_told(hold)}")

    def _fold(self, history: Iterable[e.RecordedEvent]) -> list[Hold]:
        held: dict[str, Hold] = {}
        for recorded in history:
            event = recorded.event
            if isinstance(event, e.HoldPlaced):
                held[event.hold_id] = self._hold(recorded.meta, event)
            elif isinstance(event, e.HoldLifted):
                held.pop(event.hold_id, None)
        return list(held.values())

    def _hold(self, meta: e.Meta, event: e.HoldPlaced) -> Hold:
        return Hold(
            hold_id=event.hold_id,
            run_id=event.run_id,
            contact_id=event.contact_id,
            placed_at=self._scale.time(meta.tick),
            actor=meta.actor,
            reason=meta.reason,
            command_id=meta.command_id,
        )


def _told(hold: Hold) -> str:
    what = f"run {hold.run_id}" if hold.run_id is not None else f"contact {hold.contact_id}"
    by = f" by {printable(hold.actor)}" if hold.actor else ""
    return (
        f"{what} is under legal hold {hold.hold_id}, placed{by} at {hold.placed_at:%Y-%m-%d} "
        f"({printable(hold.reason or '')}); lift it first with `dee hold lift {hold.hold_id}`"
    )
