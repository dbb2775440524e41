"""DBOS Transact beside the engine; what was chosen and why is in `dbos_jobs`."""

from __future__ import annotations

from itertools import count

from scripts.benchmarks.figures import LeftOut
from scripts.benchmarks.harness import new_database
from scripts.benchmarks.peers import best_of, missing, run, why_spared

PEER = "dbos"
ENQUEUE = ("transactions", "transaction", "threads")
RUN = ("queue", "async-queue", "direct", "async-direct")
_numbers = count()


def rates(
    url: str, job: str, variants: tuple[str, ...], size: int, repeats: int
) -> tuple[str, list[float]] | LeftOut:
    """The fastest variant of a job and its rates, each on a database of its own."""
    if why := why_spared() or missing("dbos", "sqlalchemy"):
        return LeftOut(PEER, why)

    def once(variant: str) -> float:
        database = new_database(url, f"dbos_{job}_{next(_numbers)}")
        return float(run("dbos_jobs", job, database, str(size), variant)["rate"])

    return best_of(PEER, variants, repeats, once)
