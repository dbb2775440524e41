"""Whenever the thread that commits for others is interrupted, nobody waits for ever."""

from __future__ import annotations

import sys
import threading
from typing import Any

from dee_es.adapters.storage.memory import open_memory
from dee_es.engine.log import committing
from dee_es.engine.log.committing import Committer, Proposal
from dee_es.errors import StoreUnavailable
from dee_es.ports import Committed, Conflict, Situation
from tests.support.interruption import Interruption
from tests.support.storage.events import run, unit
from tests.support.waiting import eventually

Outcomes = list[Committed | Conflict]


class Doing(threading.Thread):
    """What a thread does, with its outcome; one that never ends keeps no test run waiting."""

    def __init__(self, committer: Committer, number: int, at: int = 0) -> None:
        super().__init__(daemon=True)
        self.outcome: Outcomes | BaseException | None = None
        self._committer, self._number, self._at = committer, number, at
        self.start()

    def run(self) -> None:
        proposal = Proposal([run(self._number)], [], lambda _: [unit(run(self._number))])
        if self._at:
            # Python 3.12 sees only when tracing begins that somebody wants to see opcodes.
            sys._getframe().f_trace_opcodes = True
            sys.settrace(Interruption(committing.__file__, self._at))
        try:
            self.outcome = self._committer.decide(proposal)
        except BaseException as error:
            self.outcome = error
        finally:
            sys.settrace(None)

    def result(self) -> Outcomes | BaseException:
        self.join(60)
        assert self.outcome is not None, f"{self._number} waits for ever"
        return self.outcome


def _queued(committer: Committer, number: int) -> bool:
    return any(each.proposal.stream_ids == [run(number)] for each in list(committer._queue))


def _interrupted(at: int) -> bool:
    """Two commit together, and who leads is interrupted at its `at`-th chance; says whether there
    was that chance."""
    store, _ = open_memory()
    committer = Committer(store, lambda *_: None)
    entered, opened = threading.Event(), threading.Event()

    def busy(_: Situation) -> list[Any]:
        entered.set()
        assert opened.wait(60)
        return []

    first = threading.Thread(target=committer.decide, args=(Proposal([], [], busy),), daemon=True)
    first.start()
    assert entered.wait(60)
    leader = Doing(committer, 1, at)
    eventually(lambda: _queued(committer, 1) or not leader.is_alive())
    follower = Doing(committer, 2)
    eventually(lambda: _queued(committer, 2))
    opened.set()
    outcomes = [leader.result(), follower.result()]
    first.join(60)
    assert not first.is_alive()
    for number, outcome in enumerate(outcomes, start=1):
        if isinstance(outcome, list):
            assert [type(each) for each in outcome] == [Committed]
            assert len(store.read_stream(run(number))) == 1
    assert isinstance(outcomes[1], list | StoreUnavailable), "not the follower was interrupted"
    assert isinstance(Doing(committer, 3).result(), list)
    return isinstance(outcomes[0], KeyboardInterrupt)


def test_nobody_waits_for_ever() -> None:
    chances = 0
    while _interrupted(chances + 1):
        chances += 1
    assert chances > 20


def test_who_leads_from_the_beginning_is_interrupted() -> None:
    chances = 0
    while True:
        store, _ = open_memory()
        committer = Committer(store, lambda *_: None)
        outcome = Doing(committer, 1, chances + 1).result()
        assert Doing(committer, 2).result() in ([Committed(1, 1)], [Committed(2, 2)])
        if isinstance(outcome, list):
            break
        chances += 1
    assert chances > 20
