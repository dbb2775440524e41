"""A document for people, as plain data: what it says, not how it looks.

The same document becomes Markdown, HTML or PDF, each by a writer that adds nothing of its own. A
text is never markup: writers escape whatever their format would take for more.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from msgspec import Struct

DocumentFormat = Literal["md", "html", "pdf"]


class Heading(Struct, frozen=True):
    """A heading of level 1 to 3; `anchor` is what a link may lead to."""

    text: str
    level: int = 1
    anchor: str | None = None


class Paragraph(Struct, frozen=True):
    """Running text. A `warning` is what must not be overlooked, a `fixed` one is set in a font
    whose characters are all of one width, line by line."""

    text: str
    kind: Literal["plain", "warning", "fixed"] = "plain"
    anchor: str | None = None


class Facts(Struct, frozen=True):
    """Names with their values, such as an id and a checksum."""

    pairs: tuple[tuple[str, str], ...]


class Cell(Struct, frozen=True):
    """A cell of a table; `link` is an anchor in the same document."""

    text: str
    link: str | None = None


class Column(Struct, frozen=True):
    """A column of a table; `share` is its part of the width, by comparison with the others."""

    title: str
    share: int = 1
    right: bool = False


class Table(Struct, frozen=True):
    """Rows under columns. `anchors` names a row of each number so that links may lead there."""

    columns: tuple[Column, ...]
    rows: Sequence[Sequence[Cell | str]]
    anchors: Sequence[str | None] = ()


class PageBreak(Struct, frozen=True):
    """What follows begins on a new page, in formats that have pages."""


Block = Heading | Paragraph | Facts | Table | PageBreak


class Document(Struct, frozen=True):
    """The whole. `made_at` (UTC) is the only time that a writer may put into a file: the same
    document gives the same bytes."""

    title: str
    subtitle: str
    made_at: datetime
    blocks: tuple[Block, ...]
