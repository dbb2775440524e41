"""Pages of a PDF file as they fill up: what is on each, before it is known how many there are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple

from dee_es.adapters.documents.lines import Line

WIDTH: Final = 595.276
HEIGHT: Final = 841.89
"""A4, in points."""
LEFT: Final = 54.0
RIGHT: Final = WIDTH - 54.0
TOP: Final = HEIGHT - 76.0
BOTTOM: Final = 62.0
BODY: Final = RIGHT - LEFT


class Style(NamedTuple):
    """How a line is set: size and distance to the next in points; a colour as 0xRRGGBB."""

    size: float
    leading: float
    bold: bool = False
    colour: int = 0x1A1A1A


class Text(NamedTuple):
    """A line whose baseline begins at (x, y)."""

    x: float
    y: float
    line: Line
    style: Style


class Box(NamedTuple):
    """A filled rectangle."""

    x: float
    y: float
    width: float
    height: float
    colour: int


class Link(NamedTuple):
    """A rectangle that leads to an anchor."""

    x: float
    y: float
    width: float
    height: float
    target: str


class Mark(NamedTuple):
    """An anchor at this height; a heading's has a title for the outline, and its level from 0."""

    name: str
    y: float
    title: str = ""
    level: int = 0


@dataclass(slots=True)
class Page:
    """What is drawn, in this order: boxes below text."""

    boxes: list[Box] = field(default_factory=list)
    texts: list[Text] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)


class Pages:
    """The pages so far. `y` is how far down the last one is filled."""

    def __init__(self) -> None:
        self.all: list[Page] = []
        self.y = TOP
        self.turn()

    @property
    def page(self) -> Page:
        """The page being filled."""
        return self.all[-1]

    @property
    def room(self) -> float:
        """The height that is left on it."""
        return self.y - BOTTOM

    @property
    def fresh(self) -> bool:
        """Whether nothing is on it yet."""
        return self.y >= TOP

    def turn(self) -> None:
        """Go on on a new page."""
        self.all.append(Page())
        self.y = TOP

    def need(self, height: float) -> None:
        """Go on on a new page unless this much room is left, or the page is fresh."""
        if self.room < height and not self.fresh:
            self.turn()

    def space(self, height: float) -> None:
        """Leave some room, but none at the top of a page."""
        if not self.fresh:
            self.y -= height

    def put(self, line: Line, style: Style, x: float) -> None:
        """Set a line at the current height, which must have room, and go down by it."""
        self.y -= style.leading
        baseline = self.y + (style.leading - style.size) / 2 + style.size * 0.22
        self.page.texts.append(Text(x, baseline, line, style))
