"""What encryption costs: the same contact list enrolled with personal data encrypted and off."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

from scripts.benchmarks.figures import Figure
from scripts.benchmarks.harness import engine_on, people, plan

BATCH: Final = 1_000
BAR: Final = 75.0
"""Per cent of its speed that bulk enrolment keeps at least when personal data is encrypted."""


def measure(url: str, folder: Path, contacts: int, pairs: int) -> Iterator[Figure]:
    """The speed of `bulk_execute` encrypted, in per cent of that without, one after the other.

    Each pair is measured back to back, and which of the two goes first alternates, so that a
    machine that slows down does not favour one of them.
    """
    kept: list[float] = []
    rates: dict[str, list[float]] = {"encrypted": [], "off": []}
    for pair in range(pairs):
        order: list[Literal["encrypted", "off"]] = ["encrypted", "off"]
        if pair % 2:
            order.reverse()
        for how in order:
            rates[how].append(_rate(url, folder, f"encryption_{how}_{pair}", contacts, how))
        kept.append(100 * rates["encrypted"][-1] / rates["off"][-1])
    work = f"bulk_execute, batches of {BATCH:,}"
    for how, found in rates.items():
        spread = (min(found), max(found))
        yield Figure(f"{work}, {how}", statistics.median(found), "contacts/s", spread)
    yield Figure(
        "speed kept under encryption", statistics.median(kept), "%", (min(kept), max(kept)), BAR
    )


def _rate(
    url: str, folder: Path, name: str, contacts: int, how: Literal["encrypted", "off"]
) -> float:
    with engine_on(url, folder, name, how) as engine:
        start = time.perf_counter()
        result = engine.bulk_execute(plan("bench"), people(contacts), batch_size=BATCH)
        rate = contacts / (time.perf_counter() - start)
        if result.created != contacts:
            raise SystemExit(f"enrolled {result.created} of {contacts} contacts")
        return rate
