"""What all formats do with texts and anchors before their own escaping."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from dee_es.core.document import Cell, Document, Heading, Paragraph, Table

# Control characters, which print as nothing or worse; lone surrogates, which no file can hold; and
# what turns the direction of the text around it, so that a line could read as another one.
_UNSEEN: Final = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff"
    "\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufff9-\ufffb\ufffe\uffff]"
)
_PLAIN_ANCHOR: Final = re.compile(r"[A-Za-z][A-Za-z0-9._-]*\Z")
_BREAK: Final = re.compile(r"\r\n?|\n")


def code_point(character: str) -> str:
    """How a character is written that cannot be shown: `[U+202E]`."""
    return f"[U+{ord(character):04X}]"


def lines(text: str) -> list[str]:
    """The lines of a text as it was given, all characters visible."""
    return _UNSEEN.sub(lambda found: code_point(found[0]), _BREAK.sub("\n", text)).split("\n")


def line(text: str) -> str:
    """A text as one line: breaks and runs of space become one space."""
    return " ".join(" ".join(lines(text)).split())


def moment(made_at: datetime) -> str:
    """A document's time for people."""
    return made_at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


class Anchors:
    """The anchors of a document, by names that are safe in every format.

    A link to an anchor that the document does not have is no link.
    """

    def __init__(self, document: Document) -> None:
        self._names: dict[str, str] = {}
        for anchor in _anchors(document):
            plain = _PLAIN_ANCHOR.match(anchor) and not anchor.startswith("at-")
            self._names.setdefault(anchor, anchor if plain else f"at-{len(self._names)}")

    def name(self, anchor: str | None) -> str | None:
        """The name under which the anchor is set or linked to; None if there is none."""
        return self._names.get(anchor) if anchor else None


def _anchors(document: Document) -> Iterator[str]:
    for block in document.blocks:
        if isinstance(block, Heading | Paragraph) and block.anchor:
            yield block.anchor
        elif isinstance(block, Table):
            yield from (anchor for anchor in block.anchors if anchor)


def table_rows(table: Table) -> Iterator[tuple[str | None, list[Cell]]]:
    """The rows with their anchors, each as wide as the table."""
    for place, row in enumerate(table.rows):
        anchor = table.anchors[place] if place < len(table.anchors) else None
        cells = [cell if isinstance(cell, Cell) else Cell(cell) for cell in row]
        cells = cells[: len(table.columns)]
        yield anchor, cells + [Cell("")] * (len(table.columns) - len(cells))
