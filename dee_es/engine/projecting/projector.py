"""Keeps projection tables in step with the log: with each append, and by catching up.

A table that is behind is caught up before it is read, so that a query reflects every event
committed before it began; folding with the append only saves that work.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final, TypeVar

import msgspec

from dee_es.core.events import RecordedEvent
from dee_es.core.projection import Build, Projection, Table, former_of
from dee_es.engine.interpreter import seldom_collected
from dee_es.engine.log.journal import Journal
from dee_es.engine.projecting.folding import advance
from dee_es.engine.projecting.pace import Pace
from dee_es.engine.projecting.pages import Page, open_page
from dee_es.errors import ProjectionUnavailable, TableGone, UnknownEventVersion
from dee_es.ports import BuildKey, BuildRow, TableTransaction, Views, WallClock

PAGE: Final = 2000
PIECE: Final = 500
"""Events folded at once: some tens of ms, for which writers, and at times readers in this process,
have to wait. A few events at a time would be mostly commits."""
_HALF: Final = 0.5
ATTEMPTS: Final = 5
"""How often a read looks again for the table that serves, when the one it knew is gone."""
AnyProjection = Projection[Any]
AnswerT = TypeVar("AnswerT")
FOLDED_ALONG: Final = ("serving", "building")
"""States in which a build that is level with the log is folded with each append."""


class Projector:
    """Knows the versions that this code can fold, and which of them the database serves."""

    def __init__(
        self,
        views: Views,
        journal: Journal,
        inline: Sequence[AnyProjection],
        lazy: Sequence[AnyProjection],
        wall: WallClock,
    ) -> None:
        self._views = views
        self._journal = journal
        self._wall = wall
        self._inline = frozenset(each.name for each in inline)
        self.projections: tuple[AnyProjection, ...] = (*inline, *lazy)
        self._known: dict[tuple[str, int], AnyProjection] = {}
        for wanted in self.projections:
            version: AnyProjection | None = wanted
            while version is not None:
                self._known[version.name, version.table.version] = version
                version = former_of(version)
        self._builds: dict[BuildKey, Build] = {}
        self._at_hand: dict[str, Build] = {}
        self._register()
        self._level()

    def _register(self) -> None:
        """Make the tables of projections that the database does not have yet."""
        there = {row.name for row in self._views.standing().builds}
        if all(each.name in there for each in self.projections):
            return
        with self._views.transaction() as tx:
            there = {row.name for row in tx.builds()}
            for each in self.projections:
                if each.name not in there:
                    build = Build(each)
                    tx.create(build.tables)
                    tx.save_build(BuildRow(*build.key, "serving", 0, 0, 0))

    def _level(self) -> None:
        """Bring builds level that are little behind: only then are appends folded into them."""
        standing = self._views.standing()
        for each in self.projections:
            if each.name in self._inline:
                # Whoever reads a projection is told what is wrong with it; opening goes on.
                with suppress(ProjectionUnavailable, UnknownEventVersion):
                    _, row = self.readable(each, standing.builds)
                    if 0 < standing.head - row.position <= PAGE:
                        self.catch_up(each)

    # --- versions ---------------------------------------------------------------------------------

    def build_of(self, row: BuildRow) -> Build | None:
        """The build behind a row; None if this code does not know its version."""
        build = self._builds.get(row.key)
        if build is None:
            projection = self._known.get((row.name, row.version))
            if projection is None:
                return None
            build = self._builds[row.key] = Build(projection, row.number)
        return build

    def tables_of(self, row: BuildRow) -> tuple[Table[Any], ...]:
        """The tables behind a row, to drop them: by name also if this code cannot fold them."""
        build = self.build_of(row)
        if build is None:
            wanted = next(each for each in self.projections if each.name == row.name)
            tables = Build(wanted, row.number).tables
            return tuple(replace(table, version=row.version) for table in tables)
        return build.tables

    def drop(self, rows: Sequence[BuildRow]) -> tuple[str, ...]:
        """Drop builds that serve nobody; returns the names of their tables.

        A build is marked first, so that nobody reads it, and forgotten last: if this is broken off,
        it can be dropped again.
        """
        with self._views.transaction() as tx:
            for row in rows:
                tx.save_build(msgspec.structs.replace(row, state="dropping"))
        gone: list[str] = []
        for row in rows:
            tables = self.tables_of(row)
            self._views.drop(tables)
            with self._views.transaction() as tx:
                tx.remove_build(row.key)
            gone += [table.physical_name for table in tables]
        return tuple(gone)

    def readable(self, wanted: AnyProjection, rows: Sequence[BuildRow]) -> tuple[Build, BuildRow]:
        """What this code reads: the build that serves, or one it knows that has served.

        Raises `ProjectionUnavailable` if it knows neither.
        """
        own = [row for row in rows if row.name == wanted.name]
        kept = [row for row in own if row.state == "kept"]
        serving = [row for row in own if row.state == "serving"]
        for row in (*serving, *sorted(kept, key=lambda row: row.key, reverse=True)):
            build = self.build_of(row)
            if build is not None:
                return build, row
        known = sorted(version for name, version in self._known if name == wanted.name)
        listed = " and ".join(map(str, known))
        served = serving[0].version if serving else 0
        remedy = (
            "upgrade dee-es"
            if served > max(known)
            else f"run `dee projections rebuild {wanted.name} --no-compare`"
        )
        raise ProjectionUnavailable(
            f"the database serves version {served} of projection {wanted.name!r}, and this code "
            f"can read version {listed}; {remedy}"
        )

    # --- folding ----------------------------------------------------------------------------------

    def inline(self, tx: TableTransaction, head: int, events: Sequence[RecordedEvent]) -> None:
        """Fold what is being appended into the builds that must never lag, if they are level.

        A build that is becoming the new version is folded along, so that both stay right.
        """
        page: Page | None = None
        for row in tx.builds():
            if row.position != head or row.name not in self._inline:
                continue
            build = self.build_of(row) if row.state in FOLDED_ALONG else None
            if build is None:
                continue
            if page is None:
                last = max((event.ordinal for event in events), default=0)
                page = Page(events, events[-1].position, max(last, row.ordinal))
            advance(tx, build, row, page, self._wall.now_ms())

    @seldom_collected()
    def catch_up(self, wanted: AnyProjection) -> Build:
        """Fold everything that the build at hand has not seen yet; returns that build.

        Raises `UnknownEventVersion` for an event that newer code has written, and
        `ProjectionUnavailable` if the database serves none that this code can read.
        """
        standing = self._views.standing()
        build, row = self.readable(wanted, standing.builds)
        self._at_hand[wanted.name] = build
        more, pace = True, self.between_writers(1.0, PAGE)
        try:
            while more and row.position < standing.head:
                pace.begin()
                build, row, more = self.fold_page(wanted, PIECE if pace.spares else PAGE)
                if row.position < standing.head:
                    pace.rest()
        except TableGone:
            raise self.lost(wanted) from None
        self._at_hand[wanted.name] = build
        return build

    def between_writers(self, share: float, page: int) -> Pace:
        """The pace at which pages can follow each other, each under the append lock.

        Without a rest in between, who waits for that lock where there is no queue hardly gets it.
        """
        return Pace(share if self._views.queues else min(share, _HALF), page)

    def fold_page(self, wanted: AnyProjection, limit: int) -> tuple[Build, BuildRow, bool]:
        """Fold up to `limit` events that the build at hand has not seen yet, in one transaction.

        Returns that build with its row after it, and whether there were any. Raises as `catch_up`.
        """
        with self._views.transaction() as tx:
            build, row = self.readable(wanted, tx.builds(wanted.name))
            rows = tx.read_log(row.position, limit)
            if not rows:
                return build, row, False
            page = open_page(self._journal, rows, row.ordinal, tx)
            for along in tx.builds(wanted.name):
                other = self.build_of(along) if along.state in FOLDED_ALONG else None
                if other is None or along.position != row.position or along.key == row.key:
                    continue
                # A rebuild may be on its way past this very position.
                held = tx.held(along.key)
                if held is not None and held.position == row.position:
                    advance(tx, other, held, page, self._wall.now_ms())
            return build, advance(tx, build, row, page, self._wall.now_ms()), True

    def at_hand(self, wanted: AnyProjection) -> Build:
        """The build that was last found to serve, without a look at the database."""
        return self._at_hand.get(wanted.name) or self.catch_up(wanted)

    def read(self, wanted: AnyProjection, ask: Callable[[Build], AnswerT]) -> AnswerT:
        """Ask the build that serves, caught up; again if it is dropped at this very moment."""
        for _ in range(ATTEMPTS):
            build = self.catch_up(wanted)
            try:
                return ask(build)
            except TableGone:
                continue
        raise self.lost(wanted)

    def lost(self, wanted: AnyProjection) -> ProjectionUnavailable:
        """What to tell of a projection whose tables somebody has dropped past this code."""
        return ProjectionUnavailable(
            f"a table of projection {wanted.name!r} is gone from the database; make it anew with "
            f"`dee projections rebuild {wanted.name} --no-compare`"
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the projections of this code."""
        return tuple(each.name for each in self.projections)
