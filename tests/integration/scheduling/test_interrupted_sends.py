"""Whoever interrupts a tick, as by Ctrl-C: what is known of its sends is recorded, what had not
begun is tried again, and only a send that was under way is unknown."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from dee_es import Engine, EngineConfig
from dee_es.adapters.channels.memory import MemoryChannel
from dee_es.adapters.keys import open_memory_keys
from dee_es.engine.scheduling import dispatch, leases, passes
from dee_es.errors import StoreUnavailable
from dee_es.ports import Action, ChannelResult, Lease, SendContext
from tests.support.counts import count
from tests.support.engines import (
    BACKENDS,
    EPOCH,
    assert_replays,
    database_url,
    open_engine,
    outreach,
    publish_basics,
)
from tests.support.interruption import interrupted
from tests.support.waiting import eventually

COUNT = 5


def people() -> list[dict[str, str]]:
    return [{"id": f"c{n}", "email": f"c{n}@example.com", "firstName": "N"} for n in range(COUNT)]


class Impatient:
    """A channel in which somebody presses Ctrl-C during the `at`-th send, counted from 1."""

    def __init__(self, at: int) -> None:
        self.left = at
        self.channel = MemoryChannel(self._answer)

    def _answer(self, action: Action, _: SendContext) -> ChannelResult:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        return ChannelResult("delivered", "msg_1")


@pytest.mark.parametrize("kind", BACKENDS)
@pytest.mark.parametrize("at", [1, 3, COUNT])
def test_only_the_send_under_way_is_unknown(
    kind: str, at: int, tmp_path: Path, fresh_postgres: Callable[[], str]
) -> None:
    somebody = Impatient(at)
    url = database_url(kind, tmp_path, fresh_postgres)
    with open_engine(url, channel=somebody.channel) as engine:
        publish_basics(engine)
        runs = sorted(engine.execute(outreach(), each).id for each in people())
        with pytest.raises(KeyboardInterrupt):
            engine.tick()
        # Already now, since there may be no later for this process.
        delivered = [run for run in runs if "step.executed" in actions(engine, run)]
        assert delivered == runs[: at - 1]
        engine.run_until(60)
        assert [engine.get_run(run).status.value for run in runs] == [
            "failed" if run == runs[at - 1] else "waiting" for run in runs
        ]
        assert "error.outcome_unknown" in actions(engine, runs[at - 1])
        sent = [action.run_id for action in somebody.channel.actions]
        assert sorted(sent) == runs, "each was sent once"
        assert_replays(engine)


def test_threads_that_send_do_no_more_once_it_is_interrupted() -> None:
    somebody = Impatient(3)
    config = EngineConfig(":memory:", clock="manual", epoch=EPOCH, max_concurrent_sends=2)
    channels = {"email": somebody.channel, "voice": somebody.channel}
    with Engine(config, channels=channels, keys=open_memory_keys()) as engine:
        publish_basics(engine)
        runs = sorted(engine.execute(outreach(), each).id for each in people())
        with pytest.raises(KeyboardInterrupt):
            engine.tick()
        engine.run_until(120)
        statuses = [engine.get_run(run).status.value for run in runs]
        assert "failed" in statuses
        # The other thread may have been in the middle of a send, too.
        assert statuses.count("waiting") >= COUNT - 2
        sent = [action.run_id for action in somebody.channel.actions]
        assert sorted(sent) == runs, "each was sent once"


def tick_interrupted(engine: Engine, channel: MemoryChannel, file: str, at: int) -> bool:
    """Three more are enrolled, and the tick that sends to them is interrupted at its `at`-th chance
    in the code of a file; says whether there was that chance."""
    some = [{**each, "id": f"{each['id']}-{at}"} for each in people()[:3]]
    runs = sorted(engine.execute(outreach(), each).id for each in some)
    before = len(channel.actions)
    was = interrupted(file, at, engine.tick)
    engine.run_until(engine.now().tick + 120)
    sent = sorted(action.run_id for action in channel.actions[before:])
    failed = [run for run in runs if engine.get_run(run).status == "failed"]
    assert len(failed) <= 1, "one is under way at a time"
    assert sorted({*sent, *failed}) == runs
    assert len(sent) == len(set(sent)), "none was sent twice"
    return was


@pytest.mark.parametrize("where", [dispatch, passes], ids=["dispatch", "passes"])
def test_at_whatever_moment_no_more_than_one_is_unknown(where: ModuleType) -> None:
    """Whether a message is known to have left, or not to have begun, hangs on no single step."""
    at, channel = 1, MemoryChannel()
    with open_engine(":memory:", channel=channel, page=2) as engine:
        publish_basics(engine)
        while tick_interrupted(engine, channel, str(where.__file__), at):
            at += count(3, 1)
        assert at > 100
        assert_replays(engine)


def actions(engine: Engine, run_id: str) -> list[str]:
    return [entry.action for entry in engine.get_timeline(run_id)]


def lose_releases(engine: Engine) -> None:
    """The database is away whenever the lease is to be given back."""
    store: Any = engine._parts.store

    def away(_: Lease) -> None:
        raise StoreUnavailable("it is away")

    store.release_lease = away


def test_who_interrupts_while_the_database_is_away_is_heard() -> None:
    somebody = Impatient(1)
    with open_engine(":memory:", channel=somebody.channel) as engine:
        publish_basics(engine)
        engine.execute(outreach(), people()[0])
        lose_releases(engine)
        with pytest.raises(KeyboardInterrupt):
            engine.tick()


def test_so_is_who_interrupts_while_nothing_can_be_recorded() -> None:
    """What is known by then is recorded when the database is back."""
    somebody = Impatient(3)
    with open_engine(":memory:", channel=somebody.channel) as engine:
        publish_basics(engine)
        runs = sorted(engine.execute(outreach(), each).id for each in people())
        store: Any = engine._parts.store
        commit = store.commit

        def away(*units: Any, lease: Lease | None, **more: Any) -> Any:
            if lease is None:
                raise StoreUnavailable("it is away")
            return commit(*units, lease=lease, **more)

        store.commit = away
        with pytest.raises(KeyboardInterrupt):
            engine.tick()
        store.commit = commit
        engine.run_until(120)
        failed = [run for run in runs if engine.get_run(run).status == "failed"]
        assert failed == [runs[2]]
        assert sorted(action.run_id for action in somebody.channel.actions) == runs


def test_what_was_done_is_told_though_the_lease_could_not_be_given_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It runs out by itself."""
    with open_engine(":memory:") as engine:
        publish_basics(engine)
        run = engine.execute(outreach(), people()[0])
        lose_releases(engine)
        assert engine.tick().delivered == 1
        assert engine.get_run(run.id).status == "waiting"
    assert "lease_not_released" in [each.message for each in caplog.records]


