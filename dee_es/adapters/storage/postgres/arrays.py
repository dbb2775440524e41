"""How lists travel to PostgreSQL: as one literal for all of their items.

The driver looks at each item of a list by itself, in Python, which for a small statement takes as
long as all the rest of it. Nearly all lists are of keys or of numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import psycopg
from psycopg import postgres
from psycopg.adapt import Dumper
from psycopg.pq import Format

_QUOTE, _ESCAPE, _END = '"', "\\", "\0"


class Texts(list[str]):
    """Texts, none of them null."""


class Integers(list[int]):
    """Integers of up to 64 bits, none of them null."""


def as_arrays(values: Sequence[object]) -> list[object]:
    """The values of a statement with the lists among them marked as what they hold; those that hold
    anything else are left to the driver."""
    return [_marked(value) if type(value) is list else value for value in values]


def _marked(items: list[object]) -> object:
    held = set(map(type, items))
    kind = _KINDS.get(held.pop()) if len(held) == 1 else None
    return items if kind is None else kind(items)


class TextsDumper(Dumper):
    """`text[]`, every item in quotes."""

    format = Format.TEXT
    oid = postgres.types["text"].array_oid

    def dump(self, obj: Texts) -> bytes:
        """See `Dumper.dump`. Raises `psycopg.DataError` for a text that no table can hold."""
        inside = '","'.join(obj)
        if _END in inside:
            # The literal would end there.
            raise psycopg.DataError("PostgreSQL texts cannot hold NUL")
        if _ESCAPE in inside or inside.count(_QUOTE) != 2 * (len(obj) - 1):
            inside = '","'.join(
                [each.replace(_ESCAPE, r"\\").replace(_QUOTE, r"\"") for each in obj]
            )
        return f'{{"{inside}"}}'.encode()


class IntegersDumper(Dumper):
    """`int8[]`."""

    format = Format.TEXT
    oid = postgres.types["int8"].array_oid

    def dump(self, obj: Integers) -> bytes:
        """See `Dumper.dump`."""
        return f"{{{','.join(map(str, obj))}}}".encode()


_KINDS: Final[dict[type, type]] = {str: Texts, int: Integers}
