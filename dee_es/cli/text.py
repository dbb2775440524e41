"""Text as a terminal may see it: nothing in it moves the cursor, and its width is known."""

from __future__ import annotations

import unicodedata

from dee_es.core.printing import printable, printable_lines

__all__ = ["counted", "fitted", "one_line", "padded", "printable", "printable_lines", "width"]

_ELLIPSIS = "…"


def counted(count: int, one: str, several: str | None = None) -> str:
    """A number with its noun: `1 run`, `2,000 runs`."""
    return f"{count:,} {one if count == 1 else several or one + 's'}"


def one_line(text: str) -> str:
    """The text on one line."""
    return printable(" ".join(text.splitlines()))


def width(text: str) -> int:
    """How many columns of a terminal the text takes."""
    if text.isascii():
        return len(text)
    return sum(_columns(char) for char in text)


def _columns(char: str) -> int:
    if unicodedata.combining(char) or unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in ("W", "F") else 1


def fitted(text: str, columns: int) -> str:
    """The text cut to so many columns, with an ellipsis where something is missing."""
    if width(text) <= columns:
        return text
    room = columns - 1
    kept = []
    for char in text:
        room -= _columns(char)
        if room < 0:
            break
        kept.append(char)
    return "".join(kept) + _ELLIPSIS


def padded(text: str, columns: int, *, right: bool = False) -> str:
    """The text filled up with spaces to so many columns."""
    space = " " * max(0, columns - width(text))
    return space + text if right else text + space
