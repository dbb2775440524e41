"""How fast a single run is enrolled and committed, beside the stock library and hand-written SQL.

All three store on the same server, fsync on, and have committed when a call returns; so many runs
are in the engine's database already.

How `execute` compares with what does less, or another, work of the interpreter's depends on how
fast that is in comparison with the disk just then. That follows the hour less if `execute` is held
against its two halves: itself in memory, and SQL by hand. By eight threads it is quite steady; one
thread waits, and what it then finds in the processor's caches is another matter than in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

import psycopg

from dee_es import Engine
from scripts.benchmarks import peers
from scripts.benchmarks.calling import Opened, latencies, together
from scripts.benchmarks.figures import Finding, LeftOut, measured, ratio, spread_of
from scripts.benchmarks.harness import (
    beside,
    contact,
    engine_in_memory,
    engine_on,
    is_sqlite,
    new_database,
    people,
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


@dataclass(frozen=True)
class _Timed:
    """Calls a second from one thread and from several, and what each of the former took in ms."""

    rates: list[float]
    times: list[float]
    rates_together: list[float]


_RATES: Final[dict[str, Callable[[_Timed], list[float]]]] = {
    "one thread": lambda timed: timed.rates,
    f"{THREADS} threads": lambda timed: timed.rates_together,
}


def measure(url: str, folder: Path, runs: int, repeats: int) -> Iterator[Finding]:
    """`execute`, one after the other and from eight threads, on a database of so many runs."""
    calls = max(200, min(CALLS, runs // 4))
    with engine_on(url, folder, "executes") as engine:
        engine.bulk_execute(plan("full"), people(runs), batch_size=1_000)
        settle(url, "executes")
        ours = _timed(partial(_executing, engine), runs, calls, repeats)
    barred = not is_sqlite(url)
    yield measured("execute, one thread", ours.rates, "runs/s", SINGLE_BAR if barred else None)
    yield spread_of("execute, one thread", ours.times, SINGLE_BAR_MS, "execute, one thread, p99")
    work = f"execute, {THREADS} threads"
    yield measured(work, ours.rates_together, "runs/s", TOGETHER_BAR if barred else None)
    if barred and (why := peers.why_spared()):
        yield from (LeftOut(peer, why) for peer in ("the stock library", "hand-written SQL"))
    elif barred:
        state = _a_state(beside(url, "executes"))
        yield from _stock(url, calls, repeats, ours)
        by_hand = yield from _hand_written(url, state, calls, repeats, ours)
        yield from _halves(by_hand, calls, repeats, ours)


def _timed(opened: Opened, first: int, calls: int, repeats: int) -> _Timed:
    """What so many calls took, in turns from one thread and from several."""
    latencies(opened, first, _WARM_UP)
    first += _WARM_UP
    done = _Timed([], [], [])
    for _ in range(repeats):
        some = latencies(opened, first, calls)
        done.times.extend(some)
        done.rates.append(1000 * calls / sum(some))
        done.rates_together.append(together(opened, first + calls, calls, THREADS))
        first += 2 * calls
    return done


@contextmanager
def _executing(engine: Engine, numbers: range) -> Iterator[Callable[[int], object]]:
    chosen = plan("single")
    contacts = {n: contact(n) for n in numbers}
    yield lambda n: engine.execute(chosen, contacts[n])


def _a_state(database: str) -> bytes:
    """What the engine stores of a run's beginning, for whoever is to store as much."""
    with closing(psycopg.connect(database)) as own:
        found = own.execute(
            "SELECT state FROM stored_events WHERE topic = 'RunStarted' LIMIT 1"
        ).fetchone()
    assert found is not None, "runs have begun"
    return bytes(found[0])


def _stock(url: str, calls: int, repeats: int, ours: _Timed) -> Iterator[Finding]:
    from scripts.benchmarks.peers import stock_library

    database = new_database(url, "stock")
    with stock_library.application(database, THREADS) as app:
        opened = nullcontext(partial(stock_library.enrol, app))
        yield from _told("the stock library", _timed(lambda _: opened, 0, calls, repeats), ours)


def _hand_written(
    url: str, state: bytes, calls: int, repeats: int, ours: _Timed
) -> Generator[Finding, None, _Timed]:
    from scripts.benchmarks.peers import hand_written

    database = new_database(url, "hand_written")
    hand_written.make_tables(database)
    timed = _timed(lambda _: hand_written.opened(database, state), 0, calls, repeats)
    yield from _told("hand-written SQL", timed, ours)
    return timed


def _halves(by_hand: _Timed, calls: int, repeats: int, ours: _Timed) -> Iterator[Finding]:
    with engine_in_memory() as engine:
        in_memory = _timed(partial(_executing, engine), 0, calls, repeats)
    yield measured("execute in memory, one thread", in_memory.rates, "runs/s")
    for threads, rates in _RATES.items():
        halves = [
            1 / (1 / a + 1 / b) for a, b in zip(rates(in_memory), rates(by_hand), strict=True)
        ]
        yield ratio(f"execute to its halves, in memory and by hand, {threads}", rates(ours), halves)


def _told(name: str, peer: _Timed, ours: _Timed) -> Iterator[Finding]:
    yield measured(f"{name}, one thread", peer.rates, "runs/s")
    yield spread_of(f"{name}, one thread", peer.times, None, f"{name}, one thread, p99")
    yield measured(f"{name}, {THREADS} threads", peer.rates_together, "runs/s")
    for threads, rates in _RATES.items():
        compared = ratio(f"execute to {name}, {threads}", rates(ours), rates(peer))
        yield replace(compared, steady=False)
