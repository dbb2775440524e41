"""All measurements: what each counts, how much of it, and at which sizes its curve is drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from scripts.benchmarks import (
    counting,
    disk,
    encryption,
    enrollment,
    executing,
    memory,
    partitions,
    profiling,
    rebuilding,
    replaying,
    run_list,
    running,
    serving,
    sharing,
    starting,
    verifying,
)
from scripts.benchmarks.figures import Finding

Counted = Literal["contacts", "runs", "events", "processes"]
DECADES = (10_000, 100_000, 1_000_000)
THOUSANDS = (1_000, 10_000, 100_000)
LIVED = (5_000, 20_000, 50_000)
"""Runs that are lived through on both databases, at under a thousand a second."""
REPLAYED = (1_000, 10_000, 70_000)
"""Runs of about fifteen events: a million in the end."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """`measure(url, folder, size, repeats)` yields what it finds.

    With fewer than three repetitions peers are asked once, in the one way that is usually fastest.
    `grows` are the sizes of its curve, as far as they can be reached within minutes; peers are
    asked at the first of them alone.
    """

    measure: Callable[[str, Path, int, int], Iterator[Finding]]
    counted: Counted
    size: int
    repeats: int
    quick_size: int
    quick_repeats: int
    grows: tuple[int, ...] = DECADES


MEASUREMENTS: dict[str, Measurement] = {
    "enroll": Measurement(enrollment.measure, "contacts", 100_000, 3, 5_000, 2),
    "encryption": Measurement(encryption.measure, "contacts", 50_000, 7, 3_000, 3, THOUSANDS),
    "run": Measurement(running.measure, "runs", 20_000, 3, 1_000, 2, LIVED),
    "execute": Measurement(executing.measure, "runs", 100_000, 3, 1_000, 2),
    "lists": Measurement(run_list.measure, "runs", 10_000_000, 1, 5_000, 1, (*DECADES, 10_000_000)),
    "replay": Measurement(replaying.measure, "runs", 20_000, 3, 500, 1, REPLAYED),
    "rebuild": Measurement(rebuilding.measure, "events", 1_000_000, 3, 20_000, 1),
    "verify": Measurement(verifying.measure, "events", 1_000_000, 3, 20_000, 1),
    "partitions": Measurement(partitions.measure, "events", 10_000_000, 1, 100_000, 1),
    "web": Measurement(serving.measure, "runs", 1_000_000, 3, 3_000, 1),
    "workers": Measurement(sharing.measure, "runs", 8_000, 3, 1_200, 1, ()),
    "memory": Measurement(memory.measure, "contacts", 1_000_000, 1, 10_000, 1),
    "calls": Measurement(counting.measure, "contacts", 10_000, 1, 2_000, 1, ()),
    "profile": Measurement(profiling.measure, "contacts", 100_000, 1, 2_000, 1, ()),
    "disk": Measurement(disk.measure, "runs", 20_000, 1, 1_000, 1, (1_000, 10_000)),
    "start": Measurement(starting.measure, "processes", 15, 1, 5, 1, ()),
}
