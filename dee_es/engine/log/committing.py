"""Committing: what several threads want at one moment shares a transaction.

The first to come leads: it commits all that is queued by then, and those who came meanwhile are
committed together by one of them.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from dee_es.ports import (
    Committed,
    Conflict,
    EventStore,
    Inline,
    Lease,
    Situation,
    Unit,
    UnitsOf,
)


@dataclass(frozen=True, slots=True)
class Proposal:
    """What somebody wants to commit, as things stand then; see `EventStore.decide`."""

    stream_ids: Sequence[str]
    contact_ids: Sequence[str]
    units_of: UnitsOf


class _Waiting:
    """A proposal on its way. `turn` is held until it is done, or its thread has to lead."""

    __slots__ = ("error", "proposal", "results", "turn", "units")

    def __init__(self, proposal: Proposal) -> None:
        self.proposal = proposal
        self.units: Sequence[Unit] = ()
        self.results: list[Committed | Conflict] | None = None
        self.error: BaseException | None = None
        self.turn = threading.Lock()
        self.turn.acquire()

    def propose(self, now: Situation) -> Sequence[Unit]:
        """The units as things stand; what goes wrong is for whoever waits, not for the others."""
        try:
            self.units = self.proposal.units_of(now)
        except Exception as error:
            self.error = error
        return self.units

    @property
    def done(self) -> bool:
        return self.results is not None or self.error is not None


class Committer:
    """Commits units, one transaction at a time."""

    def __init__(self, store: EventStore, inline: Inline) -> None:
        self._store = store
        self._inline = inline
        self._writing = threading.Lock()
        self._queue: list[_Waiting] = []
        self._queued = threading.Lock()
        self._led = False
        self._beside: ThreadPoolExecutor | None = None

    def commit(
        self, units: Sequence[Unit], lease: Lease | None = None
    ) -> list[Committed | Conflict]:
        """Commit or refuse each unit; see `EventStore.commit`."""
        if lease is not None or len(units) != 1:
            with self._writing:
                return self._store.commit(units, inline=self._inline, lease=lease)
        streams = [append.stream_id for append in units[0].appends]
        contacts = [contact for contact, _ in units[0].contact_keys]
        return self.decide(Proposal(streams, contacts, lambda _: units))

    def decide(self, proposal: Proposal) -> list[Committed | Conflict]:
        """Commit or refuse each unit that is proposed as things stand; see `EventStore.decide`.

        Raises what `units_of` raises; nothing of this proposal is then committed.
        """
        mine = _Waiting(proposal)
        with self._queued:
            self._queue.append(mine)
            leads, self._led = not self._led, True
        try:
            if not leads:
                mine.turn.acquire()
            if not mine.done:
                self._lead()
        except BaseException:
            self._leave(mine)
            raise
        if mine.error is not None:
            raise mine.error
        assert mine.results is not None
        return mine.results

    def _lead(self) -> None:
        """Commit what is queued; one of those that come meanwhile leads next."""
        group: list[_Waiting] = []
        try:
            with self._writing:
                with self._queued:
                    group, self._queue = self._queue, []
                self._commit_group(group)
        except BaseException as error:
            for waiting in group:
                waiting.error = error
            if not isinstance(error, Exception):
                raise
        finally:
            for waiting in group:
                waiting.turn.release()
            with self._queued:
                self._pass_on()

    def _commit_group(self, group: Sequence[_Waiting]) -> None:
        streams = [stream for each in group for stream in each.proposal.stream_ids]
        contacts = [contact for each in group for contact in each.proposal.contact_ids]

        def units_of(now: Situation) -> list[Unit]:
            return [unit for each in group for unit in each.propose(now)]

        results = iter(self._store.decide(streams, contacts, units_of, inline=self._inline))
        for each in group:
            if each.error is None:
                each.results = [next(results) for _ in each.units]

    def _leave(self, mine: _Waiting) -> None:
        """Somebody was interrupted; if its turn to lead has come, another one has to."""
        with self._queued:
            if mine in self._queue:
                told = not mine.turn.locked()
                self._queue.remove(mine)
                if told:
                    self._pass_on()

    def _pass_on(self) -> None:
        self._led = bool(self._queue)
        if self._queue:
            self._queue[0].turn.release()

    def begin(
        self, units: Sequence[Unit], lease: Lease | None = None
    ) -> Future[list[Committed | Conflict]]:
        """Commit or refuse each unit while the caller goes on; what was begun is done in order."""
        if self._beside is None:
            self._beside = ThreadPoolExecutor(1, "dee-commit")
        return self._beside.submit(self.commit, units, lease)

    def close(self) -> None:
        """Wait for what was begun."""
        if self._beside is not None:
            self._beside.shutdown()
