"""`DeeClient` at a `dee serve` that is killed or stopped in the midst of its work, and started
again."""

from __future__ import annotations

import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dee_es.client import DeeClient
from dee_es.errors import StoreUnavailable
from tests.support.cli.commands import Dee

PEOPLE = 3_000
AWAY_S = 1.0


class Restarted:
    """A server on one port, that can be ended, and started again at the same place."""

    def __init__(self, dee: Dee) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        self._dee = dee
        self._again: threading.Thread | None = None
        self._process = self._started()

    def _started(self) -> subprocess.Popen[str]:
        process = self._dee.start("serve", "--port", str(self._port))
        assert process.stdout is not None
        assert process.stdout.readline().startswith("serving on ")
        return process

    def end(self, how: signal.Signals, *, again: bool) -> None:
        """End it now; with `again` it is started after a while, as a service is."""
        self._process.send_signal(how)

        def later() -> None:
            self._process.communicate()
            time.sleep(AWAY_S)
            self._process = self._started()

        if again:
            self._again = threading.Thread(target=later)
            self._again.start()

    def close(self) -> None:
        """End it for good."""
        if self._again is not None:
            self._again.join()
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Restarted]:
    dee = Dee(tmp_path, {"DEE_ACTOR": "robin"}).prepared()
    dee("plan", "publish", "plan.yaml")
    found = Restarted(dee)
    try:
        yield found
    finally:
        found.close()


def once(act: Callable[[], object], when: Callable[[Any], bool]) -> Callable[[Any], None]:
    """What is told of a progress, and acts the first time that the time has come."""
    acted = list[bool]()

    def told(progress: Any) -> None:
        if when(progress) and not acted:
            acted.append(True)
            act()

    return told


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_list_that_is_being_enrolled_is_enrolled_to_its_end(
    server: Restarted, how: signal.Signals
) -> None:
    people = ({"id": f"c{n}", "email": f"c{n}@example.com"} for n in range(PEOPLE))
    end = once(lambda: server.end(how, again=True), lambda result: result.done > PEOPLE // 3)
    with DeeClient(server.url) as client:
        found = client.bulk_execute(
            "welcome", people, {"place": "here"}, batch_size=50, on_progress=end
        )
        assert (found.created, found.skipped, found.errors) == (PEOPLE, 0, 0)
        assert client.list_runs(limit=1).total == PEOPLE
        assert client.verify_log().valid


def test_a_job_that_only_reads_is_begun_anew(server: Restarted) -> None:
    people = ({"id": f"c{n}", "email": f"c{n}@example.com"} for n in range(500))
    with DeeClient(server.url) as client:
        client.bulk_execute("welcome", people, {"place": "here"})
        server.end(signal.SIGKILL, again=True)
        assert client.verify_log().valid


def test_a_server_that_stays_away_is_given_up_after_a_while(server: Restarted) -> None:
    people = ({"id": f"c{n}", "email": f"c{n}@example.com"} for n in range(PEOPLE))
    end = once(lambda: server.end(signal.SIGKILL, again=False), lambda result: result.done > 1_000)
    with DeeClient(server.url, patience_s=1.5) as client:
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match="known to be done: 1000 created, 0 skipped"):
            client.bulk_execute(
                "welcome", people, {"place": "here"}, batch_size=50, on_progress=end
            )
        assert time.monotonic() - began >= 1.5
