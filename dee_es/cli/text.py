"""Text as a terminal may see it: nothing in it moves the cursor, and its width is known."""

from __future__ import annotations

import unicodedata

_ELLIPSIS = "…"


def printable(text: str, keep: str = "") -> str:
    """The text with what a terminal would obey, or what hides or turns text, written as escapes."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        char if char in keep or not _hidden(char) else f"\\u{ord(char):04x}" for char in text
    )


def _hidden(char: str) -> bool:
    # Cf are the marks that turn the direction of writing, among others; joiners are part of words.
    return unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp") and char not in "\u200c\u200d"


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
