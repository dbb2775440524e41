"""Runs that began while a channel event of their contact was decided: too late to be found then,
and in the log before the event all the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from dee_es.core import events as e
from dee_es.core.views import RunFilter
from dee_es.engine.contacts.received import Received
from dee_es.engine.log.settling import Wanted, settle
from dee_es.engine.queries import Queries
from dee_es.engine.transact import Runs
from dee_es.ports import Unit


class Taken(NamedTuple):
    """An event that was committed: its contact, the streams that have it, where in the log."""

    event: Received
    contact_id: str
    streams: Sequence[str]
    position: int


class Latecomers:
    """Tells latecomers, in commits of their own, what all runs of their contact were told."""

    def __init__(self, runs: Runs, queries: Queries) -> None:
        self._runs = runs
        self._queries = queries
        self._store = runs.store

    def tell(self, taken: Iterable[Taken], since: int, meta: e.Meta) -> None:
        """Record events in the runs that they reach and that began after the `since`-th run."""
        if self._store.log_head().ordinal == since:
            return
        for each in taken:
            if each.event.reaches_others:
                for run_id in self._of(each, since):
                    self._record(run_id, each.event, meta)

    def _of(self, taken: Taken, since: int) -> Iterator[str]:
        """The event's latecomers; a run that began behind it in the log is none."""
        rows = self._queries.all_rows(RunFilter(contact_id=taken.contact_id))
        begun = [row.run_id for row in rows if row.ordinal > since]
        untold = [run_id for run_id in begun if run_id not in taken.streams]
        for run_id, first in self._store.read_first(untold).items():
            if first.position < taken.position:
                yield run_id

    def _record(self, run_id: str, event: Received, meta: e.Meta) -> None:
        def look() -> Wanted[None]:
            now = replace(meta, tick=self._runs.clock.now())
            decided = self._runs.decide(self._runs.load(run_id), event.command_elsewhere(now))
            assert decided is not None, "a channel event is always recorded"
            return Wanted(Unit(decided.unit.appends, min_tick=now.tick), lambda _: None)

        settle(self._runs.committer, self._runs.clock, look, f"run {run_id}")
