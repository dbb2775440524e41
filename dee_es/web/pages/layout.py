"""Where the steps of a plan stand in its picture: layers from top to bottom, by the longest path.

Pure: steps and edges in, places out. Edges that lead back (a loop) are taken out first and drawn
beside the rest. Every other edge leads at least one layer down; where it passes layers it has
a bend in each, so that it goes around the steps there. Within a layer, order and place follow
those of the neighbours, in a few sweeps. The same plan gives the same picture.

Bends cost time and room. Of a plan that needs very many of them, the longest edges are drawn beside
the rest like those that lead back, all that lead to one step in one lane.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

WIDTH: Final = 184
HEIGHT: Final = 46
ACROSS: Final = 26
DOWN: Final = 46
MARGIN: Final = 14
_BEND: Final = 30
_LANE: Final = 16
_SWEEPS: Final = 6
_MOST_BENDS: Final = 2_000
"""A thousand steps, each with a few ways to the end, would have millions: minutes for one page."""


@dataclass(frozen=True, slots=True)
class Link:
    """An edge to draw, with what is written on it."""

    source: str
    target: str
    label: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a step is: its upper left corner, in pixels."""

    step: str
    layer: int
    x: int
    y: int


@dataclass(frozen=True, slots=True)
class Line:
    """How an edge runs: through these points; `back` if it leads back to a former step. `beside`
    the rest run those that do, and those that would have too many bends."""

    link: Link
    points: tuple[tuple[int, int], ...]
    back: bool = False
    beside: bool = False


@dataclass(frozen=True, slots=True)
class Layout:
    """The whole picture."""

    places: tuple[Place, ...]
    lines: tuple[Line, ...]
    width: int
    height: int


def lay_out(steps: Sequence[str], links: Iterable[Link]) -> Layout:
    """The picture of a graph whose first step is where it begins; unknown ends are left out."""
    known = set(steps)
    drawn = [link for link in links if link.source in known and link.target in known]
    back = _back_edges(steps, drawn)
    forward = [link for link in drawn if (link.source, link.target) not in back]
    layers = _layers(steps, forward)
    grid = _Grid.of(steps, _with_bends(forward, layers), layers)
    grid.arrange()
    return _drawn(steps, drawn, back, layers, grid)


def _with_bends(links: Sequence[Link], layer: Mapping[str, int]) -> list[Link]:
    """The edges there is room for between the steps: all, or the shortest."""

    def span(link: Link) -> int:
        return layer[link.target] - layer[link.source]

    # Those that say the same are one line in the picture.
    different, left, chosen = list(dict.fromkeys(links)), _MOST_BENDS, set[Link]()
    for link in sorted(different, key=span):
        left -= span(link) - 1
        if left < 0:
            break
        chosen.add(link)
    return [link for link in different if link in chosen]


def _back_edges(steps: Sequence[str], links: Sequence[Link]) -> set[tuple[str, str]]:
    """The edges that a depth-first search finds to lead to a step it is still below."""
    ahead: dict[str, list[str]] = {step: [] for step in steps}
    for link in links:
        ahead[link.source].append(link.target)
    found: set[tuple[str, str]] = set()
    done: set[str] = set()
    for root in steps:
        if root in done:
            continue
        open_: dict[str, int] = {root: 0}
        stack = [root]
        while stack:
            step = stack[-1]
            at = open_[step]
            if at == len(ahead[step]):
                stack.pop()
                del open_[step]
                done.add(step)
                continue
            open_[step] += 1
            target = ahead[step][at]
            if target in open_:
                found.add((step, target))
            elif target not in done:
                open_[target] = 0
                stack.append(target)
    return found


def _layers(steps: Sequence[str], links: Sequence[Link]) -> dict[str, int]:
    """The layer of each step: as many steps as the longest way to it has before it."""
    waiting = dict.fromkeys(steps, 0)
    ahead: dict[str, list[str]] = {step: [] for step in steps}
    for link in links:
        waiting[link.target] += 1
        ahead[link.source].append(link.target)
    layer = dict.fromkeys(steps, 0)
    ready = [step for step in steps if not waiting[step]]
    for step in ready:
        for target in ahead[step]:
            layer[target] = max(layer[target], layer[step] + 1)
            waiting[target] -= 1
            if not waiting[target]:
                ready.append(target)
    return layer


@dataclass(slots=True)
class _Cell:
    """A step in a layer, or the bend of an edge that passes it."""

    step: str | None
    order: int
    x: float = 0.0
    above: list[_Cell] = field(default_factory=list)
    below: list[_Cell] = field(default_factory=list)

    @property
    def width(self) -> int:
        return WIDTH if self.step is not None else _BEND


