"""PostgreSQL goes away in the middle of a tick and comes back: nothing is lost, sent twice or
made up.

The server is the test's own and is stopped as if the machine had lost power, while messages whose
intents are committed are on their way.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from dee_es import Engine, EngineConfig
from dee_es.adapters.keys import open_sqlite_keys
from dee_es.core.events import StepDispatched
from dee_es.errors import StoreUnavailable
from dee_es.ports import Action, ChannelResult, SendContext
from tests.support.counts import count
from tests.support.engines import master_of, outreach, publish_basics
from tests.support.storage.postgres import server_folder, start_server
from tests.support.waiting import eventually

BEFORE, AFTER = 12, 3


class HeldChannel:
    """Holds every message until it is told to let them through; then it has accepted them."""

    name = "held"
    kinds = frozenset({"email", "voice"})

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.accepted: list[Action] = []
        self.reached = threading.Event()
        self.let_through = threading.Event()

    def send(self, action: Action, context: SendContext) -> ChannelResult:
        """Accept the message once it may pass."""
        self.begun.append(action.key)
        self.reached.set()
        assert self.let_through.wait(120)
        self.accepted.append(action)
        return ChannelResult("delivered")

    def close(self) -> None:
        """Nothing to release."""


class OwnServer:
    """A PostgreSQL server that can lose its power."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.server = start_server(directory)

    def stop(self) -> None:
        """End it at once, without a checkpoint or a word to its clients."""
        pid_file = self.directory / "data" / "postmaster.pid"
        os.kill(int(pid_file.read_text().split()[0]), signal.SIGQUIT)
        until(lambda: not pid_file.exists())
        self.server.cleanup()

    def start(self) -> None:
        """Bring it back with what it had committed."""
        self.server = start_server(self.directory)

    def close(self) -> None:
        """Stop it for good."""
        self.server.cleanup()


@pytest.fixture
def server() -> Iterator[OwnServer]:
    with server_folder() as directory, closing(OwnServer(directory)) as own:
        yield own


@contextmanager
def working(engine: Engine) -> Iterator[threading.Thread]:
    """A worker on the engine, in a thread of its own."""
    stop = threading.Event()
    worker = threading.Thread(target=engine.worker, args=(stop,), daemon=True)
    worker.start()
    try:
        yield worker
    finally:
        stop.set()
        worker.join(60)


def until(reached: Callable[[], bool]) -> None:
    """Wait for something that others do; a database that is away is not there yet."""

    def is_there() -> bool:
        try:
            return reached()
        except StoreUnavailable:
            return False

    eventually(is_there)


def intents(engine: Engine) -> Counter[tuple[str, str]]:
    """How often each run and key has an intent in the log."""
    found: Counter[tuple[str, str]] = Counter()
    for run in engine.list_runs(limit=100).runs:
        for recorded in engine._journal.open(engine._parts.store.read_stream(run.id)):
            if isinstance(recorded.event, StepDispatched):
                found[run.id, recorded.event.key] += 1
    return found


def people(first: int, number: int) -> list[dict[str, Any]]:
    return [
        {"id": f"c{n}", "email": f"c{n}@example.com", "firstName": "Jo"}
        for n in range(first, first + number)
    ]


@pytest.mark.parametrize(
    "concurrent,outlasts", [(4, False), (1, True)], ids=["sent meanwhile", "sent afterwards"]
)
def test_the_server_goes_away_between_intent_and_outcome(
    server: OwnServer,
    tmp_path: Path,
    concurrent: int,
    outlasts: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    keys = tmp_path / "keys.db"
    channel = HeldChannel()
    config = EngineConfig(server.server.get_uri(), max_concurrent_sends=concurrent)

    def opened() -> Engine:
        store = open_sqlite_keys(str(keys), master_of(keys))
        return Engine(config, channels={"email": channel, "voice": channel}, keys=store)

    with opened() as engine, opened() as observer:
        publish_basics(observer)
        assert observer.bulk_execute(outreach(), people(0, BEFORE)).created == BEFORE
        with working(engine) as worker:
            assert channel.reached.wait(60)
            committed = intents(observer)
            assert len(committed) == BEFORE
            server.stop()
            if not outlasts:
                channel.let_through.set()
            time.sleep(count(6, 30))
            if not outlasts:
                # It may have waited for the whole of its time for a connection.
                until(lambda: "database_unavailable" in [each.message for each in caplog.records])
            begun = list(channel.begun)
            server.start()
            channel.let_through.set()
            # What left while there was no database had its intent before.
            assert begun
            assert Counter(begun) <= Counter(key for _, key in committed)
            until(lambda: enrolled(observer))
            until(lambda: settled(observer))
            assert worker.is_alive()
        check(observer, channel)
    told = [
        (each.message, each.__dict__.get("problem"))
        for each in caplog.records
        if each.message.startswith("database_")
    ]
    if not outlasts:
        assert told[-1][0] == "database_back"
        assert "database_unavailable" in [message for message, _ in told]
    # A worker looks twice a second; it says what it finds when that is news.
    assert all(before != after for before, after in pairwise(told)), told


def enrolled(engine: Engine) -> bool:
    """Enroll some more, who show that work goes on; safe to repeat."""
    result = engine.bulk_execute(outreach(), people(BEFORE, AFTER), command_id="more")
    return result.created == AFTER


def settled(engine: Engine) -> bool:
    """Whether nobody has anything to do now."""
    return engine.list_runs(status="active").total == 0


def check(engine: Engine, channel: HeldChannel) -> None:
    """Every run and every message is accounted for."""
    verdict = engine.verify_log()
    assert verdict.valid, verdict.problems
    runs = engine.list_runs(limit=100).runs
    assert len(runs) == BEFORE + AFTER
    known = intents(engine)
    arrived = Counter((action.run_id, action.key) for action in channel.accepted)
    # Each accepted message belongs to one intent, and none was accepted twice.
    assert arrived <= Counter(known.keys())
    for run in runs:
        got = sum(number for (owner, _), number in arrived.items() if owner == run.id)
        if run.status == "waiting" and run.current_step == "pause":
            assert got == 1, run
        elif run.status == "waiting":
            # The sender saw that it had lost the right to begin, and tries again later.
            assert run.current_step == "intro"
            assert (run.status_reason or "").startswith("attempt 1"), run
            assert got == 0, run
        else:
            assert run.status == "failed", run
            assert (run.status_reason or "").startswith("outcome unknown"), run
            assert got <= 1, run
    new = {run.contact_id: run for run in runs}
    for person in people(BEFORE, AFTER):
        assert new[person["id"]].current_step == "pause"
