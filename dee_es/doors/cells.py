"""Cells of a contacts file that are no text: numbers, and true and false.

Nobody can tell from a cell whether `0049` is a number, so only columns that were named are read so.
A refusal names the column and never shows its value, which is personal data.
"""

from __future__ import annotations

import re
from typing import Final

from dee_es.core.values import MAX_SAFE_INTEGER, JsonScalar
from dee_es.doors.contacts_header import Kind
from dee_es.errors import InvalidInput

_NUMBER = re.compile(r"[+-]?[0-9]{1,300}(?:\.[0-9]{1,300})?\Z")
_BOOLEAN: Final = {
    "true": True, "yes": True, "1": True, "false": False, "no": False, "0": False
}  # fmt: skip


def read_as(kind: Kind, title: str, text: str) -> JsonScalar:
    """The value of a cell that is not empty; raises `InvalidInput` naming the column."""
    if kind == "boolean":
        value = _BOOLEAN.get(text.casefold())
        if value is None:
            raise InvalidInput(title, "is none of true, yes, 1, false, no, 0")
        return value
    if _NUMBER.match(text) is None:
        raise InvalidInput(title, "is not a number such as 1200 or 3.5")
    if "." in text:
        return float(text)
    number = int(text)
    if abs(number) > MAX_SAFE_INTEGER:
        raise InvalidInput(title, "is an integer beyond 2^53, which is not exact")
    return number