@dataclass(slots=True)
class _Grid:
    """The cells of all layers, and the bends of each edge."""

    layers: list[list[_Cell]]
    cells: dict[str, _Cell]
    bends: dict[Link, list[_Cell]]

    @classmethod
    def of(cls, steps: Sequence[str], links: Sequence[Link], layer: Mapping[str, int]) -> _Grid:
        """Cells in definition order, joined as the edges run."""
        rows: list[list[_Cell]] = [[] for _ in range(max(layer.values(), default=0) + 1)]
        cells: dict[str, _Cell] = {}
        for place, step in enumerate(steps):
            cells[step] = _Cell(step, place)
            rows[layer[step]].append(cells[step])
        bends: dict[Link, list[_Cell]] = {}
        for link in links:
            before, passed = cells[link.source], list[_Cell]()
            for between in range(layer[link.source] + 1, layer[link.target]):
                bend = _Cell(None, cells[link.target].order)
                rows[between].append(bend)
                passed.append(bend)
                _join(before, bend)
                before = bend
            _join(before, cells[link.target])
            bends[link] = passed
        return cls(rows, cells, bends)

    def arrange(self) -> None:
        """Bring the cells of each layer into an order, and find their places."""
        for row in self.layers:
            _spread(row)
        for sweep in range(_SWEEPS):
            downwards = sweep % 2 == 0
            for row in self.layers if downwards else reversed(self.layers):
                wanted = {id(cell): _middle(cell, downwards) for cell in row}
                row.sort(key=lambda cell: (wanted[id(cell)], cell.order))
                _settle(row, wanted)
        left = min((cell.x - cell.width / 2 for row in self.layers for cell in row), default=0)
        for row in self.layers:
            for cell in row:
                cell.x += MARGIN - left


def _join(above: _Cell, below: _Cell) -> None:
    above.below.append(below)
    below.above.append(above)


def _spread(row: Sequence[_Cell]) -> None:
    whole = sum(cell.width + ACROSS for cell in row)
    at = -whole / 2
    for cell in row:
        cell.x = at + cell.width / 2
        at += cell.width + ACROSS


def _middle(cell: _Cell, downwards: bool) -> float:
    """Where the neighbours in the layer before would have it."""
    neighbours = cell.above if downwards else cell.below
    if not neighbours:
        return cell.x
    return sum(each.x for each in neighbours) / len(neighbours)


def _settle(row: Sequence[_Cell], wanted: Mapping[int, float]) -> None:
    """Place the cells as near to where they are wanted as their widths allow."""
    if not row:
        return
    ends = float("-inf")
    for cell in row:
        cell.x = max(wanted[id(cell)], ends + cell.width / 2)
        ends = cell.x + cell.width / 2 + ACROSS
    # What was pushed to the right is shared by all of the layer.
    pushed = sum(cell.x - wanted[id(cell)] for cell in row) / len(row)
    for cell in row:
        cell.x -= pushed


def _drawn(
    steps: Sequence[str],
    links: Sequence[Link],
    back: set[tuple[str, str]],
    layer: Mapping[str, int],
    grid: _Grid,
) -> Layout:
    def top(of: int) -> int:
        return MARGIN + of * (HEIGHT + DOWN)

    places = {
        step: Place(step, layer[step], round(grid.cells[step].x - WIDTH / 2), top(layer[step]))
        for step in steps
    }
    right = max((round(cell.x + cell.width / 2) for row in grid.layers for cell in row), default=0)
    lines, last, shared = [], right, dict[str, int]()
    for link in links:
        source, target = places[link.source], places[link.target]
        leads_back = (link.source, link.target) in back
        if leads_back or link not in grid.bends:
            lane = last + _LANE if leads_back else shared.setdefault(link.target, last + _LANE)
            last = max(last, lane)
            ends = [
                (source.x + WIDTH, source.y + HEIGHT // 2),
                (lane, source.y + HEIGHT // 2),
                (lane, target.y + HEIGHT // 2),
                (target.x + WIDTH, target.y + HEIGHT // 2),
            ]
            lines.append(Line(link, tuple(ends), back=leads_back, beside=True))
            continue
        points = [(source.x + WIDTH // 2, source.y + HEIGHT)]
        for number, bend in enumerate(grid.bends[link], start=source.layer + 1):
            points += [(round(bend.x), top(number)), (round(bend.x), top(number) + HEIGHT)]
        points.append((target.x + WIDTH // 2, target.y))
        lines.append(Line(link, tuple(points)))
    return Layout(
        tuple(places.values()),
        tuple(lines),
        last + MARGIN,
        top(max(layer.values(), default=0)) + HEIGHT + MARGIN,
    )
