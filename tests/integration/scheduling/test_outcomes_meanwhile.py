"""Somebody changes a run while its message is under way: what came of that is recorded all the
same, behind whatever happened to the run meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from dee_es.adapters.channels.memory import MemoryChannel
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
def test_outcomes_that_were_not_taken_are_recorded_with_the_next(
    kind: str, tmp_path: Path, fresh_postgres: Callable[[], str]
) -> None:
    """The database was away for that one moment, and nobody has to hear of it."""
    channel, away = MemoryChannel(), [True]
    with open_engine(database_url(kind, tmp_path, fresh_postgres), channel=channel, page=2) as one:
        publish_basics(one)
        runs = sorted(one.execute(outreach(), each).id for each in people(6))
        store: Any = one._parts.store
        commit = store.commit

        def committing(*units: Any, lease: Lease | None = None, **more: Any) -> Any:
            if lease is None and away:
                away.clear()
                raise StoreUnavailable("gone for a moment")
            return commit(*units, lease=lease, **more)

        store.commit = committing
        one.tick()
        assert not away
        assert [action.run_id for action in channel.actions] == runs
        assert {one.get_run(run).status.value for run in runs} == {"waiting"}
        assert_replays(one)
