"""How lists, and rows as columns, travel to PostgreSQL: each as one value for all of its items.

The driver looks at each item of a list by itself, in Python, which takes as long as all else that
is done with it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Any, Final, cast

import psycopg
from psycopg import postgres
from psycopg.adapt import Dumper
from psycopg.pq import Format

from dee_es.core.projection import ColumnKind

_QUOTE, _ESCAPE, _END, _NULL = '"', "\\", "\0", "NULL"
_HEAD: Final = struct.Struct(">iiIii").pack
"""Of an array as bytes: its dimensions, whether it holds nulls, the type of its items, how many
there are, and the number of the first."""
_EMPTY: Final = struct.Struct(">iiI").pack
"""Of one that holds nothing: no dimensions, no nulls, and the type that its items would have."""
_LENGTH: Final = struct.Struct(">i").pack
_NO_BYTES: Final = _LENGTH(-1)


class Texts(list[str | None]):
    """Texts; None is null."""


class Integers(list[int | None]):
    """Integers of up to 64 bits; None is null."""


class Booleans(list[bool | None]):
    """True and false; None is null."""


class Blobs(list[bytes | None]):
    """Bytes; None is null."""


def as_columns(kinds: Iterable[ColumnKind], rows: Iterable[Sequence[Any]]) -> list[list[Any]]:
    """Rows as columns of these kinds: one statement then serves any number of rows."""
    held = zip(*rows, strict=True)
    return [_BY_KIND[kind](column) for kind, column in zip(kinds, held, strict=True)]


def as_arrays(values: Sequence[object]) -> list[object]:
    """The values of a statement with the lists among them marked as what they hold; those that hold
    anything but texts or integers are left to the driver."""
    return [_marked(value) if type(value) is list else value for value in values]


def _marked(items: list[Any]) -> object:
    held = set(map(type, items))
    kind = _KINDS.get(held.pop()) if len(held) == 1 else None
    return items if kind is None else kind(items)


class TextsDumper(Dumper):
    """`text[]`, every item in quotes but nulls."""

    format = Format.TEXT
    oid = postgres.types["text"].array_oid

    def dump(self, obj: Texts) -> bytes:
        """See `Dumper.dump`. Raises `psycopg.DataError` for a text that no table can hold."""
        if None in obj:
            literal = ",".join([_NULL if each is None else _quoted(each) for each in obj])
        else:
            literal = _joined(cast("list[str]", obj))
        if _END in literal:
            # The literal would end there.
            raise psycopg.DataError("PostgreSQL texts cannot hold NUL")
        return f"{{{literal}}}".encode()


def _joined(texts: Sequence[str]) -> str:
    """Texts in quotes. Few have anything in them that is to be escaped."""
    inside = '","'.join(texts)
    if _ESCAPE in inside or inside.count(_QUOTE) != 2 * (len(texts) - 1):
        return ",".join(map(_quoted, texts))
    return f'"{inside}"'


def _quoted(text: str) -> str:
    return '"' + text.replace(_ESCAPE, r"\\").replace(_QUOTE, r"\"") + '"'


class IntegersDumper(Dumper):
    """`int8[]`."""

    format = Format.TEXT
    oid = postgres.types["int8"].array_oid

    def dump(self, obj: Integers | Booleans) -> bytes:
        """See `Dumper.dump`."""
        # Nothing else is written with these letters.
        return f"{{{','.join(map(str, obj))}}}".replace("None", _NULL).encode()


class BooleansDumper(IntegersDumper):
    """`bool[]`."""

    oid = postgres.types["bool"].array_oid


class BlobsDumper(Dumper):
    """`bytea[]`, as bytes: as text they would be twice as long."""

    format = Format.BINARY
    oid = postgres.types["bytea"].array_oid

    def dump(self, obj: Blobs) -> bytes:
        """See `Dumper.dump`."""
        item = postgres.types["bytea"].oid
        parts = [_HEAD(1, None in obj, item, len(obj), 1) if obj else _EMPTY(0, 0, item)]
        for each in obj:
            parts += (_NO_BYTES,) if each is None else (_LENGTH(len(each)), each)
        return b"".join(parts)


_KINDS: Final[dict[type, type[list[Any]]]] = {str: Texts, int: Integers}
_BY_KIND: Final[dict[ColumnKind, type[list[Any]]]] = {
    "text": Texts,
    "integer": Integers,
    "boolean": Booleans,
    "bytes": Blobs,
}