def test_a_lease_is_renewed_however_long_a_message_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another worker would take the sender for dead, and its message for lost."""
    monkeypatch.setattr(leases, "RENEW_S", 0.01)
    asked: list[tuple[Any, ...]] = []

    def slow(_: Action, __: SendContext) -> ChannelResult:
        # Meanwhile the tick's own thread asks for nothing.
        before = len(asked)
        eventually(lambda: len(asked) > before)
        return ChannelResult("delivered", "msg_1")

    with open_engine(":memory:", channel=MemoryChannel(slow)) as engine:
        publish_basics(engine)
        run = engine.execute(outreach(), people()[0])
        store: Any = engine._parts.store
        acquire = store.acquire_lease

        def counted(*given: Any) -> Lease | None:
            asked.append(given)
            lease: Lease | None = acquire(*given)
            return lease

        store.acquire_lease = counted
        engine.tick()
        assert engine.get_run(run.id).status == "waiting"


def test_nothing_renews_a_lease_that_was_given_back() -> None:
    def renewing() -> bool:
        return any(each.name == "dee-lease" for each in threading.enumerate())

    with open_engine(":memory:") as engine:
        publish_basics(engine)
        engine.execute(outreach(), people()[0])
        engine.tick()
        eventually(lambda: not renewing())
