"""Curves of what figures come to as the work grows, as SVG files."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from scripts.benchmarks.figures import Figure

_COLOURS = ("#1f4e79", "#c55a11", "#548235", "#7f6000", "#7030a0", "#c00000", "#0d7377", "#595959")


def why_not() -> str | None:
    """Why nothing can be drawn, if that is so."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        return "matplotlib is not installed; scripts/bench installs it (extra `bench`)"
    return None


def draw(figures: Sequence[Figure], counted: Mapping[str, str], folder: Path) -> list[Path]:
    """A picture for each measurement and kind of unit that was measured at two sizes or more.

    `counted` says what the sizes of a measurement count. Bars are dashed.
    """
    import matplotlib

    matplotlib.use("svg")
    # The same figures make the same file, so that a change of it is a change of theirs.
    matplotlib.rcParams["svg.hashsalt"] = "dee-es"
    matplotlib.rcParams["svg.fonttype"] = "none"
    folder.mkdir(parents=True, exist_ok=True)
    groups: dict[tuple[str, str], dict[str, list[Figure]]] = defaultdict(lambda: defaultdict(list))
    for figure in figures:
        if figure.size is not None:
            groups[figure.measurement, _kind(figure.unit)][figure.key or figure.work].append(figure)
    files = []
    for (measurement, kind), lines in groups.items():
        grown = {name: points for name, points in lines.items() if len(points) > 1}
        if grown:
            file = folder / f"{measurement}-{_slug(kind)}.svg"
            _picture(measurement, counted.get(measurement, "size"), grown, file)
            files.append(file)
    return files


def _kind(unit: str) -> str:
    return "rate" if unit.endswith("/s") else unit


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower().replace("%", "percent")).strip("-")


def _picture(measurement: str, counted: str, lines: dict[str, list[Figure]], file: Path) -> None:
    from matplotlib.figure import Figure as Picture
    from matplotlib.ticker import FuncFormatter, NullFormatter

    picture = Picture(figsize=(8, 4.5), layout="constrained")
    axes = picture.subplots()
    for n, (name, found) in enumerate(lines.items()):
        points = sorted(found, key=lambda figure: figure.size or 0)
        colour = _COLOURS[n % len(_COLOURS)]
        sizes = [figure.size or 0 for figure in points]
        style = "o-" if n < len(_COLOURS) else "s--"
        axes.plot(sizes, [each.value for each in points], style, color=colour, label=name)
        if points[0].bar is not None:
            axes.axhline(points[0].bar, color=colour, linestyle=":", linewidth=1)
    every = [figure for found in lines.values() for figure in found]
    units = sorted({figure.unit for figure in every})
    axes.set_xscale("log")
    highest, lowest = max(each.value for each in every), min(each.value for each in every)
    if lowest > 0 and highest / lowest > 20:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.set_xticks(sorted({figure.size or 0 for figure in every}))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(
            FuncFormatter(lambda value, _: f"{value:,g}" if value < 1e4 else f"{value:,.0f}")
        )
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(counted)
    axes.set_ylabel(" or ".join(units))
    axes.set_title(measurement)
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize="x-small")
    picture.savefig(file, format="svg", metadata={"Date": None})
