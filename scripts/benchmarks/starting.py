"""How long a shell waits: real processes, from their start to their end."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from scripts.benchmarks.figures import Finding, measured
from scripts.benchmarks.harness import engine_on, people, plan
from scripts.benchmarks.peers import ROOT

BARS: Final = {("--help",): 0.25, ("runs", "list"): 0.5}
"""Seconds, by command."""
RUNS: Final = 100


def measure(url: str, folder: Path, processes: int, repeats: int) -> Iterator[Finding]:
    """Seconds of `dee --help`, and of `dee runs list` on a small SQLite database; the median
    of so many processes, after two that are not counted."""
    with engine_on("sqlite", folder, "starting") as engine:
        engine.bulk_execute(plan("starting"), people(RUNS))
    environment = {
        **os.environ,
        "DEE_DATABASE": f"sqlite:///{folder / 'starting.db'}",
        "DEE_KEYS": f"sqlite:///{folder / 'starting.keys.db'}",
    }
    bare = [_seconds([sys.executable, "-c", "pass"], environment) for _ in range(processes)]
    yield measured("limit: an interpreter that does nothing", bare, "s", higher_is_better=False)
    for words, bar in BARS.items():
        command = [sys.executable, "-m", "dee_es.cli", *words]
        times = [_seconds(command, environment) for _ in range(processes + 2)][2:]
        yield measured(f"dee {' '.join(words)}", times, "s", bar, higher_is_better=False)


def _seconds(command: list[str], environment: dict[str, str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start
