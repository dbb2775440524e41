"""A guard against getting slower: ratios of a quick run beside those that were committed.

Only ratios are kept and compared, and what is counted. Rates and times belong to a machine and to
what else it does; how many times as fast the engine is as something else on the same machine at the
same time does so less, and how many functions are called for a run not at all.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.benchmarks.figures import Figure

FILE = Path(__file__).with_name("baseline.json")
ALLOWED = 0.25
"""The share of a ratio that may be lost before the guard fails."""
ALLOWED_OF_COUNTED = 0.05
"""The same of what is counted: it differs only by how the work happens to fall into batches."""


@dataclass(frozen=True, slots=True)
class Drop:
    """A ratio that got worse by more than is allowed."""

    name: str
    before: float
    now: float
    unit: str

    @property
    def measurement(self) -> str:
        """The measurement to look at."""
        return self.name.partition(":")[0]

    def line(self) -> str:
        """The drop for people."""
        change = 100 * (self.now / self.before - 1)
        now = f"{self.now:,.2f} {self.unit} now ({change:+.0f} %)"
        return f"{self.name}: {self.before:,.2f} before, {now}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """What became of the committed ratios."""

    drops: tuple[Drop, ...]
    compared: int
    absent: tuple[str, ...]
    """Ratios of the baseline that were not measured now."""


def guarded(figures: Iterable[Figure]) -> list[Figure]:
    """Those that a baseline holds."""
    return [each for each in figures if each.steady and (each.is_ratio or each.is_counted)]


def save(figures: Iterable[Figure], machine: dict[str, str], file: Path = FILE) -> int:
    """Make these figures' ratios the baseline; returns how many there are.

    Ratios of measurements that none of them is of stay as they are.
    """
    fresh = list(figures)
    again = {figure.measurement for figure in fresh}
    kept = load(file) if file.exists() else {}
    ratios = {name: each for name, each in kept.items() if name.partition(":")[0] not in again}
    ratios |= {
        figure.name: {
            "value": round(figure.value, 3),
            "unit": figure.unit,
            "higher_is_better": figure.higher_is_better,
        }
        for figure in guarded(fresh)
    }
    text = json.dumps({"machine": machine, "ratios": ratios}, indent=2, sort_keys=True)
    file.write_text(text + "\n", encoding="utf-8")
    return len(ratios)


def load(file: Path = FILE) -> dict[str, dict[str, Any]]:
    """The committed ratios by name."""
    try:
        found: dict[str, dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))["ratios"]
    except FileNotFoundError:
        raise SystemExit(f"error: there is no baseline, {file.name}; see --save-baseline") from None
    return found


def compare(
    ratios: dict[str, dict[str, Any]],
    figures: Sequence[Figure],
    measurements: Iterable[str],
) -> Comparison:
    """Hold the figures of these measurements against the ratios."""
    asked = set(measurements)
    now = {figure.name: figure for figure in guarded(figures)}
    known = {name: ratio for name, ratio in ratios.items() if name.partition(":")[0] in asked}
    drops = []
    for name, ratio in known.items():
        figure = now.get(name)
        if figure is None:
            continue
        allowed = ALLOWED_OF_COUNTED if figure.is_counted else ALLOWED
        if _is_drop(ratio, figure.value, allowed):
            drops.append(Drop(name, ratio["value"], figure.value, figure.unit))
    absent = tuple(name for name in known if name not in now)
    return Comparison(tuple(drops), len(known) - len(absent), absent)


def _is_drop(ratio: dict[str, Any], now: float, allowed: float) -> bool:
    before = float(ratio["value"])
    if ratio["higher_is_better"]:
        return now < before * (1 - allowed)
    return now > before / (1 - allowed)


def better_of(first: Sequence[Figure], second: Sequence[Figure]) -> list[Figure]:
    """Of each figure that was measured twice the better one: other work only ever slows down."""
    again = {figure.name: figure for figure in second}

    def better(figure: Figure) -> Figure:
        other = again.get(figure.name)
        if other is None:
            return figure
        return max(
            figure, other, key=lambda each: each.value * (1 if each.higher_is_better else -1)
        )

    return [better(figure) for figure in first]
