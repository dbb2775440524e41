"""The calls for those who look after projections: `engine.projections`."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Final

from dee_es.core.ids import contact_stream
from dee_es.core.values import check_count, check_flag, check_id, is_number
from dee_es.engine.projecting.context import Context
from dee_es.engine.projecting.keeping import Keeper, OnTrouble
from dee_es.engine.projecting.models import (
    CaughtUp,
    OnRebuild,
    ParkedStream,
    ProjectionStatus,
    RebuildEstimate,
    RebuildProgress,
    Rebuilt,
    Refolded,
    Verified,
)
from dee_es.engine.projecting.projector import AnyProjection
from dee_es.engine.projecting.rebuild import Options, Rebuilder
from dee_es.engine.projecting.repair import Repairs
from dee_es.engine.projecting.status import Status
from dee_es.errors import DeeError, InvalidInput
from dee_es.ports import BuildRow

PAGE: Final = 4_000
MOST_PAGE: Final = 100_000


class Projections:
    """Rebuilds, verifies and repairs projections while everybody else goes on working."""

    def __init__(self, context: Context) -> None:
        self._store, self._views = context.store, context.views
        self._projector = context.projector
        parts = (context.store, context.views, context.journal, context.projector, context.wall)
        self._rebuilder = Rebuilder(*parts)
        self._repairs = Repairs(*parts)
        self._status = Status(*parts)
        self._keeper = Keeper(*parts)

    @property
    def names(self) -> tuple[str, ...]:
        """The projections there are."""
        return self._projector.names

    # --- looking ----------------------------------------------------------------------------------

    def status(self, count: bool = False) -> tuple[ProjectionStatus, ...]:
        """How every projection stands. Nothing is caught up for it, so that lag can be seen.

        With `count` the rows of each table are counted, and bytes too where that takes reading all
        of them; without it, rows are what the number of runs tells.
        """
        return self._status.all(check_flag("count", count))

    def parked(self, name: str | None = None) -> tuple[ParkedStream, ...]:
        """The streams that could not be folded, with the event and the error of each."""
        if name is not None:
            self._named(name)
        return self._status.parked(name)

    def advice(self) -> dict[str, str]:
        """What somebody should do about a projection, by its name; empty if all is well."""
        rows = self._views.standing().builds
        told = {each.name: self._status.advice(each, rows) for each in self._projector.projections}
        return {name: text for name, text in told.items() if text is not None}

    def lag(self) -> dict[str, int]:
        """How many events each projection has yet to fold, by its name."""
        standing = self._views.standing()
        lags = {}
        for each in self._projector.projections:
            row = self._status.reads(each, standing.builds)
            lags[each.name] = standing.head - (0 if row is None else row.position)
        return lags

    def verify(
        self,
        name: str,
        *,
        page: int = PAGE,
        throttle: float = 1.0,
        on_progress: OnRebuild | None = None,
    ) -> Verified:
        """Fold the whole log anew beside the live tables and compare; nothing live changes.

        Takes the room and the time of a rebuild. Raises `InvalidInput` for a name there is not,
        and `ConcurrencyConflict` while the projection is being rebuilt.
        """
        check_count("page", page, MOST_PAGE)
        return self._rebuilder.verify(self._named(name), page, throttle, on_progress or _silent)

    # --- catching up ------------------------------------------------------------------------------

    def catch_up(self, name: str, *, within_s: float | None = None) -> CaughtUp:
        """Fold what a projection has not seen yet, for about `within_s` seconds at most.

        Whoever reads a projection waits until it is level; this is for those who would rather say
        how far it is. Raises `InvalidInput` for a name there is not, `ProjectionUnavailable` and
        `UnknownEventVersion` if this code cannot fold it.
        """
        if within_s is not None and (not is_number(within_s) or not within_s >= 0):
            raise InvalidInput("within_s", "must be 0 seconds or more")
        return self._keeper.catch_up(self._named(name), within_s)

    def keep_level(
        self,
        stop: threading.Event,
        *,
        throttle: float = 0.25,
        every_s: float = 1.0,
        on_trouble: OnTrouble | None = None,
    ) -> None:
        """Keep all projections level with the log, at a modest pace, until `stop` is set.

        `throttle` is the share of the time to work, 0.001 to 1; once all are level, they are looked
        at every `every_s` seconds. What goes wrong is told to `on_trouble` with the name of the
        projection, once until it goes well again, and tried again: this goes on. Raises
        `InvalidInput` for a share or a time that is none.
        """
        self._keeper.keep_level(stop, throttle, every_s, on_trouble or _untroubled)

    # --- rebuilding -------------------------------------------------------------------------------

    def rebuild(
        self,
        name: str,
        *,
        page: int = PAGE,
        throttle: float = 1.0,
        compare: bool = True,
        accept: bool = False,
        restart: bool = False,
        on_progress: OnRebuild | None = None,
    ) -> Rebuilt:
        """Build the version of a projection that this code wants, and put it in place.

        Readers see the old version, whole, until one transaction puts the new one in its place;
        writers are held up for one page at most. A rebuild that was broken off goes on where it
        was, unless `restart`. `page` counts events; `throttle` is the share of the time to work,
        0.001 to 1. The new build is compared with the one that serves: what differs without being
        declared stops it, unless `accept`; `compare=False` leaves the comparison out.

        Raises `RebuildRefused` if it stopped before the swap, `ProjectionStuck` naming an event
        that cannot be folded, `ConcurrencyConflict` while another one is under way, `InvalidInput`
        for a name there is not.
        """
        check_count("page", page, MOST_PAGE)
        for field, value in (("compare", compare), ("accept", accept), ("restart", restart)):
            check_flag(field, value)
        options = Options(page, throttle, compare, accept, restart)
        return self._rebuilder.rebuild(self._named(name), options, on_progress or _silent)

    def estimate(self, name: str) -> RebuildEstimate:
        """What a rebuild would take; nothing is written."""
        return self._rebuilder.estimate(self._named(name))

    def drop(self, name: str, version: int | None = None) -> tuple[str, ...]:
        """Drop what does not serve: former builds, and rebuilds that were broken off.

        `version` narrows it to builds of that version. Returns the names of the tables that are
        gone. Raises `InvalidInput` if there is nothing to drop, or this code reads a former version
        that would be dropped, and `ConcurrencyConflict` while the projection is being rebuilt.
        """
        wanted = self._named(name)
        if version is not None:
            check_count("version", version)
        with self._views.rebuilding(name):
            own = [row for row in self._views.standing().builds if row.name == name]
            rows = [row for row in own if version in (None, row.version)]
            self._refuse_serving(name, version, rows)
            read = self._status.reads(wanted, own)
            if read is not None and read.state == "kept" and read in rows:
                raise InvalidInput(
                    "version",
                    f"version {read.version} of {name!r} is kept for this code, which cannot read "
                    "the one that serves; drop it with the code that can",
                )
            return self._projector.drop([row for row in rows if row.state != "serving"])

    def _refuse_serving(self, name: str, version: int | None, rows: Sequence[BuildRow]) -> None:
        if all(row.state == "serving" for row in rows):
            which = "what serves" if version is None else f"version {version}"
            why = "it serves" if version is not None and rows else "there is nothing else"
            raise InvalidInput("version", f"{which} of {name!r} cannot be dropped: {why}")

    # --- mending ----------------------------------------------------------------------------------

    def retry(self, name: str, stream_id: str | None = None) -> Refolded:
        """Fold parked streams, or one of them, after the fold was mended."""
        return self._repairs.retry(self._named(name), stream_id)

    def refold(
        self, name: str, *, run_id: str | None = None, contact_id: str | None = None
    ) -> Refolded:
        """Make the rows of one run anew, or those of a contact and all its runs.

        Raises `InvalidInput` unless exactly one of the two is given, and if the log knows nothing
        of it.
        """
        wanted = self._named(name)
        if (run_id is None) == (contact_id is None):
            raise InvalidInput("run_id", "give either a run or a contact")
        if run_id is not None:
            streams = [check_id("run_id", run_id)]
        else:
            streams = self._streams_of(check_id("contact_id", contact_id))
        # A run that was archived still has a head, and no entry to make a row of.
        known = list(self._store.read_first(streams))
        if not known:
            field = "run_id" if run_id is not None else "contact_id"
            raise InvalidInput(field, "the log has nothing of it")
        return self._repairs.refold(wanted, known)

    def _streams_of(self, contact_id: str) -> list[str]:
        """The contact's own stream and its runs', as the contact's history knows them."""
        history = self._named("contact_history")
        rows = self._projector.read(
            history, lambda build: self._views.rows_by(build.table, "contact_id", contact_id)
        )
        return [contact_stream(contact_id), *(row.run_id for row in rows)]

    def _named(self, name: str) -> AnyProjection:
        for each in self._projector.projections:
            if each.name == name:
                return each
        known = ", ".join(self._projector.names)
        raise InvalidInput("name", f"there is no projection {str(name)[:64]!r}; there are {known}")


def _untroubled(_: str, __: DeeError) -> None:
    """Nobody wants to hear of it."""


def _silent(_: RebuildProgress) -> None:
    """Nobody wants to hear of it."""
