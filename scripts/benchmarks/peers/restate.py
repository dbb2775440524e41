"""Restate beside the engine; what was chosen and why is in `restate_jobs`."""

from __future__ import annotations

from scripts.benchmarks.figures import LeftOut
from scripts.benchmarks.peers import best_of, missing, restate_server, run, why_spared

PEER = "restate"
VARIANTS = ("4/1", "4/cores", "24/cores")
"""Partitions of the server and workers of the service."""


def rates(job: str, size: int, repeats: int) -> tuple[str, list[float]] | LeftOut:
    """The fastest variant of a job and its rates, each on a new server."""
    if why := why_spared() or missing("restate", "hypercorn") or restate_server.ensure():
        return LeftOut(PEER, why)

    def once(variant: str) -> float:
        return float(run("restate_jobs", job, str(size), variant)["rate"])

    return best_of(PEER, VARIANTS, repeats, once)
