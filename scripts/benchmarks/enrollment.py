"""How fast a contact list is enrolled."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from pathlib import Path

from scripts.benchmarks.harness import Figure, engine_on, people, plan

BAR = 8_000
"""Contacts a second at a batch size of 1,000 on PostgreSQL and two cores."""


def measure(url: str, folder: Path, contacts: int, repetitions: int) -> Iterator[Figure]:
    """Contacts a second of `bulk_execute`, each repetition on a database of its own."""
    for batch in (1_000, 100):
        rates = []
        for repetition in range(repetitions):
            with engine_on(url, folder, f"enroll_{batch}_{repetition}") as engine:
                start = time.perf_counter()
                result = engine.bulk_execute(plan("bench"), people(contacts), batch_size=batch)
                rates.append(contacts / (time.perf_counter() - start))
                if result.created != contacts:
                    raise SystemExit(f"enrolled {result.created} of {contacts} contacts")
        yield Figure(
            f"bulk_execute, {contacts:,} contacts, batches of {batch:,}",
            statistics.median(rates),
            "contacts/s",
            (min(rates), max(rates)),
            BAR if batch == 1_000 else None,
        )
