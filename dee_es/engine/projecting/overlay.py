"""A build as it will be, on top of a snapshot of it as it is, and the order of its rows."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from operator import attrgetter
from typing import Any, Final

from dee_es.core.projection import CountKey, Key, Row, RowT, Table
from dee_es.ports import TableReader, beside

PAGE: Final = 2_000
"""Rows, or events, that are read at once."""


def place_of(key: object) -> tuple[int, Any]:
    """Where a key is in the order of keys: numbers, texts by code points, bytes. SQLite orders
    what somebody edited into a key of another type so, and takes any type for any column."""
    if isinstance(key, str):
        # Surrogates stand for bytes of what is no text.
        return 1, key.encode("utf-8", "surrogateescape")
    return (2, key) if isinstance(key, bytes) else (0, key)


class Overlay:
    """A build as it will be, on top of a snapshot of it as it is: what `fold` writes stays here.

    With `empty` the snapshot counts as a build without any rows. With `ahead` each page is read
    while the one before it is looked at: whoever leaves off before the last calls `beside.finish`.
    """

    def __init__(self, reader: TableReader, *, empty: bool = False, ahead: bool = False) -> None:
        self._reader = reader
        self._empty = empty
        self._ahead = ahead
        self._changed: dict[str, dict[Key, Row]] = {}
        self._deltas: dict[CountKey, int] = {}

    def rows(self, table: Table[RowT], keys: Sequence[Key]) -> dict[Key, RowT]:
        """See `TableReader.rows`."""
        changed: Mapping[Key, Any] = self._changed.get(table.physical_name, {})
        found: dict[Key, RowT] = {key: changed[key] for key in keys if key in changed}
        if self._empty:
            return found
        return found | self._reader.rows(table, [key for key in keys if key not in changed])

    def write(self, table: Table[RowT], inserts: Sequence[RowT], updates: Sequence[RowT]) -> None:
        """See `TableTransaction.write`."""
        changed = self._changed.setdefault(table.physical_name, {})
        for row in (*inserts, *updates):
            changed[getattr(row, table.key)] = row

    def add_counts(self, table: Table[RowT], deltas: Mapping[CountKey, int]) -> None:
        """See `TableTransaction.add_counts`."""
        for key, n in deltas.items():
            self._deltas[key] = self._deltas.get(key, 0) + n

    def pages(self, table: Table[Any]) -> Iterator[list[Any]]:
        """All rows by key, in pages."""
        changed = dict(self._changed.get(table.physical_name, {}))
        new: list[Any] = sorted(changed)
        key_of = attrgetter(table.key)
        page = self._behind(table, None)()
        while page:
            full, last = len(page) == PAGE, key_of(page[-1])
            following = self._behind(table, last) if full else list
            if new and place_of(new[0]) <= place_of(last):
                at = bisect_right(new, place_of(last), key=place_of)
                merged = {key_of(row): row for row in page} | {
                    key: changed[key] for key in new[:at]
                }
                page, new = [merged[key] for key in sorted(merged, key=place_of)], new[at:]
            yield page
            page = following()
        if new:
            yield [changed[key] for key in new]

    def _behind(self, table: Table[Any], last: Key | None) -> Callable[[], list[Any]]:
        """What gives the page behind a key, or the first."""
        read = partial(self._reader.scan, table, last, PAGE)
        return beside.begin(read).result if self._ahead else read

    def counts(self, table: Table[Any]) -> dict[CountKey, int]:
        """All counts that are not 0."""
        found = self._reader.all_counts(table)
        for key, n in self._deltas.items():
            found[key] = found.get(key, 0) + n
        return {key: n for key, n in found.items() if n}
