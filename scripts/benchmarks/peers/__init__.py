"""What others offer for the same work, each by the fastest way that its documentation knows.

DBOS and Restate work in processes of their own, so that they share no interpreter, threads or
connection pool with the engine; the stock library and hand-written SQL are called where the engine
is called. What cannot be measured here is left out with its reason, never silently.
"""

from __future__ import annotations

import importlib.util
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from scripts.benchmarks.figures import LeftOut

ROOT = Path(__file__).parents[3]
_PATIENCE_S = 3_600


_spared: list[str] = []


def spare(spared: bool) -> None:
    """Whether peers are left out from now on, because they were measured at a smaller size."""
    _spared[:] = ["measured at the smallest size alone"] if spared else []


def why_spared() -> str | None:
    """Why peers are left out, if they are."""
    return _spared[0] if _spared else None


def missing(*modules: str) -> str | None:
    """Why the peer cannot be measured, if one of its modules is not installed."""
    absent = [name for name in modules if importlib.util.find_spec(name) is None]
    if not absent:
        return None
    return f"{', '.join(absent)} is not installed; scripts/bench installs it (extra `bench`)"


def best_of(
    peer: str,
    variants: Sequence[str],
    repeats: int,
    measure: Callable[[str], float],
) -> tuple[str, list[float]] | LeftOut:
    """The variant with the highest rate, what the others reached, and the rates of the best.

    Each variant gets as many repetitions. With fewer than three, as in a quick run, only the first
    is measured, once: the one that is usually fastest.
    """
    if repeats < 3:
        variants, repeats = variants[:1], 1
    rates: dict[str, list[float]] = {}
    for variant in variants:
        try:
            rates[variant] = [measure(variant) for _ in range(repeats)]
        except PeerFailed as failure:
            return LeftOut(peer, f"failed ({variant}): {failure}")
    best, *others = sorted(rates, key=lambda name: statistics.median(rates[name]), reverse=True)
    rest = (f"{name} {statistics.median(rates[name]):,.0f}" for name in others)
    return "; ".join((best, *rest)), rates[best]


class PeerFailed(Exception):
    """A peer's process ended with an error; the text is the last line it said."""


def run(module: str, *arguments: str) -> dict[str, Any]:
    """What the peer's process says as JSON on its last line."""
    command = [sys.executable, "-m", f"scripts.benchmarks.peers.{module}", *arguments]
    try:
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=_PATIENCE_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise PeerFailed(f"took longer than {_PATIENCE_S} s") from None
    if done.returncode != 0 or not done.stdout.strip():
        said = done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}"
        raise PeerFailed(said.splitlines()[-1])
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found
