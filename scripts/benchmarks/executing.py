"""How fast a single run is enrolled and committed, beside the stock library and hand-written SQL.

All three store on the same server, fsync on, and have committed when a call returns; so many runs
are in the engine's database already.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import psycopg

from dee_es import Contact, Engine
from scripts.benchmarks import peers
from scripts.benchmarks.figures import Finding, LeftOut, measured, ratio, spread_of
from scripts.benchmarks.harness import (
    beside,
    engine_on,
    is_sqlite,
    new_database,
    people,
    person,
    plan,
    settle,
)

SINGLE_BAR: Final = 1_200
SINGLE_BAR_MS: Final = 2
TOGETHER_BAR: Final = 3_000
"""Runs a second, from one thread, its 99th percentile in ms, and from eight threads."""
THREADS: Final = 8
CALLS: Final = 2_000
_WARM_UP: Final = 100


def measure(url: str, folder: Path, runs: int, repeats: int) -> Iterator[Finding]:
    """`execute`, one after the other and from eight threads, on a database of so many runs."""
    calls = max(200, min(CALLS, runs // 4))
    with engine_on(url, folder, "executes") as engine:
        engine.bulk_execute(plan("full"), people(runs), batch_size=1_000)
        settle(url, "executes")
        _latencies(engine, runs, _WARM_UP)
        first = runs + _WARM_UP
        rates, times, together = [], [], []
        for _ in range(repeats):
            some = _latencies(engine, first, calls)
            times += some
            rates.append(1000 * calls / sum(some))
            together.append(_together(engine, first + calls, calls))
            first += 2 * calls
    barred = not is_sqlite(url)
    yield measured("execute, one thread", rates, "runs/s", SINGLE_BAR if barred else None)
    yield spread_of("execute, one thread", times, SINGLE_BAR_MS, "execute, one thread, p99")
    work = f"execute, {THREADS} threads"
    yield measured(work, together, "runs/s", TOGETHER_BAR if barred else None)
    if barred and (why := peers.why_spared()):
        yield from (LeftOut(peer, why) for peer in ("the stock library", "hand-written SQL"))
    elif barred:
        state = _a_state(beside(url, "executes"))
        yield from _stock(url, calls, repeats, rates, together)
        yield from _hand_written(url, state, calls, repeats, rates, together)


def _latencies(engine: Engine, first: int, count: int) -> list[float]:
    chosen = plan("single")
    times = []
    for n in range(first, first + count):
        contact = _contact(n)
        start = time.perf_counter()
        engine.execute(chosen, contact)
        times.append((time.perf_counter() - start) * 1000)
    return times


def _together(engine: Engine, first: int, count: int) -> float:
    chosen = plan("single")
    contacts = [_contact(n) for n in range(first, first + count)]
    start = time.perf_counter()
    with ThreadPoolExecutor(THREADS) as pool:
        for _ in pool.map(lambda contact: engine.execute(chosen, contact), contacts):
            pass
    return count / (time.perf_counter() - start)


def _contact(n: int) -> Contact:
    values: dict[str, Any] = person(n)
    return Contact(**values)


def _a_state(database: str) -> bytes:
    """What the engine stores of a run's beginning, for whoever is to store as much."""
    with closing(psycopg.connect(database)) as own:
        found = own.execute(
            "SELECT state FROM stored_events WHERE topic = 'RunStarted' LIMIT 1"
        ).fetchone()
    assert found is not None, "runs have begun"
    return bytes(found[0])


def _stock(
    url: str, calls: int, repeats: int, ours: list[float], ours_together: list[float]
) -> Iterator[Finding]:
    from scripts.benchmarks.peers import stock_library

    database = new_database(url, "stock")
    rates, times, together, first = [], [], [], _WARM_UP
    with stock_library.application(database, THREADS) as app:
        stock_library.latencies(app, 0, _WARM_UP)
        for _ in range(repeats):
            some = stock_library.latencies(app, first, calls)
            times += some
            rates.append(1000 * calls / sum(some))
            together.append(stock_library.together(app, first + calls, calls, THREADS))
            first += 2 * calls
    yield from _told("the stock library", rates, times, together, ours, ours_together)


def _hand_written(
    url: str,
    state: bytes,
    calls: int,
    repeats: int,
    ours: list[float],
    ours_together: list[float],
) -> Iterator[Finding]:
    from scripts.benchmarks.peers import hand_written

    database = new_database(url, "hand_written")
    hand_written.make_tables(database)
    rates, times, together, first = [], [], [], _WARM_UP
    hand_written.latencies(database, state, 0, _WARM_UP)
    for _ in range(repeats):
        some = hand_written.latencies(database, state, first, calls)
        times += some
        rates.append(1000 * calls / sum(some))
        together.append(hand_written.together(database, state, first + calls, calls, THREADS))
        first += 2 * calls
    yield from _told("hand-written SQL", rates, times, together, ours, ours_together)


def _told(
    name: str,
    rates: list[float],
    times: list[float],
    together: list[float],
    ours: list[float],
    ours_together: list[float],
) -> Iterator[Finding]:
    yield measured(f"{name}, one thread", rates, "runs/s")
    yield spread_of(f"{name}, one thread", times, None, f"{name}, one thread, p99")
    yield measured(f"{name}, {THREADS} threads", together, "runs/s")
    yield ratio(f"execute to {name}, one thread", ours, rates)
    yield ratio(f"execute to {name}, {THREADS} threads", ours_together, together)
