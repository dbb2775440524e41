"""A projection built anew beside the one that is served, compared with it, and put in its place.

The log's old part never changes, so it is folded in pages that keep nobody from appending. Only
the last page is folded under the append lock; from then on every append folds both builds. A page's
rows and its position are one transaction, so a rebuild that was killed goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from dee_es.core.projection import Build
from dee_es.engine.journal import Journal
from dee_es.engine.projecting.comparison import Comparison, Difference, Overlay, compare
from dee_es.engine.projecting.folding import Page, advance, fold, open_page
from dee_es.engine.projecting.models import (
    OnRebuild,
    Phase,
    RebuildEstimate,
    RebuildProgress,
    Rebuilt,
    Verified,
)
from dee_es.engine.projecting.pace import Pace
from dee_es.engine.projecting.projector import AnyProjection, Projector
from dee_es.errors import RebuildRefused
from dee_es.ports import (
    BuildKey,
    BuildRow,
    BuildState,
    EventStore,
    RebuildRow,
    StoredRow,
    TableTransaction,
    Views,
    WallClock,
)

_SAMPLE: Final = 5_000
_LAST_PAGE: Final = 1_000
"""Events that may always be folded under the append lock at the end: that is soon done."""
_ROUNDS: Final = 3
_NOTED_S: Final = 0.5
"""How often the database is told how long a rebuild has worked, in seconds of work."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a rebuild is to go; see `Projections.rebuild`."""

    page: int
    throttle: float
    compare: bool
    accept: bool
    restart: bool


