"""How fast `dee serve` answers with many runs: pages one by one, and JSON lists a second.

The server is a process of its own, started as users start it; this process is its only client, by
plain HTTP over connections that stay open.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlencode, urlsplit

from scripts.benchmarks.harness import Figure, beside, engine_on, percentile, settle, spread_of
from scripts.benchmarks.replaying import live
from scripts.benchmarks.run_list import fill

BAR_MS: Final = 100
"""99th percentile of the runs page and of the run page, on the server."""
LISTS_BAR: Final = 200
"""JSON lists a second, from one process."""
NAME: Final = "web"
_TOLD: Final = 500
"""Runs of 20 events each."""
_CALLS: Final = 300
_SECONDS: Final = 5.0
_ENOUGH_S: Final = 3_600.0
_TIMING: Final = re.compile(r"app;dur=([0-9.]+)")


def measure(url: str, folder: Path, runs: int, repeats: int) -> Iterator[Figure]:
    """Latency of the pages, and lists a second, at `runs` runs."""
    yield from _filled(url, folder, runs)
    ids = json.loads((folder / f"{NAME}.json").read_text(encoding="utf-8"))["runs"]
    # A quick run is content with less.
    calls, seconds = (_CALLS // 5, _SECONDS / 5) if repeats == 1 else (_CALLS, _SECONDS)
    with _serving(url, folder) as address, closing(Client(address)) as client:
        yield from _catching_up(client)
        for name, paths in _pages(client, ids, runs).items():
            yield from _page(client, name, paths, calls)
        # Searches of the audit trail are entries of the log themselves.
        yield from _catching_up(client)
        for path in ("/api/v1/runs", "/runs"):
            for connections in (1, 4, 8):
                yield from _rate(address, path, connections, repeats, seconds)


def _filled(url: str, folder: Path, runs: int) -> Iterator[Figure]:
    """Fill the database, unless a run before this one has left it so."""
    note = folder / f"{NAME}.json"
    if note.exists():
        held = json.loads(note.read_text(encoding="utf-8"))["of"]
        if held != runs:
            raise SystemExit(f"{folder} holds {held:,} runs; give --runs {held}")
        return
    with engine_on(url, folder, NAME) as engine:
        ids = [run.id for run in live(engine, _TOLD)]
        start = time.perf_counter()
        fill(engine, runs)
        rate = runs / (time.perf_counter() - start)
    settle(url, NAME)
    note.write_text(json.dumps({"of": runs, "runs": ids}), encoding="utf-8")
    yield Figure("filled with runs of 5 plans over 20 days", rate, "runs/s")


# --- the server and its client --------------------------------------------------------------------


@contextmanager
def _serving(url: str, folder: Path) -> Iterator[str]:
    """The address of `dee serve` on the database."""
    database = f"sqlite:///{folder / NAME}.db" if url.startswith("sqlite") else beside(url, NAME)
    environ = {
        **os.environ,
        "DEE_DATABASE": database,
        "DEE_KEYS": f"sqlite:///{folder / NAME}.keys.db",
        "DEE_OUTBOX": str(folder / f"{NAME}.outbox"),
    }
    command = [sys.executable, "-m", "dee_es.cli", "serve", "--port", "0"]
    with subprocess.Popen(
        command, cwd=folder, env=environ, stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None
            said = server.stdout.readline()
            found = re.search(r"http://\S+:\d+", said)
            if found is None:
                raise SystemExit(f"dee serve did not start: {said}")
            yield found[0]
        finally:
            server.terminate()


class Client:
    """One connection that stays open, and how long the server says that each answer took it."""

    def __init__(self, address: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=120)

    def get(self, path: str, status: int = 200) -> tuple[bytes, float]:
        """The body of an answer, and the server's own time for it in ms."""
        self._connection.request("GET", path, headers={"Accept": "text/html,application/json"})
        answer = self._connection.getresponse()
        body = answer.read()
        if answer.status != status:
            raise SystemExit(f"{path} answered {answer.status}: {body[:500]!r}")
        timing = _TIMING.search(answer.headers.get("Server-Timing", ""))
        return body, float(timing[1]) if timing is not None else float("nan")

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


# --- pages ----------------------------------------------------------------------------------------


