"""Text that is safe to show: nothing in it moves a cursor, and no spreadsheet runs it."""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Final

# A spreadsheet takes a cell that begins so for a formula and runs it; the last are full-width.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
# Read with semicolons between cells, as in much of Europe, a cell begins behind each of them; of
# a quotation mark that it begins with nothing is left then. Tabs are written as escapes.
_LATER: Final = re.compile(';(?=[ "]*[=+@\uff1d\uff0b\uff0d\uff20-])')


def printable(text: str) -> str:
    """The text with what a terminal would obey, or what hides or turns text, written as escapes."""
    return text if text.isprintable() else "".join(map(_shown, text))


def printable_lines(text: str) -> str:
    """The same for text of several lines, which stay lines."""
    return "\n".join(map(printable, text.split("\n")))


def _shown(char: str) -> str:
    # Cf are the marks that turn the direction of writing, among others; joiners are part of words.
    hidden = unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp")
    # As JSON writes them, so that JSON stays JSON.
    return json.dumps(char)[1:-1] if hidden and char not in "\u200c\u200d" else char


def defused(cell: object) -> object:
    """The cell so that no spreadsheet runs it, and on one line.

    A text that begins like a formula, at its start or behind a semicolon, gets a quote before it;
    control characters become escapes.
    """
    if cell is None or isinstance(cell, int | float):
        return cell
    text = cell if isinstance(cell, str) else json.dumps(cell, ensure_ascii=False)
    quote = "'" if text.lstrip(" ").startswith(_FORMULA) else ""
    return quote + _LATER.sub(";'", printable(text))
