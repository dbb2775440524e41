"""The pages that a rebuild folds, made ready before their turn.

While the database takes in one page, the next is folded as if that had been written; of the one
behind it the entries are opened, and the rows that these change are read; and so is the log behind
that. What is read is not held up by what is written: a page's rows may be as they were before the
last page but one, so that it is folded onto these with what the last two write on top.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

from dee_es.core.projection import Build, Key, Row, Table
from dee_es.engine.log.journal import Journal
from dee_es.engine.projecting.folding import Keyed, Writes, after_page, keyed, writes_of
from dee_es.engine.projecting.pace import Pace
from dee_es.engine.projecting.pages import Opened, Page, numbers_of, open_rows, page_of
from dee_es.errors import TableGone
from dee_es.ports import BuildRow, EventStore, StoredRow, Views, beside

_UNSEEN: Final = 2
"""Pages, the latest, that may have been written after the rows of one ahead were read."""


class Ready(NamedTuple):
    """Entries of the log; where a build's row is as in `onto`, also the page that they make, and
    what folding that writes."""

    onto: BuildRow
    opened: Opened
    page: Page | None = None
    writes: Writes | None = None

    @property
    def after(self) -> BuildRow | None:
        """The build's row when this is written; None if nobody knows that yet."""
        if self.page is None or self.writes is None or self.writes.poisoned:
            return None
        return after_page(self.onto, self.page)


class Upcoming:
    """Reads the log in pages, and folds them ahead of who writes them; one page at a time for who
    spares others."""

    def __init__(
        self, store: EventStore, views: Views, journal: Journal, build: Build, pace: Pace
    ) -> None:
        self._store, self._views, self._journal = store, views, journal
        self._build, self._pace = build, pace
        self._ahead: _Ahead | None = None
        self._latest: deque[Writes] = deque(maxlen=_UNSEEN)
        self._log: tuple[int, beside.Begun[list[StoredRow]]] | None = None

    def first(self, onto: BuildRow) -> Ready:
        """The page behind where the build stands."""
        self._ahead = None
        self._latest.clear()
        rows = self._read(onto.position)
        if self._pace.spares or onto.parked or not rows:
            return Ready(onto, open_rows(self._journal, rows))
        ready = self._fold(onto, self._open(rows))
        self._ahead = self._next(ready.opened)
        return ready

    def behind(self, ready: Ready) -> Ready | None:
        """The page behind one that is being written; None if nobody knows what that will leave."""
        ahead, onto = self._ahead, ready.after
        if ahead is None or onto is None or ready.writes is None:
            return None
        self._latest.append(ready.writes)
        self._ahead = self._next(ahead.opened)
        return self._fold(onto, ahead)

    def _next(self, opened: Opened) -> _Ahead | None:
        rows = self._read(opened.positions[-1])
        return self._open(rows) if rows else None

    def _read(self, after: int) -> list[StoredRow]:
        """The log behind a position; what comes behind that is begun to be read."""
        begun, self._log = self._log, None
        if begun is not None and begun[0] == after:
            rows = begun[1].result()
        else:
            rows = self._store.read_log(after, self._pace.page)
        if rows and not self._pace.spares:
            last = rows[-1].position
            read = partial(self._store.read_log, last, self._pace.page)
            self._log = (last, beside.begin(read, apart=True))
        return rows

    def _open(self, rows: Sequence[StoredRow]) -> _Ahead:
        """Entries down to their events; what these change is begun to be read."""
        opened = open_rows(self._journal, rows)
        by_key = keyed(self._build, opened.events)

        def held() -> _Held:
            with self._views.snapshot() as reader:
                known = reader.rows(self._build.table, by_key.known)
                return _Held(known, numbers_of(opened, reader))

        return _Ahead(opened, by_key, beside.begin(held, apart=True))

    def _fold(self, onto: BuildRow, ahead: _Ahead) -> Ready:
        """A page folded onto the build as it will be when the latest pages are written."""
        try:
            held = ahead.held.result()
        except TableGone:
            # Whoever writes into it finds out that it was dropped.
            return Ready(onto, ahead.opened)
        known = dict(held.known)
        for written in self._latest:
            known.update(written.rows)
        held = held._replace(known=known)
        page = page_of(ahead.opened, onto.ordinal, held.numbers)
        writes = writes_of(held, self._build, page.events, page.unreadable, ahead.by_key)
        return Ready(onto, ahead.opened, page, writes)


class _Held(NamedTuple):
    """What a build held when it was read: rows that are going to be changed, and the numbers of
    runs, where counting would not tell them."""

    known: Mapping[Key, Row]
    numbers: Mapping[str, int] | None

    def rows(self, table: Table[Any], keys: Sequence[Key]) -> dict[Key, Any]:
        """See `HeldRows`."""
        del table
        known = self.known
        return {key: known[key] for key in keys if key in known}


class _Ahead(NamedTuple):
    """Entries that come up, the rows that they change, and what is being read of these."""

    opened: Opened
    by_key: Keyed
    held: beside.Begun[_Held]
