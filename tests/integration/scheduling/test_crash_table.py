"""What arrives when a worker dies, at every moment of a send: once or not at all, and never twice.

A real SMTP server counts what it accepts. The worker is the real command in a process of its own,
killed with SIGKILL, or stopped and continued, at the moments that the server sees.
"""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest

from dee_es import Engine, EngineConfig, ExecutionRun
from dee_es.errors import StoreUnavailable
from tests.support.counts import count
from tests.support.engines import database_url, outreach, publish_basics
from tests.support.waiting import eventually

Fresh = Callable[[], str]
ROOT = Path(__file__).parents[3]
POINTS = ("connect", "data", "dot", "accepted")
ENDS = ("waiting", "completed")


@dataclass
class Postbox:
    """An SMTP server that tells of each moment of a transaction before it goes on."""

    accepted: int = 0
    at: dict[str, Callable[[], None]] = field(default_factory=dict)

    @contextmanager
    def open(self) -> Iterator[int]:
        """Serve on a free port, each connection in a thread of its own."""
        listener = socket.create_server(("127.0.0.1", 0))

        def accept() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield listener.getsockname()[1]
        finally:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()

    def _talk(self, connection: socket.socket) -> None:
        # The client may vanish at any time; that is what these tests are about.
        with connection, suppress(OSError):
            self._serve(connection)

    def _serve(self, connection: socket.socket) -> None:
        self._reach("connect")
        connection.sendall(b"220 postbox\r\n")
        lines = connection.makefile("rb")
        for line in lines:
            verb = line[:4].upper()
            if verb == b"DATA":
                self._reach("data")
                connection.sendall(b"354 go on\r\n")
                while lines.readline() != b".\r\n":
                    pass
                # From here on the server answers for the message.
                self.accepted += 1
                self._reach("dot")
                connection.sendall(b"250 taken\r\n")
                self._reach("accepted")
            elif verb == b"QUIT":
                connection.sendall(b"221 bye\r\n")
                return
            else:
                connection.sendall(b"250 ok\r\n")

    def _reach(self, point: str) -> None:
        self.at.pop(point, lambda: None)()


@dataclass
class Scene:
    """A database with a system clock, an SMTP server, and workers on them."""

    url: str
    folder: Path
    port: int
    postbox: Postbox
    engine: Engine
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def worker(self) -> subprocess.Popen[bytes]:
        """Start one more worker."""
        env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("DEE_")},
            "PYTHONPATH": str(ROOT),
            "DEE_DATABASE": self.url,
            "DEE_KEYS": f"sqlite:///{self.folder / 'keys.db'}",
            "DEE_EMAIL": "smtp",
            "DEE_SMTP_HOST": "127.0.0.1",
            "DEE_SMTP_PORT": str(self.port),
            "DEE_SMTP_SECURITY": "none",
        }
        with (self.folder / "worker.log").open("ab") as log:
            started = subprocess.Popen(
                [sys.executable, "-m", "dee_es.cli", "worker"],
                cwd=self.folder,
                env=env,
                stdout=log,
                stderr=log,
            )
        self.workers.append(started)
        return started

    def enroll(self) -> ExecutionRun:
        person = {"id": "jane", "email": "jane@example.com", "firstName": "Jane"}
        return self.engine.execute(outreach(), person)

    def kill(self) -> None:
        """End the last worker as a power cut would, and its lease with it."""
        self.workers[-1].send_signal(signal.SIGKILL)

    def end_leases(self) -> None:
        """Let the leases of the dead run out now, instead of in ten seconds."""
        statement = "UPDATE partition_leases SET expires_at = 0"
        if self.url.startswith("sqlite"):
            path = self.url.removeprefix("sqlite:///")
            with closing(sqlite3.connect(path, timeout=10)) as raw, raw:
                raw.execute(statement)
        else:
            with psycopg.connect(self.url) as raw:
                raw.execute(statement)

    def actions(self, run: ExecutionRun) -> list[str]:
        return [entry.action for entry in self.engine.get_timeline(run.id)]

    def until(self, reached: Callable[[], bool]) -> None:
        """Wait for something that the workers do."""
        eventually(reached, (self.folder / "worker.log").read_text)

    def can_write(self) -> bool:
        """Whether the append lock is free, or becomes so in bounded time."""
        try:
            with self.nobody_writes():
                return True
        except StoreUnavailable:
            return False

    @contextmanager
    def nobody_writes(self) -> Iterator[None]:
        """Hold the append lock."""
        with self.engine._parts.views.transaction():
            yield


@pytest.fixture(params=["sqlite", "postgres"])
def scene(request: pytest.FixtureRequest, tmp_path: Path, fresh_postgres: Fresh) -> Iterator[Scene]:
    url = database_url(request.param, tmp_path, fresh_postgres)
    postbox = Postbox()
    with ExitStack() as stack:
        port = stack.enter_context(postbox.open())
        engine = stack.enter_context(
            Engine(EngineConfig(url, keys=f"sqlite:///{tmp_path / 'keys.db'}"))
        )
        publish_basics(engine)
        made = Scene(url, tmp_path, port, postbox, engine)
        try:
            yield made
        finally:
            for worker in made.workers:
                worker.send_signal(signal.SIGCONT)
                worker.kill()
                worker.wait()


