"""How every projection stands: what is served, how far it is, and what somebody should do."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from dee_es.core.projection import Build
from dee_es.core.views import RunFilter, RunRow
from dee_es.engine.projecting.context import Context
from dee_es.engine.projecting.models import (
    LastRebuild,
    OtherBuild,
    ParkedStream,
    ProjectionStatus,
)
from dee_es.engine.projecting.projector import AnyProjection
from dee_es.errors import DeeError, ProjectionUnavailable
from dee_es.ports import BuildRow, RebuildRow

_MS = 1000


class Status(Context, frozen=True):
    """Looks at the projections; catches nothing up, so that lag can be seen."""

    def all(self, count: bool = False) -> tuple[ProjectionStatus, ...]:
        """Every projection of this code, in its order; rows and bytes counted if that is wanted."""
        standing = self.views.standing()
        rebuilds = {(row.name, row.version, row.number): row for row in self.views.rebuilds()}
        runs = None if count else self._runs(standing.builds)
        found = []
        for wanted in self.projector.projections:
            own = [row for row in standing.builds if row.name == wanted.name]
            serving = next(row for row in own if row.state == "serving")
            read = self.reads(wanted, own)
            shown = read or serving
            build = self.projector.build_of(shown)
            there = build is None or self.views.there(build.tables)
            lag = standing.head - shown.position
            rows, exact, size = self._size(build if there else None, shown, runs)
            found.append(
                ProjectionStatus(
                    name=wanted.name,
                    version=serving.version,
                    wanted=wanted.table.version,
                    read=None if read is None else read.version,
                    position=shown.position,
                    lag_events=lag,
                    lag_seconds=self._lag_seconds(shown.position) if lag else 0.0,
                    rows=rows,
                    rows_exact=exact,
                    bytes=size,
                    parked=serving.parked,
                    last_rebuild=_last(rebuilds.get(serving.key)),
                    others=tuple(
                        OtherBuild(
                            version=row.version,
                            number=row.number,
                            state=row.state,
                            position=row.position,
                        )
                        for row in own
                        if row.state != "serving"
                    ),
                    advice=self.advice(wanted, own) if there else str(self.projector.lost(wanted)),
                )
            )
        return tuple(found)

    def _runs(self, rows: Sequence[BuildRow]) -> tuple[int, BuildRow] | None:
        """How many runs the list has, by its own counts, and how it stands; None if this code
        cannot read it."""
        for wanted in self.projector.projections:
            if issubclass(wanted.table.row_type, RunRow):
                row = self.reads(wanted, [row for row in rows if row.name == wanted.name])
                build = None if row is None else self.projector.build_of(row)
                if row is not None and build is not None and self.views.there(build.tables):
                    return self.views.list_runs(build.table, RunFilter(), limit=1).total, row
        return None

    def _size(
        self, build: Build | None, shown: BuildRow, runs: tuple[int, BuildRow] | None
    ) -> tuple[int, bool, int | None]:
        """Rows of the first table, whether exactly, and bytes."""
        if build is None:
            return 0, True, None
        if runs is None or build.table.key != "run_id":
            rows, size = self.views.size(build.tables)
            return rows, True, size
        total, listed = runs
        # A row is a run whose first event was folded: there cannot be more of them than events.
        alike = shown.position == listed.position and not (shown.parked or listed.parked)
        exact = alike or shown.position == 0 or shown.key == listed.key
        return min(total, shown.position), exact, self.views.bytes_at_hand(build.tables)

    def reads(self, wanted: AnyProjection, rows: Sequence[BuildRow]) -> BuildRow | None:
        """The build that this code reads; None if it can read none that is there."""
        try:
            return self.projector.readable(wanted, rows)[1]
        except ProjectionUnavailable:
            return None

    def advice(self, wanted: AnyProjection, rows: Sequence[BuildRow]) -> str | None:
        """What somebody should do about a projection; None if all is well."""
        own = [row for row in rows if row.name == wanted.name]
        serving = next(row for row in own if row.state == "serving")
        name, version = wanted.name, wanted.table.version
        if serving.parked:
            return (
                f"{serving.parked:,} stream{'' if serving.parked == 1 else 's'} parked: mend the "
                f"fold, then run `dee projections retry {name}`"
            )
        try:
            self.projector.readable(wanted, own)
        except ProjectionUnavailable as error:
            return str(error)
        if serving.version < version:
            under_way = any(r.state == "building" and r.version == version for r in own)
            begun = "go on with" if under_way else "run"
            return (
                f"version {serving.version} is served and this code wants {version}: {begun} "
                f"`dee projections rebuild {name}`"
            )
        if serving.version > version:
            return (
                f"version {serving.version} is served and this code reads {version}: upgrade "
                "dee-es before that is dropped"
            )
        half = [row.version for row in own if row.state == "dropping"]
        if half:
            return f"version {half[0]} is dropped by half: run `dee projections drop {name}` again"
        return None

    def _lag_seconds(self, position: int) -> float:
        rows = self.store.read_log(position, 1)
        if not rows:
            return 0.0
        try:
            (event,) = self.journal.open_public(rows)
        except DeeError:
            # Unreadable, so of no known age; whoever folds it says what is wrong with it.
            return 0.0
        return max(0.0, (self.wall.now_ms() - event.meta.recorded_at) / _MS)

    def parked(self, name: str | None = None) -> tuple[ParkedStream, ...]:
        """Streams that the builds that serve have set aside, in log order."""
        rows = self.views.parked(name)
        serving = {row.key for row in self.views.standing().builds if row.state == "serving"}
        rows = [row for row in rows if (row.name, row.version, row.number) in serving]
        heads = self.store.heads(sorted({row.stream_id for row in rows}))
        return tuple(
            ParkedStream(
                name=row.name,
                version=row.version,
                stream_id=row.stream_id,
                position=row.position,
                entry=row.entry,
                event=row.event,
                error=row.error,
                since=_time(row.parked_ms),
                held_back=heads[row.stream_id].version - row.entry + 1,
            )
            for row in sorted(rows, key=lambda row: (row.name, row.position))
        )


def _last(row: RebuildRow | None) -> LastRebuild | None:
    if row is None:
        return None
    seconds = row.worked_ms / _MS
    return LastRebuild(
        started=_time(row.started_ms),
        finished=None if row.finished_ms is None else _time(row.finished_ms),
        seconds=seconds,
        events=row.events,
        rate=row.events / seconds if seconds else 0.0,
        digest=row.digest,
    )


def _time(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / _MS, UTC)
