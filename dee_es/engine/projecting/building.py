"""Filling one build beside the one that serves, without getting into anybody's way."""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final

from msgspec import Struct

from dee_es.core.projection import Build, Table
from dee_es.engine.projecting.comparison import Comparison, compare
from dee_es.engine.projecting.context import Context
from dee_es.engine.projecting.folding import Writes, advance
from dee_es.engine.projecting.models import OnRebuild, Phase, RebuildProgress
from dee_es.engine.projecting.pace import Pace
from dee_es.engine.projecting.pages import Page, numbers_of, open_page, page_of
from dee_es.engine.projecting.projector import PIECE, AnyProjection
from dee_es.engine.projecting.upcoming import Ready, Upcoming
from dee_es.errors import RebuildRefused
from dee_es.ports import (
    BuildKey,
    BuildRow,
    RebuildRow,
    TableTransaction,
    beside,
)

_LAST_PAGE: Final = 1_000
"""Events that may always be folded under the append lock at the end: that is soon done."""
_ROUNDS: Final = 3
_INDEXERS: Final = 2
"""Indexes made at a time: each is the work of one core of the database's."""
_NOTED_S: Final = 0.5
"""How often the database is told how long a rebuild has worked, in seconds of work."""


class Began(Struct, frozen=True):
    """A build to fold into, its row as it is now, whether it has its indexes, and what tells the
    code that folds into it from any other."""

    build: Build
    row: BuildRow
    indexed: bool
    code: str