def recover(scene: Scene, run: ExecutionRun, settled: Callable[[], bool]) -> None:
    """A new worker takes over and brings the run to where `settled` holds; then it has time to do
    more, if it would."""
    scene.workers[-1].wait(10)
    scene.end_leases()
    scene.worker()
    scene.until(settled)
    time.sleep(1.2)
    assert scene.postbox.accepted <= 1


@pytest.mark.parametrize("_", range(count(1, 5)))
def test_killed_before_the_intent(scene: Scene, _: int) -> None:
    scene.worker()
    scene.until(lambda: "at work" in (scene.folder / "worker.log").read_text())
    run = scene.enroll()
    with scene.nobody_writes():
        time.sleep(1.0)
        assert scene.postbox.accepted == 0
        scene.kill()
        scene.workers[-1].wait(10)
    if "step.dispatched" in scene.actions(run):
        pytest.fail("the intent was committed before the lock was taken; the machine is too busy")
    recover(scene, run, lambda: scene.engine.get_run(run.id).status in ENDS)
    assert scene.postbox.accepted == 1


@pytest.mark.parametrize("_", range(count(1, 5)))
@pytest.mark.parametrize("point,accepted", [("connect", 0), ("data", 0), ("dot", 1)])
def test_killed_in_the_transaction(scene: Scene, point: str, accepted: int, _: int) -> None:
    scene.postbox.at[point] = scene.kill
    scene.worker()
    run = scene.enroll()
    scene.until(lambda: scene.workers[-1].poll() is not None)
    recover(scene, run, lambda: scene.engine.get_run(run.id).status == "failed")
    assert "error.outcome_unknown" in scene.actions(run)
    assert scene.postbox.accepted == accepted


@pytest.mark.parametrize("_", range(count(1, 5)))
def test_killed_between_the_reply_and_the_outcome(scene: Scene, _: int) -> None:
    lock = scene.nobody_writes()
    replied = threading.Event()
    scene.postbox.at["dot"] = lock.__enter__
    scene.postbox.at["accepted"] = replied.set
    scene.worker()
    run = scene.enroll()
    assert replied.wait(60)
    time.sleep(0.5)
    scene.kill()
    scene.workers[-1].wait(10)
    lock.__exit__(None, None, None)
    recover(scene, run, lambda: scene.engine.get_run(run.id).status == "failed")
    assert "error.outcome_unknown" in scene.actions(run)
    assert scene.postbox.accepted == 1


@pytest.mark.parametrize("_", range(count(1, 5)))
def test_killed_after_the_outcome(scene: Scene, _: int) -> None:
    scene.worker()
    run = scene.enroll()
    scene.until(lambda: scene.engine.get_run(run.id).status == "waiting")
    scene.kill()
    recover(scene, run, lambda: scene.engine.get_run(run.id).status == "waiting")
    assert scene.postbox.accepted == 1


@pytest.mark.parametrize("_", range(count(1, 5)))
@pytest.mark.parametrize("point", ["dot", "accepted"])
def test_stopped_while_another_takes_over(scene: Scene, point: str, _: int) -> None:
    """The one that was stopped can neither send again nor decide anything; what it knows of its
    own send is kept as evidence."""
    stopped, go_on = threading.Event(), threading.Event()
    lock = scene.nobody_writes()

    def stop() -> None:
        scene.workers[0].send_signal(signal.SIGSTOP)
        stopped.set()
        go_on.wait(40)

    def stop_before_the_outcome() -> None:
        time.sleep(0.5)
        scene.workers[0].send_signal(signal.SIGSTOP)
        lock.__exit__(None, None, None)
        stopped.set()

    if point == "dot":
        scene.postbox.at["dot"] = stop
    else:
        scene.postbox.at["dot"] = lock.__enter__
        scene.postbox.at["accepted"] = stop_before_the_outcome
    first = scene.worker()
    run = scene.enroll()
    assert stopped.wait(60)
    scene.end_leases()
    scene.until(scene.can_write)
    second = scene.worker()
    # Another connection of the stopped one may have waited for the append lock, and hold it now
    # until the server ends its transaction as well.
    scene.until(lambda: scene.engine.get_run(run.id).status == "failed")
    go_on.set()
    first.send_signal(signal.SIGCONT)
    time.sleep(2.0)
    assert scene.postbox.accepted == 1
    scene.until(lambda: scene.actions(run)[-1] == "step.executed")
    actions = scene.actions(run)
    assert actions.count("step.dispatched") == 1
    assert "error.outcome_unknown" in actions
    assert scene.engine.get_run(run.id).status == "failed"
    assert scene.engine.verify_log().valid
    assert second.poll() is None


def test_a_standby_takes_over_from_the_dead(scene: Scene) -> None:
    """Nobody touches the lease here: it runs out by itself, within ten seconds."""
    scene.worker()
    scene.until(lambda: "at work" in (scene.folder / "worker.log").read_text())
    standby = scene.worker()
    scene.until(lambda: (scene.folder / "worker.log").read_text().count("started") == 2)
    scene.workers[0].kill()
    scene.workers[0].wait(10)
    run = scene.enroll()
    scene.until(lambda: scene.engine.get_run(run.id).status == "waiting")
    assert scene.postbox.accepted == 1
    assert standby.poll() is None
