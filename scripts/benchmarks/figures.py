"""What a measurement says: figures with their spread and bar, ratios, and who was left out."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

RATIOS = ("times", "%")
"""Units of ratios: what can be compared between machines."""
COUNTED = "calls"
"""The unit of what is counted, not timed, and so comes out alike on every machine."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure; `spread` is the smallest and largest of its repetitions.

    `key` names it whatever the size of the work, by default it is `work`; `size` is that size.
    What is not `steady` differs too much between quick runs to be guarded.
    """

    work: str
    value: float
    unit: str
    spread: tuple[float, float] | None = None
    bar: float | None = None
    higher_is_better: bool = True
    key: str = ""
    size: int | None = None
    measurement: str = ""
    steady: bool = True

    @property
    def met(self) -> bool | None:
        """Whether the bar was reached; None if there is none."""
        if self.bar is None:
            return None
        return self.value >= self.bar if self.higher_is_better else self.value <= self.bar

    @property
    def name(self) -> str:
        """What tells this figure from all others, whatever its size."""
        return f"{self.measurement}: {self.key or self.work}"

    @property
    def is_ratio(self) -> bool:
        """Whether it can be compared between machines."""
        return self.unit in RATIOS

    @property
    def is_counted(self) -> bool:
        """Whether it comes out alike whatever the machine does beside it."""
        return self.unit == COUNTED

    def of(self, measurement: str, size: int | None) -> Figure:
        """The same figure with where it comes from."""
        return replace(self, measurement=measurement, size=size)

    def line(self) -> str:
        """The figure for people."""
        spread = (
            "" if self.spread is None else f"  ({_told(self.spread[0])} to {_told(self.spread[1])})"
        )
        bar = ""
        if self.bar is not None:
            verdict = "reached" if self.met else "NOT REACHED"
            bar = f"  bar {self.bar:,g} {verdict}"
        return f"{self.work:<64} {_told(self.value):>12} {self.unit}{spread}{bar}"

    def record(self) -> dict[str, Any]:
        """The figure for machines."""
        return {**asdict(self), "key": self.key or self.work, "met": self.met}


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A peer that was not measured, and why; told in every report."""

    peer: str
    why: str

    def line(self) -> str:
        """The same for people."""
        return f"LEFT OUT: {self.peer}: {self.why}"


Finding = Figure | LeftOut
Findings = Iterator[Finding]


def _told(value: float) -> str:
    return f"{value:,.3f}" if abs(value) < 10 else f"{value:,.1f}"


def measured(
    work: str,
    samples: Sequence[float],
    unit: str,
    bar: float | None = None,
    *,
    higher_is_better: bool = True,
    key: str = "",
) -> Figure:
    """The median of the repetitions, with their spread."""
    spread = (min(samples), max(samples)) if len(samples) > 1 else None
    return Figure(work, statistics.median(samples), unit, spread, bar, higher_is_better, key)


def ratio(
    work: str,
    ours: Sequence[float],
    theirs: Sequence[float],
    bar: float | None = None,
    *,
    unit: str = "times",
    key: str = "",
) -> Figure:
    """Median to median of two rates; the spread goes from the worst pair to the best."""
    scale = 100.0 if unit == "%" else 1.0
    value = scale * statistics.median(ours) / statistics.median(theirs)
    spread = (scale * min(ours) / max(theirs), scale * max(ours) / min(theirs))
    several = len(ours) > 1 or len(theirs) > 1
    return Figure(work, value, unit, spread if several else None, bar, True, key)


def percentile(samples: Sequence[float], share: float) -> float:
    """The value below which `share` of the samples lie."""
    return sorted(samples)[min(len(samples) - 1, int(len(samples) * share))]


def timed_ms(call: Callable[[], object]) -> float:
    """How long one call takes, in ms."""
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1000


def latency(
    work: str, calls: Sequence[Callable[[], object]], bar_ms: float | None, key: str = ""
) -> Figure:
    """99th percentile of the calls in ms, with median and maximum as the spread."""
    return spread_of(work, [timed_ms(call) for call in calls], bar_ms, key)


def spread_of(
    work: str, samples: Sequence[float], bar_ms: float | None = None, key: str = ""
) -> Figure:
    """The same from times that were taken already."""
    spread = (statistics.median(samples), max(samples))
    return Figure(work, percentile(samples, 0.99), "ms p99", spread, bar_ms, False, key)
