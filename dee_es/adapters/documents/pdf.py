"""PDF: A4 pages with a header, page numbers, an outline and links; text that can be searched."""

from __future__ import annotations

from datetime import UTC
from hashlib import md5
from io import BytesIO
from typing import Final

from reportlab.pdfgen.canvas import Canvas

from dee_es.adapters.documents.layout import RULE, SOFT, lay_out
from dee_es.adapters.documents.lines import Line, wrap
from dee_es.adapters.documents.pages import (
    BODY,
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    WIDTH,
    Box,
    Page,
    Style,
    Text,
)
from dee_es.adapters.documents.text import line, moment
from dee_es.core.document import Document

_RUNNING: Final = Style(8, 11, colour=SOFT)
_FILL_AND_STROKE: Final = 2


def write_pdf(document: Document) -> bytes:
    """The document as a PDF file."""
    pages = lay_out(document)
    out = BytesIO()
    canvas = Canvas(out, pagesize=(WIDTH, HEIGHT), pageCompression=1, invariant=1, lang="en")
    _describe(canvas, document)
    outline = _Outline(canvas)
    for number, page in enumerate(pages, start=1):
        _draw(canvas, page, outline)
        _running(canvas, document, number, len(pages))
        canvas.showPage()
    canvas.save()
    return out.getvalue()


def _describe(canvas: Canvas, document: Document) -> None:
    canvas.setTitle(line(document.title))
    canvas.setSubject(line(document.subtitle))
    canvas.setAuthor("")
    canvas.setCreator("dee-es")
    # The library asks the environment for the time, also for the file's id, or takes a fixed day;
    # it has no public way to be told.
    made_at = document.made_at.astimezone(UTC)
    file = vars(canvas)["_doc"]
    stamp = file._timeStamp
    stamp.YMDhms = made_at.timetuple()[:6]
    stamp.dhh = stamp.dmm = 0
    file.signature = md5(made_at.isoformat().encode(), usedforsecurity=False)


def _draw(canvas: Canvas, page: Page, outline: _Outline) -> None:
    for box in page.boxes:
        _fill(canvas, box)
    for text in page.texts:
        _set(canvas, text)
    for link in page.links:
        rect = (link.x, link.y, link.x + link.width, link.y + link.height)
        canvas.linkRect("", link.target, rect, relative=0, thickness=0)
    for mark in page.marks:
        canvas.bookmarkHorizontalAbsolute(mark.name, mark.y + 6, left=0, fit="XYZ")
        if mark.title:
            outline.add(mark.title, mark.name, mark.level)


class _Outline:
    """The headings as a tree. A level that was jumped is left out, since a tree has none such."""

    def __init__(self, canvas: Canvas) -> None:
        self._canvas = canvas
        self._open: list[int] = []

    def add(self, title: str, name: str, level: int) -> None:
        """Put a heading behind those before it."""
        while self._open and self._open[-1] >= level:
            self._open.pop()
        self._canvas.addOutlineEntry(title, name, len(self._open), closed=False)
        self._open.append(level)


def _running(canvas: Canvas, document: Document, number: int, count: int) -> None:
    title = wrap(document.title, "text", BODY / _RUNNING.size)[0]
    _set(canvas, Text(LEFT, HEIGHT - 50, title, _RUNNING))
    _fill(canvas, Box(LEFT, HEIGHT - 56, BODY, 0.5, RULE))
    _fill(canvas, Box(LEFT, BOTTOM - 16, BODY, 0.5, RULE))
    foot = BOTTOM - 28
    _set(canvas, Text(LEFT, foot, _one_line(moment(document.made_at)), _RUNNING))
    page = _one_line(f"page {number} of {count}")
    _set(canvas, Text(RIGHT - page.width * _RUNNING.size, foot, page, _RUNNING))


def _one_line(text: str) -> Line:
    return wrap(text, "text", BODY)[0]


def _fill(canvas: Canvas, box: Box) -> None:
    canvas.setFillColorRGB(*_rgb(box.colour))
    canvas.rect(box.x, box.y, box.width, box.height, stroke=0, fill=1)


def _set(canvas: Canvas, text: Text) -> None:
    if not text.line.pieces:
        return
    # How text is drawn outlasts it, so that it is put back afterwards.
    canvas.saveState()
    written = canvas.beginText(text.x, text.y)
    written.setFillColorRGB(*_rgb(text.style.colour))
    if text.style.bold:
        # The fonts are variable ones, of which only the regular weight is drawn: a thin outline
        # makes it bold.
        canvas.setLineWidth(text.style.size * 0.035)
        written.setStrokeColorRGB(*_rgb(text.style.colour))
        written.setTextRenderMode(_FILL_AND_STROKE)
    for font, piece in text.line.pieces:
        written.setFont(font, text.style.size)
        written.textOut(piece)
    canvas.drawText(written)
    canvas.restoreState()


def _rgb(colour: int) -> tuple[float, float, float]:
    return (colour >> 16) / 255, (colour >> 8 & 255) / 255, (colour & 255) / 255
