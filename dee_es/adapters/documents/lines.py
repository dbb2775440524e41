"""Text set in lines of a given width."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from dee_es.adapters.documents.fonts import Face, Glyph, glyphs
from dee_es.adapters.documents.text import line, lines


class Line(NamedTuple):
    """One line: pieces of text with their fonts, and its width for size 1."""

    pieces: tuple[tuple[str, str], ...]
    width: float


def wrap(text: str, face: Face, width: float, *, keep: bool = False) -> list[Line]:
    """The text in lines no wider than `width` (for size 1), broken between words, or within a word
    that is wider by itself. With `keep`, line breaks and spaces stay as they are given.

    A text without a character is one empty line.
    """
    given = lines(text.expandtabs(4)) if keep else [line(text)]
    return [_line(each) for one in given for each in _broken(glyphs(one, face), width)]


def _broken(given: list[Glyph], width: float) -> Iterator[list[Glyph]]:
    start, space, used = 0, -1, 0.0
    place = 0
    while place < len(given):
        if given[place].text == " ":
            space = place
        used += given[place].width
        if used > width and place > start:
            if given[place].text == " ":
                yield given[start:place]
                start = place + 1
            elif space > start:
                yield given[start:space]
                start = space + 1
            else:
                yield given[start:place]
                start = place
            space, used, place = -1, 0.0, start
            continue
        place += 1
    yield given[start:]


def _line(given: list[Glyph]) -> Line:
    pieces: list[tuple[str, str]] = []
    begin = 0
    for place in range(1, len(given) + 1):
        if place == len(given) or given[place].font != given[begin].font:
            text = "".join([glyph.text for glyph in given[begin:place]])
            pieces.append((given[begin].font, text))
            begin = place
    return Line(tuple(pieces), sum(glyph.width for glyph in given))
