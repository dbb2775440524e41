"""A document's blocks set on pages."""

from __future__ import annotations

from itertools import accumulate
from typing import Final

from dee_es.adapters.documents.lines import Line, wrap
from dee_es.adapters.documents.pages import (
    BODY,
    BOTTOM,
    LEFT,
    TOP,
    Box,
    Link,
    Mark,
    Page,
    Pages,
    Style,
    Text,
)
from dee_es.adapters.documents.text import Anchors, line, moment, table_rows
from dee_es.core.document import Block, Column, Document, Facts, Heading, Paragraph, Table

INK: Final = 0x1A1A1A
SOFT: Final = 0x5C5C5C
BLUE: Final = 0x0B4F9E
RULE: Final = 0xC9C9C9
_HEAD: Final = 0xEDEDEA
_FIXED: Final = 0xF5F5F3
_RED: Final = 0x8A1C1C
_RED_PAPER: Final = 0xFBEFEE

_TITLE: Final = Style(20, 26, bold=True)
_HEADINGS: Final = (Style(14, 19, bold=True), Style(11.5, 16, bold=True), Style(10, 14, bold=True))
_BODY: Final = Style(9.5, 13.5)
_SUBTITLE: Final = Style(10.5, 15, colour=SOFT)
_NAME: Final = Style(9.5, 13.5, colour=SOFT)
_MONO: Final = Style(8.5, 12)
_WARNING: Final = Style(9.5, 13.5, colour=_RED)
_CELL: Final = Style(8.5, 11.5)
_CELL_HEAD: Final = Style(8.5, 11.5, bold=True)
_CELL_LINK: Final = Style(8.5, 11.5, colour=BLUE)
_PAD: Final = 4.0
_NAMES: Final = 130.0


def lay_out(document: Document) -> list[Page]:
    """The pages of a document, without their header and footer."""
    return _Layout(document).pages.all


class _Layout:
    def __init__(self, document: Document) -> None:
        self.pages = Pages()
        self._anchors = Anchors(document)
        self._lines(wrap(document.title, "text", BODY / _TITLE.size), _TITLE)
        if document.subtitle:
            self._lines(wrap(document.subtitle, "text", BODY / _SUBTITLE.size), _SUBTITLE)
        self._lines(wrap(moment(document.made_at), "text", BODY / _SUBTITLE.size), _SUBTITLE)
        self.pages.space(8)
        for block in document.blocks:
            self._block(block)

    def _block(self, block: Block) -> None:
        if isinstance(block, Heading):
            self._heading(block)
        elif isinstance(block, Paragraph):
            self._paragraph(block)
        elif isinstance(block, Facts):
            self._facts(block)
        elif isinstance(block, Table):
            _TableLayout(self.pages, self._anchors, block).fill()
            self.pages.space(8)
        elif not self.pages.fresh:
            self.pages.turn()

    def _heading(self, block: Heading) -> None:
        level = min(max(block.level, 1), 3) - 1
        style = _HEADINGS[level]
        self.pages.space(14 - 3 * level)
        # A heading does not stay alone at the foot of a page.
        self.pages.need(style.leading + 48)
        name = self._anchors.name(block.anchor)
        outlined = f"heading-{len(self.pages.all)}-{self.pages.y:.2f}"
        top = self.pages.y
        self.pages.page.marks.append(Mark(outlined, top, line(block.text), level))
        if name:
            self.pages.page.marks.append(Mark(name, top))
        self._lines(wrap(block.text, "text", BODY / style.size), style)
        self.pages.space(3)

    def _paragraph(self, block: Paragraph) -> None:
        fixed = block.kind == "fixed"
        style = _MONO if fixed else _WARNING if block.kind == "warning" else _BODY
        inset = 0.0 if block.kind == "plain" else 7.0
        paper = {"fixed": _FIXED, "warning": _RED_PAPER}.get(block.kind)
        text = wrap(
            block.text, "fixed" if fixed else "text", (BODY - 2 * inset) / style.size, keep=fixed
        )
        # Neither the first nor the last line of a paragraph stays alone if it can be helped.
        self.pages.need(style.leading * min(len(text), 2))
        self._mark(block.anchor)
        self._lines(text, style, inset, paper)
        self.pages.space(6)

    def _facts(self, block: Facts) -> None:
        for name, value in block.pairs:
            names = wrap(name, "text", (_NAMES - 8) / _NAME.size)
            values = wrap(value, "text", (BODY - _NAMES) / _BODY.size)
            for place in range(max(len(names), len(values))):
                self.pages.need(_BODY.leading)
                y = self.pages.y
                if place < len(names):
                    self.pages.put(names[place], _NAME, LEFT)
                    self.pages.y = y
                if place < len(values):
                    self.pages.put(values[place], _BODY, LEFT + _NAMES)
                self.pages.y = y - _BODY.leading
        self.pages.space(6)

    def _lines(
        self, text: list[Line], style: Style, inset: float = 0.0, paper: int | None = None
    ) -> None:
        for each in text:
            self.pages.need(style.leading)
            if paper is not None:
                y = self.pages.y - style.leading
                self.pages.page.boxes.append(Box(LEFT, y, BODY, style.leading, paper))
            self.pages.put(each, style, LEFT + inset)

    def _mark(self, anchor: str | None) -> None:
        name = self._anchors.name(anchor)
        if name:
            self.pages.page.marks.append(Mark(name, self.pages.y))


