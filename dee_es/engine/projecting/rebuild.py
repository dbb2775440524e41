"""A projection built anew beside the one that is served, compared with it, and put in its place.

The log's old part never changes, so it is folded in pages that keep nobody from appending. Only
the last page is folded under the append lock; from then on every append folds both builds. A page's
rows and its position are one transaction, so a rebuild that was killed goes on where it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from dee_es.core.projection import Build
from dee_es.engine.interpreter import seldom_collected
from dee_es.engine.projecting.building import Began, Work, code_of
from dee_es.engine.projecting.comparison import Comparison
from dee_es.engine.projecting.context import Context
from dee_es.engine.projecting.folding import fold
from dee_es.engine.projecting.models import OnRebuild, RebuildEstimate, Rebuilt, Verified
from dee_es.engine.projecting.overlay import Overlay
from dee_es.engine.projecting.pace import Pace
from dee_es.engine.projecting.pages import open_page
from dee_es.engine.projecting.projector import AnyProjection
from dee_es.errors import RebuildRefused
from dee_es.ports import BuildRow, BuildState, TableTransaction

_SAMPLE: Final = 5_000


class Options(Struct, frozen=True):
    """How a rebuild is to go; see `Projections.rebuild`."""

    page: int
    throttle: float
    compare: bool
    accept: bool
    restart: bool


class Rebuilder(Context, frozen=True):
    """Rebuilds and verifies projections."""

    # --- the whole of it --------------------------------------------------------------------------

    @seldom_collected()
    def rebuild(self, wanted: AnyProjection, options: Options, on_progress: OnRebuild) -> Rebuilt:
        """Build the version this code wants, compare it and swap it in."""
        pace = Pace(options.throttle, options.page)
        with self.views.rebuilding(wanted.name):
            served = self._served(wanted)
            old = self.projector.build_of(served)
            if old is None and options.compare:
                raise RebuildRefused(
                    f"the database serves version {served.version} of {wanted.name!r}, which this "
                    "code does not know, so nothing can be compared; give --no-compare to rebuild "
                    "all the same"
                )
            if old is not None and options.compare and not self.views.there(old.tables):
                raise RebuildRefused(
                    f"a table of version {served.version} of {wanted.name!r}, which the database "
                    "serves, is gone, so nothing can be compared; give --no-compare to rebuild all "
                    "the same"
                )
            began = self._begin(wanted, "building", resume=not options.restart)
            work = Work(self, began, pace, on_progress, self.wall.now_ms())
            work.fold()
            comparison = None
            if options.compare and old is not None:
                work.catch_up(wanted)
                comparison = work.compare(old)
                if not comparison.same and not options.accept:
                    raise RebuildRefused(self._why(began.build, served, comparison))
            rows, digest = self._swap(work, served, options, comparison)
            seconds = work.worked_s
            return Rebuilt(
                name=wanted.name,
                version=began.build.version,
                former_version=served.version,
                events=work.events,
                rows=rows,
                seconds=seconds,
                rate=work.rate,
                digest=digest,
                resumed_at=began.row.position,
                comparison=comparison,
            )

    @seldom_collected()
    def verify(
        self, wanted: AnyProjection, page: int, throttle: float, on_progress: OnRebuild
    ) -> Verified:
        """Fold the log anew beside the live table, compare, and drop what was folded."""
        pace = Pace(throttle, page)
        with self.views.rebuilding(wanted.name):
            live, _ = self.projector.readable(wanted, self.views.standing().builds)
            if not self.views.there(live.tables):
                raise self.projector.lost(wanted)
            began = self._begin(live.projection, "checking", resume=False)
            work = Work(self, began, pace, on_progress, self.wall.now_ms())
            try:
                work.fold()
                work.catch_up(wanted)
                comparison = work.compare(live)
            finally:
                self.projector.drop([began.row])
        return Verified(
            name=wanted.name,
            version=live.version,
            ok=comparison.same,
            seconds=work.worked_s,
            comparison=comparison,
        )

    def estimate(self, wanted: AnyProjection) -> RebuildEstimate:
        """What `rebuild` would take, without writing anything."""
        standing = self.views.standing()
        served = self._served(wanted)
        old = self.projector.build_of(served)
        there = old is not None and self.views.there(old.tables)
        rows, size = self.views.size(old.tables) if old is not None and there else (None, None)
        own = [row for row in standing.builds if row.name == wanted.name]
        building = self._resumable(wanted, own)
        begun = 0 if building is None else building.position
        archived = self.store.archived()
        left = standing.head - max(begun, archived)
        folded = served.position - archived
        last = [row for row in self.views.rebuilds() if row.name == wanted.name]
        # What a rebuild of few events took is mostly not their folding.
        enough = max(1, min(_SAMPLE, standing.head))
        last = [row for row in last if row.worked_ms and row.events >= enough]
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
            rows=_grown(rows, standing.head - archived, folded),
            bytes=_grown(size, standing.head - archived, folded),
            rate=rate,
            seconds=left / rate if rate else 0.0,
            measured=bool(last),
            resumes_at=begun,
            served_lag=standing.head - served.position,
        )

    def _sampled(self, build: Build) -> float:
        """Events a second that are folded here and now, without writing them."""
        pace = Pace(1.0, _SAMPLE)
        rows = self.store.read_log(0, _SAMPLE)
        if not rows:
            return 0.0
        page = open_page(self.journal, rows, 0)
        with self.views.snapshot() as reader:
            fold(Overlay(reader, empty=True), build, page.events)
        pace.rest()
        return len(rows) / pace.worked_s

    # --- beginning and ending ---------------------------------------------------------------------

    def _served(self, wanted: AnyProjection) -> BuildRow:
        rows = self.views.standing().builds
        return next(row for row in rows if row.name == wanted.name and row.state == "serving")

    def _resumable(self, wanted: AnyProjection, rows: Sequence[BuildRow]) -> BuildRow | None:
        """A build of this version that the same code began and did not end."""
        code = code_of(wanted)
        begun = {(r.name, r.version, r.number) for r in self.views.rebuilds() if r.code == code}
        found = [row for row in rows if row.state == "building" and row.key in begun]
        return found[-1] if found else None

    def _begin(self, wanted: AnyProjection, state: BuildState, *, resume: bool) -> Began:
        """The build to fold into: one that was broken off, else a new one."""
        rows = [row for row in self.views.standing().builds if row.name == wanted.name]
        row = self._resumable(wanted, rows) if resume else None
        gone = [each for each in rows if each.state in ("checking", "dropping")]
        gone += [each for each in rows if each.state == "building" and state == "building"]
        self.projector.drop([each for each in gone if each != row])
        with self.views.building() as tx:
            if row is None:
                version = wanted.table.version
                used = [each.number for each in rows if each.version == version]
                build = Build(wanted, max(used, default=0) + 1)
                row = BuildRow(*build.key, state, 0, 0, 0)
                tx.create(build.tables, indexes=not self.views.indexes_later)
                tx.save_build(row)
            else:
                build = Build(wanted, row.number)
            return Began(build, row, not self.views.indexes_later, code_of(wanted))

    def _swap(
        self, work: Work, served: BuildRow, options: Options, comparison: Comparison | None
    ) -> tuple[int, str]:
        """Put the new build in the place of the one that serves, in one transaction."""
        work.tell("swapping", 0, 1)
        build = work.build
        digest = comparison.digest_new if comparison is not None else ""
        rows = self.views.size([build.table])[0]

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
            tx.save_rebuild(work.record(work.events, rows, digest, self.wall.now_ms()))

        work.level(flip)
        self.projector.catch_up(build.projection)
        return rows, digest

    def _why(self, build: Build, served: BuildRow, found: Comparison) -> str:
        shown = "".join(f"\n  - {each.told}" for each in found.samples)
        more = found.differences - len(found.samples)
        also = f"\n  and {more:,} more" if more > 0 else ""
        if build.version == served.version:
            return (
                f"{build.name!r} as the log has it differs from what is served, in "
                f"{found.differences:,} place{'' if found.differences == 1 else 's'}:{shown}{also}"
                "\nWhat is served was changed past dee-es, or the fold was without a new version; "
                "give --accept to serve what the log says; the new build is kept, and the same "
                "code goes on from it"
            )
        return (
            f"version {build.version} of {build.name!r} differs from version {served.version}, "
            f"which is served still, in {found.differences:,} place"
            f"{'' if found.differences == 1 else 's'} that its declaration does not "
            f"name:{shown}{also}\nDeclare what is meant to differ, or give --accept; the new "
            "build is kept, and the same code goes on from it"
        )


def _grown(size: int | None, events: int, folded: int) -> int | None:
    """What a size after so many events folded comes to after all of them; None if nobody knows."""
    return None if size is None or folded <= 0 else size * max(events, folded) // folded
