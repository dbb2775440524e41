"""Committing: what several threads want at one moment shares a transaction.

The first to come leads: it commits all that is queued by then, and those who came meanwhile are
committed together by one of them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from dee_es.errors import StoreUnavailable
from dee_es.ports import (
    Committed,
    Conflict,
    EventStore,
    Inline,
    Lease,
    Situation,
    Unit,
    UnitsOf,
    beside,
)
from dee_es.ports.beside import Begun

_INTERRUPTED: Final = (
    "the thread that committed was interrupted; a commit under way may or may not have happened"
)


class Proposal(Struct, frozen=True):
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
        self._leader: _Waiting | None = None
        # Whose units the leader commits; nobody else touches it.
        self._group: Sequence[_Waiting] = ()
        self._crowded = False

    def commit(
        self, units: Sequence[Unit], lease: Lease | None = None
    ) -> list[Committed | Conflict]:
        """Commit or refuse each unit, behind all that the caller has begun; see
        `EventStore.commit`."""
        beside.finish()
        if lease is not None or len(units) != 1:
            return self._commit(units, lease)
        streams = [append.stream_id for append in units[0].appends]
        contacts = [contact for contact, _ in units[0].contact_keys]
        return self.decide(Proposal(streams, contacts, lambda _: units))

    def _commit(self, units: Sequence[Unit], lease: Lease | None) -> list[Committed | Conflict]:
        if not units:
            return []
        return beside.holding(
            self._writing, lambda: self._store.commit(units, inline=self._inline, lease=lease)
        )

    def decide(self, proposal: Proposal) -> list[Committed | Conflict]:
        """Commit or refuse each unit that is proposed as things stand; see `EventStore.decide`.

        Raises what `units_of` raises; nothing of this proposal is then committed.
        """
        beside.finish()
        mine = _Waiting(proposal)
        try:
            with self._queued:
                self._queue.append(mine)
                leads = self._leader is None
                if leads:
                    self._leader = mine
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
        with self._writing:
            if self._crowded:
                # Who is about to ask may come along: a group costs the disk as much as one.
                time.sleep(0)
            with self._queued:
                self._group, self._queue = self._queue, []
            self._crowded = len(self._group) > 1
            self._commit_each(self._group)
        self._hand_over()

    def _commit_each(self, group: Sequence[_Waiting]) -> None:
        """Commit all together, or each alone where something of one of them could not be."""
        try:
            self._commit_group(group)
            return
        except Exception as error:
            failed = error
        # What may have been committed must not be committed again.
        alone = len(group) == 1 or isinstance(failed, StoreUnavailable)
        for waiting in group:
            if not waiting.done and alone:
                waiting.error = failed
            elif not waiting.done:
                self._commit_each([waiting])

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
        """Somebody was interrupted, at whatever moment; if it leads, another one has to."""
        with self._queued:
            if mine in self._queue:
                self._queue.remove(mine)
            leads = self._leader is mine
        if leads:
            self._hand_over()

    def _hand_over(self) -> None:
        """Tell those who were committed for, and the next one to lead; the rest of it if it was
        broken off."""
        for waiting in self._group:
            if not waiting.done:
                waiting.error = StoreUnavailable(_INTERRUPTED)
            if waiting.turn.locked():
                waiting.turn.release()
        with self._queued:
            self._group = ()
            self._leader = self._queue[0] if self._queue else None
            if self._leader is not None:
                self._leader.turn.release()

    def begin(
        self, units: Sequence[Unit], lease: Lease | None = None
    ) -> Begun[list[Committed | Conflict]]:
        """Commit or refuse each unit while the caller goes on; what was begun is done in order."""
        return beside.begin(lambda: self._commit(units, lease))
