"""How fast runs are lived through, from their first step to their end, beside DBOS and Restate.

Send, wait, branch, send, end, by one process, a new one each time, with the memory channel, under a
policy whose daily limits are counted for every send and never bite. The peers run four trivial
steps.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from dee_es import Engine
from dee_es.adapters.channels.memory import MemoryChannel
from scripts.benchmarks.figures import Finding, LeftOut, measured, ratio
from scripts.benchmarks.harness import alone, config_of, is_sqlite, people, plan, prepare
from scripts.benchmarks.peers import dbos, restate

BAR: Final = 2_000
"""Runs a second, from the first step to the end."""
PEER_BARS: Final = {"dbos": 25, "restate": 4}
"""Times as fast as each peer runs four trivial steps."""
SQLITE_BAR: Final = 50
"""Per cent of PostgreSQL's figure that SQLite reaches."""
PEERS_AT_MOST: Final = 5_000
"""Workflows that peers run, a quarter of our runs at most: their rate does not grow with them."""
POLICY: Final = {"limits": {"perDay": {"channel": {"email": 1_000_000_000}, "contact": 10}}}


def measure(url: str, folder: Path, runs: int, repeats: int) -> Iterator[Finding]:
    """Runs a second on PostgreSQL, on SQLite, and of the peers."""
    on_sqlite = [_rate("sqlite", folder, f"runs_sqlite_{n}", runs) for n in range(repeats)]
    yield measured("runs to their end, SQLite", on_sqlite, "runs/s")
    if is_sqlite(url):
        return
    ours = [_rate(url, folder, f"runs_{n}", runs) for n in range(repeats)]
    yield measured("runs to their end, PostgreSQL", ours, "runs/s", BAR)
    yield ratio("runs on SQLite to PostgreSQL", on_sqlite, ours, SQLITE_BAR, unit="%")
    size = min(max(runs // 4, 1), PEERS_AT_MOST)
    peers: dict[str, Callable[[], tuple[str, list[float]] | LeftOut]] = {
        "dbos": lambda: dbos.rates(url, "run", dbos.RUN, size, repeats),
        "restate": lambda: restate.rates("run", size, repeats),
    }
    for name, measure_peer in peers.items():
        found = measure_peer()
        if isinstance(found, LeftOut):
            yield found
            continue
        variant, rates = found
        yield measured(
            f"{name} runs {size:,} workflows of four steps ({variant})",
            rates,
            "workflows/s",
            key=f"{name} runs workflows of four steps",
        )
        yield ratio(f"runs to {name}", ours, rates, PEER_BARS[name])


def _rate(url: str, folder: Path, name: str, runs: int) -> float:
    prepare(url, folder, name)
    return alone(_lived, url, folder, name, runs)


def _lived(url: str, folder: Path, name: str, runs: int) -> float:
    channel = MemoryChannel()
    with Engine(config_of(url, folder, name), channels={"email": channel}) as engine:
        engine.publish_policy(POLICY)
        engine.bulk_execute(plan("runs"), people(runs), batch_size=1_000)
        start = time.perf_counter()
        engine.run_until_idle()
        rate = runs / (time.perf_counter() - start)
        ended = engine.list_runs(status="completed", limit=1).total
        assert ended == runs, f"{ended} of {runs} runs have ended"
        assert len(channel.sent) == 2 * runs, f"{len(channel.sent)} sends of {runs} runs"
    return rate
