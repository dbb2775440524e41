"""Curves of what figures come to as the work grows, as SVG files; see `pictures` for which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.benchmarks.figures import Figure
from scripts.benchmarks.pictures import PICTURES, Picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = ("#1f4e79", "#c55a11", "#548235", "#7030a0", "#c00000", "#7f6000")
_MARKERS = ("o", "s", "^", "D", "v", "P")
_BAR = "#595959"


def why_not() -> str | None:
    """Why nothing can be drawn, if that is so."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        return "matplotlib is not installed; scripts/bench installs it (extra `bench`)"
    return None


def draw(figures: Sequence[Figure], counted: Mapping[str, str], folder: Path) -> list[Path]:
    """Every picture of which a line was measured at two sizes or more; `counted` says what the
    sizes of a measurement count."""
    import matplotlib

    matplotlib.use("svg")
    # The same figures make the same file, so that a change of it is a change of theirs.
    matplotlib.rcParams["svg.hashsalt"] = "dee-es"
    matplotlib.rcParams["svg.fonttype"] = "none"
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for picture in PICTURES:
        lines = lines_of(picture, figures)
        if any(len(points) > 1 for points in lines.values()):
            file = folder / f"{picture.file}.svg"
            _draw(picture, counted.get(picture.measurement, "size"), lines, file)
            files.append(file)
    return files


def lines_of(picture: Picture, figures: Sequence[Figure]) -> dict[str, list[Figure]]:
    """The picture's figures by the label of their line, smallest size first."""
    found: dict[str, list[Figure]] = {}
    for key, label in picture.lines.items():
        points = {
            figure.size: figure
            for figure in figures
            if figure.measurement == picture.measurement
            and (figure.spread is not None or not picture.middle)
            and (figure.key or figure.work) == key
            and figure.size is not None
        }
        if points:
            found[label] = [points[size] for size in sorted(points)]
            if picture.middle:
                found[label] = [_middle(figure) for figure in found[label]]
    return found


def absent(figures: Sequence[Figure]) -> list[str]:
    """Names of lines that no figure was found for, although their measurement was made."""
    made = {figure.measurement for figure in figures}
    known = {figure.name for figure in figures}
    names = [
        f"{picture.measurement}: {key}"
        for picture in PICTURES
        if picture.measurement in made
        for key in picture.lines
    ]
    return [name for name in dict.fromkeys(names) if name not in known]


def _middle(figure: Figure) -> Figure:
    """The median of a latency, which has no bar."""
    assert figure.spread is not None, "it was chosen by that"
    return replace(figure, value=figure.spread[0], bar=None)


def _draw(picture: Picture, counted: str, lines: dict[str, list[Figure]], file: Path) -> None:
    from matplotlib.figure import Figure as Sheet
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

    sheet = Sheet(figsize=(8, 4.5), layout="constrained", facecolor="white")
    axes = sheet.subplots()
    for n, (label, points) in enumerate(lines.items()):
        sizes = [figure.size or 0 for figure in points]
        # A peer is asked at the smallest size alone.
        told = label if len(points) > 1 else f"{label} (at {sizes[0]:,})"
        style = {"color": _COLOURS[n % len(_COLOURS)], "marker": _MARKERS[n % len(_MARKERS)]}
        axes.plot(sizes, [each.value for each in points], label=told, linewidth=1.8, **style)
    every = [figure for points in lines.values() for figure in points]
    _bars(axes, lines)
    axes.set_xscale("log")
    values = [each.value for each in every] + [each.bar for each in every if each.bar is not None]
    if min(values) > 0 and max(values) / min(values) > 20:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_ylim(bottom=0, top=1.1 * max(values))
    axes.set_xticks(sorted({figure.size or 0 for figure in every}))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: _number(value)))
    axes.set_xlabel(f"{counted} (logarithmic)")
    axes.set_ylabel(picture.unit)
    axes.set_title(picture.title, loc="left", fontsize=11)
    axes.grid(visible=True, alpha=0.25)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    sheet.legend(loc="outside lower left", fontsize="small", frameon=False, ncols=2)
    sheet.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)


def _number(value: float) -> str:
    return f"{value:,g}" if value < 1e4 else f"{value:,.0f}"


def _bars(axes: Axes, lines: Mapping[str, Sequence[Figure]]) -> None:
    """A dashed line for each bar there is, and what is aimed at in words."""
    bars: dict[float, list[int]] = {}
    for n, points in enumerate(lines.values()):
        if points[-1].bar is not None:
            bars.setdefault(points[-1].bar, []).append(n)
    labels = list(lines)
    for place, (bar, whose) in enumerate(bars.items(), start=1):
        least = lines[labels[whose[0]]][-1].higher_is_better
        # With several bars each has the colour and the name of what it is for.
        colour = _COLOURS[whose[0] % len(_COLOURS)] if len(bars) > 1 else _BAR
        what = f"{', '.join(labels[n] for n in whose)}: " if len(bars) > 1 else ""
        axes.axhline(bar, color=colour, linestyle="--", linewidth=1)
        axes.annotate(
            f"aimed at: {what}at {'least' if least else 'most'} {bar:,g}",
            # Beside each other, because bars may be close.
            (place / (len(bars) + 1), bar),
            xycoords=("axes fraction", "data"),
            xytext=(0, 3),
            textcoords="offset points",
            horizontalalignment="center",
            fontsize="small",
            color=colour,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5},
        )