def _catching_up(client: Client) -> Iterator[Figure]:
    """How long until every projection is level after a start, and the runs page meanwhile."""
    began, samples, behind = time.perf_counter(), [], 0
    while True:
        lag = json.loads(client.get("/api/v1/health")[0])["lag"].values()
        behind = behind or sum(lag)
        if not any(lag):
            break
        if time.perf_counter() - began > _ENOUGH_S:
            raise SystemExit(f"still {sum(lag):,} events behind")
        for _ in range(10):
            samples.append(client.get("/runs")[1])
            time.sleep(0.05)
    if behind:
        rate = behind / (time.perf_counter() - began)
        yield Figure("projections caught up with the log", rate, "events/s")
        yield spread_of("runs page meanwhile", samples, BAR_MS)


def _pages(client: Client, ids: Sequence[str], runs: int) -> dict[str, Callable[[], str]]:
    """What is asked for, by its name; each call gives another address."""
    chance = random.Random(2)

    def deep() -> str:
        query = urlencode({"limit": 1, "offset": chance.randrange(runs // 4, runs)})
        page = json.loads(client.get(f"/api/v1/runs?{query}")[0])
        return f"/runs?{urlencode({'cursor': page['nextCursor'] or ''})}"

    deeps = [deep() for _ in range(50)]
    return {
        "runs page": lambda: "/runs",
        "runs page by status": lambda: f"/runs?status={chance.choice(_STATUSES)}",
        "runs page by plan and status": lambda: (
            f"/runs?plan={chance.choice(_PLANS)}&status={chance.choice(_STATUSES)}"
        ),
        "runs page by plan, status and time": lambda: (
            f"/runs?plan={chance.choice(_PLANS)}&status=active&after={chance.randrange(1, 20)}d"
        ),
        "runs page of a contact": lambda: f"/runs?contact=contact_{chance.randrange(runs)}",
        "runs page, deep": lambda: chance.choice(deeps),
        "run page, 20 events": lambda: f"/runs/{chance.choice(ids)}",
        "contact page": lambda: f"/contacts/contact_{chance.randrange(runs)}",
        "plan page": lambda: f"/plans/{chance.choice(_PLANS)}",
        "audit page, of a contact": lambda: f"/audit?contact=contact_{chance.randrange(runs)}",
        "audit page, by action": lambda: "/audit?action=run.cancelled",
        "projections page": lambda: "/projections",
    }


_STATUSES: Final = ("active", "paused", "cancelled", "completed", "failed")
_PLANS: Final = ("common", "usual", "seldom", "replayed")
_BARRED: Final = ("runs page", "run page")


def _page(client: Client, name: str, path: Callable[[], str], calls: int) -> Iterator[Figure]:
    """The page as the server and as the client see it."""
    inside, outside = [], []
    for number in range(calls + 20):
        start = time.perf_counter()
        _, took = client.get(path())
        if number >= 20:
            inside.append(took)
            outside.append((time.perf_counter() - start) * 1000)
    bar = BAR_MS if name.startswith(_BARRED) else None
    yield spread_of(f"{name}, on the server", inside, bar)
    yield spread_of(f"{name}, as its client sees it", outside)


# --- lists a second -------------------------------------------------------------------------------


def _rate(
    address: str, path: str, connections: int, repeats: int, seconds: float
) -> Iterator[Figure]:
    """Answers a second over so many connections, and the server's own time for each."""
    rates, samples = [], list[float]()
    for _ in range(repeats):
        found = _burst(address, path, connections, seconds)
        rates.append(len(found) / seconds)
        samples += found
    name = f"GET {path}, {connections} connection{'s' if connections > 1 else ''}"
    bar = LISTS_BAR if path.startswith("/api/") and connections > 1 else None
    yield Figure(name, statistics.median(rates), "requests/s", (min(rates), max(rates)), bar)
    share = (statistics.median(samples), max(samples))
    yield Figure(f"{name}, on the server", percentile(samples, 0.99), "ms p99", share)


def _burst(address: str, path: str, connections: int, seconds: float) -> list[float]:
    """The server's own times of what it answered within a few seconds."""
    found: list[float] = []
    ends = time.perf_counter() + seconds

    def ask() -> None:
        with closing(Client(address)) as client:
            while time.perf_counter() < ends:
                found.append(client.get(path)[1])

    with ThreadPoolExecutor(connections) as pool:
        for asking in [pool.submit(ask) for _ in range(connections)]:
            asking.result()
    return found
