"""How fast the past is: recorded runs decided again, one by one or as a fleet, and looked at."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from dee_es import Engine, ExecutionPlan, ExecutionRun, create_plan, steps
from scripts.benchmarks.figures import Figure, latency
from scripts.benchmarks.harness import engine_on, people, settle

GET_BAR_MS = 1
SINGLE_BAR_MS = 2
"""99th percentile of a look at a run of twenty events; of a replay, and of a look at its past."""
FLEET_BAR = 60_000
"""Events a second of a fleet, on two cores."""
CALLS = 500


def measure(url: str, folder: Path, runs: int, repeats: int) -> Iterator[Figure]:
    """Latency of `replay`, and the rate of `replay_all`, on `runs` runs that have ended."""
    with engine_on(url, folder, "replays") as engine:
        twenty = live(engine, runs)
        settle(url, "replays")
        events = engine.get_run(twenty[0].id).version
        shown = [_get(engine, run.id) for run in twenty]
        for call in shown[:20]:
            call()
        yield latency(f"get_run of a run of {events} events", shown, GET_BAR_MS)
        calls = [_replay(engine, run.id) for run in twenty]
        yield latency(f"replay of a run of {events} events", calls, SINGLE_BAR_MS)
        looks = [_look(engine, run.id, n % events + 1) for n, run in enumerate(twenty)]
        yield latency(f"run_at, any version of a run of {events} events", looks, SINGLE_BAR_MS)
        cores = os.cpu_count() or 1
        for workers in sorted({1, cores}):
            rates = []
            for _ in range(repeats):
                start = time.perf_counter()
                summary = engine.replay_all(workers=workers)
                rates.append(summary.events / (time.perf_counter() - start))
                assert summary.identical == runs, "every replay is identical"
            yield Figure(
                f"replay of the fleet, {workers} process{'es' if workers > 1 else ''}",
                sorted(rates)[len(rates) // 2],
                "events/s",
                (min(rates), max(rates)),
                FLEET_BAR if workers == cores else None,
            )


def live(engine: Engine, runs: int) -> tuple[ExecutionRun, ...]:
    """So many runs that ended; the last 500 of them, which are returned, with 20 events each."""
    engine.bulk_execute(_plan(), people(runs, 0), batch_size=5_000)
    twenty = engine.list_runs(limit=CALLS).runs
    engine.run_until(1)
    for run in twenty:
        for kind in ("email.delivered", "email.opened", "email.clicked"):
            engine.ingest_event(kind, run.contact_id)
    engine.run_until_idle()
    return twenty


def _get(engine: Engine, run_id: str) -> Callable[[], object]:
    return lambda: engine.get_run(run_id)


def _replay(engine: Engine, run_id: str) -> Callable[[], object]:
    return lambda: engine.replay(run_id)


def _look(engine: Engine, run_id: str, version: int) -> Callable[[], object]:
    return lambda: engine.run_at(run_id, version=version)


def _plan() -> ExecutionPlan:
    return create_plan(
        id="replayed",
        name="Send, wait, branch, send, wait",
        steps=[
            steps.send_email("first", "hello", "Hello"),
            steps.wait("rest", {"days": 3}),
            steps.branch(
                "answer",
                [
                    {"when": 'events.hasReply("first")', "goto": "won"},
                    {"when": "default", "goto": "second"},
                ],
            ),
            steps.end("won", "replied"),
            steps.send_email("second", "hello", "Hello again"),
            steps.wait("pause", {"days": 2}),
            steps.end("lost", "silent"),
        ],
    )
