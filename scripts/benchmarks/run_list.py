"""How fast runs are listed with an exact total, whatever they are filtered by."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from dee_es import Engine
from scripts.benchmarks.figures import Figure, latency
from scripts.benchmarks.harness import engine_on, people, plan, settle

BAR_MS = 10
"""99th percentile of a page of 50 with its total, at a million runs, for any single filter."""
CALLS = 300


def measure(url: str, folder: Path, runs: int, repeats: int) -> Iterator[Figure]:
    """Latency of `list_runs` by each filter, at `runs` runs of several plans and statuses."""
    with engine_on(url, folder, "lists") as engine:
        start = time.perf_counter()
        fill(engine, runs)
        rate = runs / (time.perf_counter() - start)
        yield Figure("filled with runs of 5 plans over 20 days", rate, "runs/s")
        settle(url, "lists")
        chance = random.Random(1)
        for name, filters in _filters(engine, runs, chance).items():
            calls = [_call(engine, filters) for _ in range(min(CALLS, runs // 50) * repeats)]
            for call in calls[:20]:
                call()
            yield latency(f"list_runs by {name}", calls, BAR_MS)


def fill(engine: Engine, runs: int) -> None:
    """Start so many runs of 5 plans over 20 days; some are cancelled, some paused."""
    days = 20
    share = runs // days
    plans = [plan(name) for name in ("common", "common", "common", "usual", "usual", "seldom")]
    chance = random.Random(0)
    for day in range(days):
        chosen = plans[chance.randrange(len(plans))] if day else plans[-1]
        size = share // 100 if chosen.id == "seldom" and day else share
        engine.bulk_execute(chosen, people(size, day * share), batch_size=5_000)
        if size < share:
            engine.bulk_execute(
                plans[0], people(share - size, day * share + size), batch_size=5_000
            )
        some = engine.list_runs(limit=200).runs
        cancelled, paused = min(50, share // 10), min(70, share // 10)
        for run in some[:cancelled]:
            engine.cancel_run(run.id, "measured")
        for run in some[cancelled : cancelled + paused]:
            engine.pause_run(run.id)
        # The clock moves on without the runs acting: what is measured is the list, not the runs.
        engine.clock.move_to(engine.now().tick + 86_400)


def _filters(
    engine: Engine, runs: int, chance: random.Random
) -> dict[str, Callable[[], dict[str, Any]]]:
    epoch = engine.now().epoch
    days = 20

    def moment() -> Any:
        return epoch + timedelta(seconds=chance.randrange(days * 86_400))

    return {
        "nothing": dict,
        "a frequent status": lambda: {"status": "active"},
        "a rare status": lambda: {"status": "cancelled"},
        "two statuses": lambda: {"status": ["paused", "cancelled"]},
        "a frequent plan": lambda: {"plan_id": "common"},
        "a rare plan": lambda: {"plan_id": "seldom"},
        "a contact": lambda: {"contact_id": f"contact_{chance.randrange(runs)}"},
        "started after": lambda: {"started_after": moment()},
        "started before": lambda: {"started_before": moment()},
        "nothing, offset 5,000": lambda: {"offset": 5_000},
    }


def _call(engine: Engine, filters: Callable[[], dict[str, Any]]) -> Callable[[], object]:
    chosen = filters()
    return lambda: engine.list_runs(**chosen)