class Rebuilder:
    """Rebuilds and verifies projections."""

    def __init__(
        self,
        store: EventStore,
        views: Views,
        journal: Journal,
        projector: Projector,
        wall: WallClock,
    ) -> None:
        self._store = store
        self._views = views
        self._journal = journal
        self._projector = projector
        self._wall = wall

    # --- the whole of it --------------------------------------------------------------------------

    def rebuild(self, wanted: AnyProjection, options: Options, on_progress: OnRebuild) -> Rebuilt:
        """Build the version this code wants, compare it and swap it in."""
        pace = Pace(options.throttle, options.page)
        with self._views.rebuilding(wanted.name):
            served = self._served(wanted)
            old = self._projector.build_of(served)
            if old is None and options.compare:
                raise RebuildRefused(
                    f"the database serves version {served.version} of {wanted.name!r}, which this "
                    "code does not know, so nothing can be compared; give --no-compare to rebuild "
                    "all the same"
                )
            began = self._begin(wanted, "building", resume=not options.restart)
            work = _Work(self, began, pace, on_progress, self._wall.now_ms())
            work.fold()
            comparison = None
            if options.compare and old is not None:
                self._projector.catch_up(wanted)
                comparison = work.compare(old)
                if not comparison.same and not options.accept:
                    raise RebuildRefused(self._why(began.build, served, comparison))
            rows, digest = self._swap(work, served, options, comparison)
            seconds = work.worked_s
            return Rebuilt(
                name=wanted.name,
                version=began.build.version,
                former_version=served.version,
                events=work.position,
                rows=rows,
                seconds=seconds,
                rate=work.rate,
                digest=digest,
                resumed_at=began.row.position,
                comparison=comparison,
            )

    def verify(
        self, wanted: AnyProjection, page: int, throttle: float, on_progress: OnRebuild
    ) -> Verified:
        """Fold the log anew beside the live table, compare, and drop what was folded."""
        pace = Pace(throttle, page)
        with self._views.rebuilding(wanted.name):
            live = self._projector.catch_up(wanted)
            began = self._begin(live.projection, "checking", resume=False)
            work = _Work(self, began, pace, on_progress, self._wall.now_ms())
            try:
                work.fold()
                self._projector.catch_up(wanted)
                comparison = work.compare(live)
            finally:
                self._projector.drop([began.row])
        return Verified(
            name=wanted.name,
            version=live.version,
            ok=comparison.same,
            seconds=work.worked_s,
            comparison=comparison,
        )

    def estimate(self, wanted: AnyProjection) -> RebuildEstimate:
        """What `rebuild` would take, without writing anything."""
        standing = self._views.standing()
        served = self._served(wanted)
        old = self._projector.build_of(served)
        rows, size = (0, None) if old is None else self._views.size(old.tables)
        own = [row for row in standing.builds if row.name == wanted.name]
        building = self._resumable(wanted, own)
        left = standing.head - (0 if building is None else building.position)
        last = [row for row in self._views.rebuilds() if row.name == wanted.name and row.worked_ms]
        if last:
            best = max(last, key=lambda row: row.started_ms)
            rate = best.events * 1000 / best.worked_ms
        else:
            rate = self._sampled(Build(wanted))
        return RebuildEstimate(
            name=wanted.name,
            version=wanted.table.version,
            served_version=served.version,
            events=left,
            rows=rows,
            bytes=size,
            rate=rate,
            seconds=left / rate if rate else 0.0,
            measured=bool(last),
            resumes_at=0 if building is None else building.position,
        )

    def _sampled(self, build: Build) -> float:
        """Events a second that are folded here and now, without writing them."""
        pace = Pace(1.0, _SAMPLE)
        rows = self._store.read_log(0, _SAMPLE)
        if not rows:
            return 0.0
        page = open_page(self._journal, rows, 0)
        with self._views.snapshot() as reader:
            fold(Overlay(reader, empty=True), build, page.events)
        pace.rest()
        return len(rows) / pace.worked_s

    # --- beginning and ending ---------------------------------------------------------------------

    def _served(self, wanted: AnyProjection) -> BuildRow:
        rows = self._views.standing().builds
        return next(row for row in rows if row.name == wanted.name and row.state == "serving")

    def _resumable(self, wanted: AnyProjection, rows: Sequence[BuildRow]) -> BuildRow | None:
        """A build of this version that somebody began and did not end."""
        version = wanted.table.version
        found = [row for row in rows if row.state == "building" and row.version == version]
        return found[-1] if found else None

    def _begin(self, wanted: AnyProjection, state: BuildState, *, resume: bool) -> _Began:
        """The build to fold into: one that was broken off, else a new one."""
        rows = [row for row in self._views.standing().builds if row.name == wanted.name]
        row = self._resumable(wanted, rows) if resume else None
        gone = [each for each in rows if each.state in ("checking", "dropping")]
        gone += [each for each in rows if each.state == "building" and state == "building"]
        self._projector.drop([each for each in gone if each != row])
        with self._views.building() as tx:
            if row is None:
                version = wanted.table.version
                used = [each.number for each in rows if each.version == version]
                build = Build(wanted, max(used, default=0) + 1)
                row = BuildRow(*build.key, state, 0, 0, 0)
                tx.create(build.tables, indexes=not self._views.indexes_later)
                tx.save_build(row)
            else:
                build = Build(wanted, row.number)
            return _Began(build, row, not self._views.indexes_later)

    def _swap(
        self, work: _Work, served: BuildRow, options: Options, comparison: Comparison | None
    ) -> tuple[int, str]:
        """Put the new build in the place of the one that serves, in one transaction."""
        work.tell("swapping", 0, 1)
        build = work.build
        digest = comparison.digest_new if comparison is not None else ""
        rows = self._views.size([build.table])[0]

        def flip(tx: TableTransaction, row: BuildRow) -> None:
            now = next(each for each in tx.builds(build.name) if each.state == "serving")
            if now.key != served.key:
                raise RebuildRefused(
                    f"another build of {build.name!r} was swapped in meanwhile; start again"
                )
            if row.parked:
                raise RebuildRefused(
                    f"{row.parked:,} streams of {build.name!r} were parked by appends meanwhile; "
                    "see `dee projections status`, mend the fold and give --restart"
                )
            tx.save_build(replace(now, state="kept"))
            tx.save_build(replace(row, state="serving"))
            tx.save_rebuild(work.record(row.position, rows, digest, self._wall.now_ms()))

        work.level(flip)
        self._projector.catch_up(build.projection)
        return rows, digest

    def _why(self, build: Build, served: BuildRow, found: Comparison) -> str:
        shown = "".join(f"\n  - {describe(each)}" for each in found.samples)
        more = found.differences - len(found.samples)
        also = f"\n  and {more:,} more" if more > 0 else ""
        return (
            f"version {build.version} of {build.name!r} differs from version {served.version}, "
            f"which is served still, in {found.differences:,} place"
            f"{'' if found.differences == 1 else 's'} that its declaration does not "
            f"name:{shown}{also}\nDeclare what is meant to differ, or give --accept; the new "
            "build is kept, so that the next rebuild goes on from it (--restart begins anew)"
        )


@dataclass(frozen=True, slots=True)
class _Began:
    build: Build
    row: BuildRow
    indexed: bool