class Work:
    """One build being filled: folded up to the end of the log, kept level, compared."""

    def __init__(
        self,
        context: Context,
        began: Began,
        pace: Pace,
        on_progress: OnRebuild,
        started_ms: int,
    ) -> None:
        self._store, self._views = context.store, context.views
        self._journal, self._wall = context.journal, context.wall
        self._projector = context.projector
        self.build = began.build
        self._row = began.row
        # Nothing is archived while a projection is being rebuilt.
        self._archived = context.store.archived()
        self._began, self._pace, self._on_progress = began, pace, on_progress
        self._indexed = began.indexed
        self._started_ms = started_ms
        self._before_ms = 0
        self._noted = -_NOTED_S
        self._since = 0.0
        self._since_done = began.row.position
        for row in self._views.rebuilds():
            if (row.name, row.version, row.number) == self.build.key and began.row.position:
                self._started_ms, self._before_ms = row.started_ms, row.worked_ms

    @property
    def position(self) -> int:
        """The last position of the log that is folded."""
        return self._row.position

    @property
    def worked_s(self) -> float:
        """Seconds of work, those before an interruption included."""
        return self._before_ms / 1000 + self._pace.worked_s

    @property
    def events(self) -> int:
        """Events folded, once all are: what was archived has left nothing to fold."""
        return self.position - self._archived

    @property
    def rate(self) -> float:
        """Events folded a second of work, once all are."""
        return self.events / self.worked_s if self.worked_s else 0.0

    def tell(self, phase: Phase, done: int, total: int) -> None:
        """Report progress; rate and time left are those of this phase in this process."""
        spent = self._pace.worked_s - self._since
        rate = (done - self._since_done) / spent if spent else 0.0
        left = (total - done) / rate / self._pace.share if rate else None
        self._on_progress(
            RebuildProgress(self.build.name, self.build.version, phase, done, total, rate, left)
        )

    def _phase(self, done: int) -> None:
        self._since, self._since_done = self._pace.worked_s, done

    def record(self, position: int, rows: int, digest: str, finished_ms: int | None) -> RebuildRow:
        """What the database remembers of this rebuild."""
        return RebuildRow(
            *self.build.key,
            self._started_ms,
            finished_ms,
            round(self.worked_s * 1000),
            position,
            rows,
            digest,
            self._began.code,
        )

    # --- folding ----------------------------------------------------------------------------------

    def fold(self) -> None:
        """Fold the log up to its end, and stay level with it from then on."""
        self._phase(self.position)
        head = self._fold_pages()
        if not self._indexed:
            self._phase(0)
            self._pace.begin()
            self._index()
            self._views.settle(self.build.tables)
            self._pace.rest()
            self._indexed = True
            self._phase(self.position)
        self.level()
        self.tell("reading", self.position, max(head, self.position))

    def _index(self) -> None:
        """Make the indexes that were put off; several at a time, unless others are to be spared."""

        def make(each: tuple[Table[Any], tuple[str, ...]]) -> None:
            with self._views.building() as tx:
                tx.index(*each)

        waiting = [(table, index) for table in self.build.tables for index in table.indexes]
        self.tell("indexing", 0, len(waiting))
        with ThreadPoolExecutor(1 if self._pace.spares else _INDEXERS, "dee-index") as pool:
            for done, _ in enumerate(pool.map(make, waiting), start=1):
                self.tell("indexing", done, len(waiting))

    def _fold_pages(self) -> int:
        """Fold all but the last events, keeping nobody from appending; returns the log's head.

        Those that are left are a page at most, of the smaller kind, unless the log grows about as
        fast as it is folded: they are folded into indexes, and under the append lock.
        """
        chase = _Chase()
        upcoming = Upcoming(self._store, self._views, self._journal, self.build, self._pace)
        ready: Ready | None = None
        try:
            while True:
                self._pace.begin()
                if ready is None or ready.onto != self._row:
                    ready = upcoming.first(self._row)
                # The next page is made ready while the database takes in this one.
                with beside.begin(partial(self._fold_page, ready, chase)) as folding:
                    following = upcoming.behind(ready)
                head, more = folding.result()
                if not more:
                    return head
                ready = following
                self._pace.rest()
                self.tell("reading", self.position, head)
        finally:
            beside.finish()

    def _fold_page(self, ready: Ready, chase: _Chase) -> tuple[int, bool]:
        """Fold entries in a transaction, if they are what comes next; returns the log's head, and
        whether there is more to fold."""
        opened = ready.opened
        with self._views.building() as tx:
            row = self._held(tx)
            head = tx.head()
            if row.position != ready.onto.position:
                # Appends have folded into it since, as long as it was level.
                self._row = row
                return head, True
            most = min(max(self._pace.page, len(opened.positions)), _LAST_PAGE)
            if head - row.position <= most:
                return head, False
            if not opened.positions:
                # They have come since.
                self._row = row
                return head, True
            if chase.is_lost(row.position, head):
                if head - row.position <= _LAST_PAGE:
                    return head, False
                kept = "" if row.state == "checking" else "; it goes on where it is"
                raise RebuildRefused(
                    f"the log grows faster than {self.build.name!r} can be folded; raise "
                    f"--throttle or --page, or try again when less is written{kept}"
                )
            page, writes = ready.page, ready.writes
            if len(opened.positions) > 1 and opened.positions[-1] == head:
                # Strictly below the head: there no append takes this build for level.
                opened, page = opened.without_last(), None
            if page is None or ready.onto != row:
                page, writes = page_of(opened, row.ordinal, numbers_of(opened, tx)), None
            self._advance(tx, row, page, writes)
        return head, True

    def level(self, then: Callable[[TableTransaction, BuildRow], None] | None = None) -> None:
        """Fold the last page under the append lock, and do something in that very transaction."""
        while True:
            with self._views.transaction() as tx:
                row = self._held(tx)
                if tx.head() - row.position <= max(self._pace.page, _LAST_PAGE):
                    self._pace.begin()
                    while rows := tx.read_log(row.position, _LAST_PAGE):
                        row = self._advance(
                            tx, row, open_page(self._journal, rows, row.ordinal, tx)
                        )
                    # Appends may have folded into it, too.
                    self._row = row
                    if then is not None:
                        then(tx, row)
                    break
            self._fold_pages()
        self._pace.rest()

    def _held(self, tx: TableTransaction) -> BuildRow:
        row = tx.held(self.build.key)
        if row is None:
            raise RebuildRefused(f"the new build of {self.build.name!r} was dropped meanwhile")
        return row

    def _advance(
        self, tx: TableTransaction, row: BuildRow, page: Page, ahead: Writes | None = None
    ) -> BuildRow:
        # To become what is read, it must be whole; to be compared, it may lack what the other does.
        checking = row.state == "checking"
        parked_ms = self._wall.now_ms() if checking else None
        after = advance(tx, self.build, row, page, parked_ms, ahead)
        if not checking and self._pace.worked_s >= self._noted + _NOTED_S:
            self._noted = self._pace.worked_s
            tx.save_rebuild(self.record(after.position, 0, "", None))
        self._row = after
        return after

    # --- comparing --------------------------------------------------------------------------------

    def catch_up(self, wanted: AnyProjection) -> None:
        """Fold what the build that serves lacks: much, if nobody has read it for long."""
        standing = self._views.standing()
        _, row = self._projector.readable(wanted, standing.builds)
        # It is no part of what the new build takes.
        own, page = self._pace, min(self._pace.page, PIECE)
        self._pace = self._projector.between_writers(own.share, page)
        self._phase(row.position)
        more = True
        while more and row.position < standing.head:
            self._pace.begin()
            _, row, more = self._projector.fold_page(wanted, page)
            self._pace.rest()
            self.tell("catching up", row.position, max(standing.head, row.position))
        self._pace = own

    def compare(self, old: Build) -> Comparison:
        """Compare with the build that serves, in one snapshot."""
        self._phase(0)
        total = self._views.size([old.table])[0]
        if old.lines is not None:
            total += self._views.size([old.lines])[0]
        self._pace.begin()

        def on_rows(rows: int) -> None:
            self._pace.rest()
            self.tell("comparing", rows, max(rows, total))

        def parked(key: BuildKey) -> list[str]:
            rows = self._views.parked(self.build.name)
            return [row.stream_id for row in rows if (row.name, row.version, row.number) == key]

        follows = old.version + 1 == self.build.version
        change = self.build.projection.change if follows else None
        with self._views.snapshot() as reader:
            try:
                found = compare(
                    reader,
                    self._journal,
                    old,
                    self.build,
                    change,
                    parked,
                    on_rows,
                    ahead=not self._pace.spares,
                )
            finally:
                beside.finish()
        self._pace.rest()
        return found


class _Chase:
    """Whether folding gains on the log: each round goes as far as the log went when it began."""

    def __init__(self) -> None:
        self._target = 0
        self._behind = 0
        self._vain = 0

    def is_lost(self, position: int, head: int) -> bool:
        """Whether round after round ended no nearer to the log's end than it began."""
        if position < self._target:
            return False
        behind = head - position
        self._vain = self._vain + 1 if self._target and behind >= self._behind else 0
        self._target, self._behind = head, behind
        return self._vain >= _ROUNDS


def code_of(projection: AnyProjection) -> str:
    """A digest of the source that folds, so that no other code goes on with what it began."""
    classes = (type(projection), projection.table.row_type)
    modules = dict.fromkeys(sys.modules[each.__module__] for each in classes)
    source = "".join(inspect.getsource(module) for module in modules)
    return hashlib.sha256(source.encode()).hexdigest()