class _TableLayout:
    """A table; its head is repeated on every page."""

    def __init__(self, pages: Pages, anchors: Anchors, table: Table) -> None:
        self._pages = pages
        self._anchors = anchors
        self._table = table
        whole = sum(max(column.share, 1) for column in table.columns) or 1
        self._widths = [max(column.share, 1) * BODY / whole for column in table.columns]
        self._lefts = list(accumulate(self._widths, initial=LEFT))
        self._heads = [self._wrapped(place, c.title) for place, c in enumerate(table.columns)]

    def fill(self) -> None:
        """Set the head and every row."""
        if not self._table.columns:
            return
        self._pages.need(self._height(self._heads) + 3 * _CELL.leading)
        self._row(self._heads, [_CELL_HEAD] * len(self._heads), [None] * len(self._heads), _HEAD)
        for anchor, cells in table_rows(self._table):
            targets = [self._anchors.name(cell.link) if cell.text else None for cell in cells]
            styles = [_CELL_LINK if target else _CELL for target in targets]
            wrapped = [self._wrapped(place, cell.text) for place, cell in enumerate(cells)]
            self._begin(self._height(wrapped))
            name = self._anchors.name(anchor)
            if name:
                self._pages.page.marks.append(Mark(name, self._pages.y))
            while wrapped:
                wrapped = self._part(wrapped, styles, targets)

    def _part(
        self, wrapped: list[list[Line]], styles: list[Style], targets: list[str | None]
    ) -> list[list[Line]]:
        """Set as much of a row as the page has room for; the rest of it."""
        fit = max(1, int((self._pages.room - 2 * _PAD) // _CELL.leading))
        self._row([lines[:fit] for lines in wrapped], styles, targets, None)
        rest = [lines[fit:] for lines in wrapped]
        if not any(rest):
            return []
        self._turn()
        return rest

    def _begin(self, height: float) -> None:
        """Begin a row on a new page if it would fit there and does not fit here."""
        head = self._height(self._heads)
        whole_page = TOP - BOTTOM - head
        least = min(height, whole_page, 4 * _CELL.leading + 2 * _PAD)
        if self._pages.room < (height if height <= whole_page else least):
            self._turn()

    def _turn(self) -> None:
        self._pages.turn()
        self._row(self._heads, [_CELL_HEAD] * len(self._heads), [None] * len(self._heads), _HEAD)

    def _row(
        self,
        wrapped: list[list[Line]],
        styles: list[Style],
        targets: list[str | None],
        paper: int | None,
    ) -> None:
        page, top, height = self._pages.page, self._pages.y, self._height(wrapped)
        if paper is not None:
            page.boxes.append(Box(LEFT, top - height, BODY, height, paper))
        page.boxes.append(Box(LEFT, top - height, BODY, 0.5, RULE))
        for place, lines in enumerate(wrapped):
            target = targets[place]
            left, width = self._lefts[place], self._widths[place]
            self._cell(lines, styles[place], self._table.columns[place], (left, width), top)
            if target:
                page.links.append(Link(left, top - height, width, height, target))
        self._pages.y = top - height

    def _cell(
        self,
        lines: list[Line],
        style: Style,
        column: Column,
        across: tuple[float, float],
        top: float,
    ) -> None:
        left, width = across
        y = top - _PAD
        for each in lines:
            y -= style.leading
            x = left + _PAD
            if column.right:
                x = left + width - _PAD - each.width * style.size
            self._pages.page.texts.append(Text(x, y + style.size * 0.34, each, style))

    def _wrapped(self, place: int, text: str) -> list[Line]:
        return wrap(text, "text", (self._widths[place] - 2 * _PAD) / _CELL.size)

    @staticmethod
    def _height(wrapped: list[list[Line]]) -> float:
        return max(max(len(lines) for lines in wrapped), 1) * _CELL.leading + 2 * _PAD