class _Work:
    """One rebuild under way."""

    def __init__(
        self,
        parent: Rebuilder,
        began: _Began,
        pace: Pace,
        on_progress: OnRebuild,
        started_ms: int,
    ) -> None:
        self._store, self._views = parent._store, parent._views
        self._journal, self._wall = parent._journal, parent._wall
        self.build = began.build
        self.position = began.row.position
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
    def worked_s(self) -> float:
        """Seconds of work, those before an interruption included."""
        return self._before_ms / 1000 + self._pace.worked_s

    @property
    def rate(self) -> float:
        """Events folded a second of work."""
        return self.position / self.worked_s if self.worked_s else 0.0

    def tell(self, phase: Phase, done: int, total: int) -> None:
        """Report progress; rate and time left are those of this phase in this process."""
        spent = self._pace.worked_s - self._since
        rate = (done - self._since_done) / spent if spent else 0.0
        left = (total - done) / rate if rate else None
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
        )

    # --- folding ----------------------------------------------------------------------------------

    def fold(self) -> None:
        """Fold the log up to its end, and stay level with it from then on."""
        self._phase(self.position)
        head = self._fold_pages()
        if not self._indexed:
            self.tell("indexing", 0, 1)
            self._pace.begin()
            with self._views.building() as tx:
                tx.index(self.build.tables)
            self._views.settle(self.build.tables)
            self._pace.rest()
            self._indexed = True
        self.level()
        self.tell("reading", self.position, max(head, self.position))

    def _fold_pages(self) -> int:
        """Fold all but the last page, keeping nobody from appending; returns the log's head.

        The last page is larger than others if the log grows about as fast as it is folded.
        """
        with _ahead(self._store) as reading:
            chase = _Chase()
            while True:
                self._pace.begin()
                rows = reading.rows(self.position, self._pace.page)
                with self._views.building() as tx:
                    row = self._held(tx)
                    head = tx.head()
                    # Strictly below the head: there no append takes this build for level.
                    if head - row.position <= max(self._pace.page, len(rows)):
                        return head
                    if chase.is_lost(row.position, head):
                        if head - row.position <= _LAST_PAGE:
                            return head
                        raise RebuildRefused(
                            f"the log grows faster than {self.build.name!r} can be folded; raise "
                            "--throttle or --page, or try again when less is written; it goes on "
                            "where it is"
                        )
                    assert rows[0].position == row.position + 1, "only this rebuild moves it here"
                    page = open_page(self._journal, rows, row.ordinal)
                    # While this page is folded, the database gets the next one ready.
                    reading.prefetch(page.position, self._pace.page)
                    self._advance(tx, row, page)
                self._pace.rest()
                self.tell("reading", self.position, head)

    def level(self, then: Callable[[TableTransaction, BuildRow], None] | None = None) -> None:
        """Fold the last page under the append lock, and do something in that very transaction."""
        while True:
            with self._views.transaction() as tx:
                row = self._held(tx)
                if tx.head() - row.position <= max(self._pace.page, _LAST_PAGE):
                    self._pace.begin()
                    while rows := tx.read_log(row.position, _LAST_PAGE):
                        row = self._advance(tx, row, open_page(self._journal, rows, row.ordinal))
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

    def _advance(self, tx: TableTransaction, row: BuildRow, page: Page) -> BuildRow:
        # To become what is read, it must be whole; to be compared, it may lack what the other does.
        checking = row.state == "checking"
        after = advance(tx, self.build, row, page, self._wall.now_ms() if checking else None)
        if not checking and self._pace.worked_s >= self._noted + _NOTED_S:
            self._noted = self._pace.worked_s
            tx.save_rebuild(self.record(after.position, 0, "", None))
        self.position = after.position
        return after

    # --- comparing --------------------------------------------------------------------------------

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
            found = compare(reader, self._journal, old, self.build, change, parked, on_rows)
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


class _Ahead:
    """Reads a page of the log while the one before it is folded."""

    def __init__(self, store: EventStore, pool: ThreadPoolExecutor) -> None:
        self._store, self._pool = store, pool
        self._next: tuple[int, Future[list[StoredRow]]] | None = None

    def prefetch(self, after: int, limit: int) -> None:
        """Begin to read the rows behind a position."""
        future = self._pool.submit(self._store.read_log, after, limit)
        self._next = (after, future)

    def rows(self, after: int, limit: int) -> list[StoredRow]:
        """The rows behind a position; no more than there are."""
        ready, self._next = self._next, None
        rows = ready[1].result() if ready is not None and ready[0] == after else []
        return rows or self._store.read_log(after, limit)


@contextmanager
def _ahead(store: EventStore) -> Iterator[_Ahead]:
    with ThreadPoolExecutor(1, "dee-read-ahead") as pool:
        yield _Ahead(store, pool)


def describe(each: Difference) -> str:
    """A difference in one line."""
    if not each.only_new:
        return f"{each.table} {each.key}: only in the old one"
    if not each.only_old:
        return f"{each.table} {each.key}: only in the new one"
    columns = (
        f"{name} {each.only_old[name]!r} became {each.only_new[name]!r}" for name in each.only_new
    )
    return f"{each.table} {each.key}: {', '.join(columns)}"
