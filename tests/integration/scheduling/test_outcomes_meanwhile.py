"""Somebody changes a run while its message is under way: what came of that is recorded all the
same, behind whatever happened to the run meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from dee_es import Engine
from dee_es.adapters.channels.memory import MemoryChannel
from dee_es.core.events import StepDispatched
from dee_es.engine.log.settling import ATTEMPTS
from dee_es.errors import ConcurrencyConflict, StoreUnavailable
from dee_es.ports import Action, ChannelResult, Lease, SendContext
from tests.support.engines import (
    BACKENDS,
    assert_replays,
    database_url,
    open_engine,
    outreach,
    people,
    publish_basics,
)
from tests.support.storage.meanwhile import Two


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Two]:
    with ExitStack() as stack:
        yield Two(tmp_path, stack)


def test_an_outcome_is_recorded_at_the_last_attempt(two: Two) -> None:
    run = two.mine.execute(outreach(), people(1)[0])
    two.change_before_each(run.id, ATTEMPTS - 1)
    two.mine.tick()
    assert "StepCompleted" in two.names(run.id)
    assert two.sent(run.id) == 1
    assert_replays(two.mine)


@pytest.mark.parametrize("alone", [False, True])
def test_one_that_cannot_be_recorded_yet_is_recorded_in_the_next_tick(
    two: Two, alone: bool
) -> None:
    run = two.mine.execute(outreach(), people(1)[0])
    # It is tried again as the tick is broken off.
    two.change_before_each(run.id, 2 * ATTEMPTS)
    with pytest.raises(ConcurrencyConflict, match="1 outcomes could not be recorded yet"):
        two.mine.replay(run.id, dry_run=False) if alone else two.mine.tick()
    assert "StepCompleted" not in two.names(run.id)
    two.mine.tick()
    assert "StepCompleted" in two.names(run.id)
    assert two.sent(run.id) == 1
    assert_replays(two.mine)


@pytest.mark.parametrize("kind", BACKENDS)
def test_one_that_is_refused_beside_one_that_gives_back_is_not_taken_for_lost(
    kind: str, tmp_path: Path, fresh_postgres: Callable[[], str]
) -> None:
    """What is given back to the budget is recorded before the next look, and so is, once more, what
    was refused beside it: that run is due, with an intent whose sender still knows what came of
    it."""
    budget = {"amount": 9, "currency": "EUR", "costPerSend": {"email": 1}, "per": "total"}

    def answer(action: Action, _: SendContext) -> ChannelResult:
        if action.run_id == runs[0]:
            return ChannelResult("failed", error="refused")
        if action.run_id == runs[1]:
            contact = engine.get_run(action.run_id).contact_id
            engine.ingest_event("email.opened", contact, action.run_id)
        return ChannelResult("delivered", "msg_1")

    channel = MemoryChannel(answer)
    url = database_url(kind, tmp_path, fresh_postgres)
    with open_engine(url, channel=channel, page=2) as engine:
        publish_basics(engine)
        engine.publish_policy({"budget": budget})
        runs = sorted(engine.execute(outreach(), each).id for each in people(4))
        engine.tick()
        statuses = [engine.get_run(run).status.value for run in runs]
        assert statuses == ["failed", "waiting", "waiting", "waiting"]
        actions = [entry.action for entry in engine.get_timeline(runs[1])]
        assert "step.executed" in actions
        assert "error.outcome_unknown" not in actions
        assert_replays(engine)


@pytest.mark.parametrize("kind", BACKENDS)
def test_one_that_is_refused_does_not_wait_for_the_end_of_the_tick(
    kind: str, tmp_path: Path, fresh_postgres: Callable[[], str]
) -> None:
    """Which may be hours away, and its sender dead by then."""
    known: list[bool] = []

    def answer(action: Action, _: SendContext) -> ChannelResult:
        if action.run_id == runs[0]:
            engine.pause_run(runs[0])
        if action.run_id == runs[-1]:
            known.append("step.executed" in [e.action for e in engine.get_timeline(runs[0])])
        return ChannelResult("delivered", "msg_1")

    channel, url = MemoryChannel(answer), database_url(kind, tmp_path, fresh_postgres)
    with open_engine(url, channel=channel, page=2) as engine:
        publish_basics(engine)
        runs = sorted(engine.execute(outreach(), each).id for each in people(10))
        engine.tick()
        assert known == [True]
        assert_replays(engine)


class Forgetful:
    """Loses the answer to the first commit of outcomes, which the database has `taken` or not."""

    def __init__(self, engine: Engine, taken: bool) -> None:
        self.lost = False
        store: Any = engine._parts.store
        self._taken, self._commit = taken, store.commit
        store.commit = self._answer

    def _answer(self, *units: Any, lease: Lease | None = None, **more: Any) -> Any:
        if lease is not None or self.lost:
            return self._commit(*units, lease=lease, **more)
        self.lost = True
        if self._taken:
            self._commit(*units, lease=lease, **more)
        raise StoreUnavailable("gone for a moment")


@pytest.mark.parametrize("kind", BACKENDS)
@pytest.mark.parametrize("taken", [False, True])
def test_outcomes_whose_answer_was_lost_are_recorded_once(
    taken: bool, kind: str, tmp_path: Path, fresh_postgres: Callable[[], str]
) -> None:
    """The database was away for that one moment, and nobody has to hear of it."""
    channel = MemoryChannel()
    with open_engine(database_url(kind, tmp_path, fresh_postgres), channel=channel, page=2) as one:
        publish_basics(one)
        runs = sorted(one.execute(outreach(), each).id for each in people(6))
        forgetful = Forgetful(one, taken)
        one.tick()
        assert forgetful.lost
        assert [action.run_id for action in channel.actions] == runs
        for run in runs:
            actions = [entry.action for entry in one.get_timeline(run)]
            assert actions.count("step.executed") == 1
            assert actions[-1] == "wait.started"
        assert_replays(one)


@pytest.mark.parametrize("kind", BACKENDS)
@pytest.mark.parametrize("taken", [False, True])
def test_what_a_failed_send_gives_back_is_given_back_once(
    taken: bool, kind: str, tmp_path: Path, fresh_postgres: Callable[[], str]
) -> None:
    """However often its outcome is recorded: of what is in the log already nothing is counted."""
    budget = {"amount": 9, "currency": "EUR", "costPerSend": {"email": 1}, "per": "total"}
    channel = MemoryChannel([ChannelResult("failed", error="refused")])
    with open_engine(database_url(kind, tmp_path, fresh_postgres), channel=channel, page=2) as one:
        publish_basics(one)
        one.publish_policy({"budget": budget})
        for each in people(6):
            one.execute(outreach(), each)
        forgetful, store = Forgetful(one, taken), one._parts.store
        one.tick()
        assert forgetful.lost
        events = [each.event for each in one._journal.open_public(store.read_log(0, 1_000))]
        spent = [each.reads["budget"] for each in events if isinstance(each, StepDispatched)]
        assert spent == [0, 0, 1, 1, 3, 3]
        assert_replays(one)
