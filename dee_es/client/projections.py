"""The group `projections` of a client."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from math import inf
from typing import Any, Final, TypeVar

from dee_es.client.jobs import OnJob, done
from dee_es.client.reading import read, read_all
from dee_es.client.transport import ApiRefused, Transport
from dee_es.core.values import check_count, check_id
from dee_es.engine.projecting.manager import MOST_PAGE, PAGE
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
from dee_es.errors import InvalidInput

_NAME: Final = re.compile(r"[a-z_]{1,64}\Z")
_Answer = TypeVar("_Answer")


class ProjectionsClient:
    """Looks after projections."""

    def __init__(self, transport: Transport) -> None:
        self._http = transport

    # --- looking ----------------------------------------------------------------------------------

    @property
    def names(self) -> tuple[str, ...]:
        """The projections there are."""
        return tuple(each.name for each in self.status())

    def status(self, count: bool = False) -> tuple[ProjectionStatus, ...]:
        """How every projection stands; with `count` rows and bytes are counted."""
        found = self._http.get("/projections", count=count or None)["projections"]
        return tuple(read_all(ProjectionStatus, found))

    def parked(self, name: str | None = None) -> tuple[ParkedStream, ...]:
        """The streams that could not be folded, with the event and the error of each."""
        found = self._http.get("/projections")
        known = [each["name"] for each in found["projections"]]
        if name is not None and name not in known:
            raise _unknown(name, known)
        parked = read_all(ParkedStream, found["parked"])
        return tuple(each for each in parked if name in (None, each.name))

    def advice(self) -> dict[str, str]:
        """What somebody should do about a projection, by its name; empty if all is well."""
        return {each.name: each.advice for each in self.status() if each.advice is not None}

    def lag(self) -> dict[str, int]:
        """How many events each projection has yet to fold, by its name."""
        return {each.name: each.lag_events for each in self.status()}

    def estimate(self, name: str) -> RebuildEstimate:
        """What a rebuild would take; nothing is written."""
        return self._asked(
            name, lambda path: read(RebuildEstimate, self._http.get(f"{path}/estimate"))
        )

    # --- folding ----------------------------------------------------------------------------------

    def catch_up(self, name: str, *, within_s: float | None = None) -> CaughtUp:
        """Fold what a projection has not seen yet, for about `within_s` seconds at most."""
        if within_s is not None and not within_s >= 0:
            raise InvalidInput("within_s", "must be 0 seconds or more")
        # JSON has no infinity, and without a time there is no end to it either.
        given = {"withinS": None if within_s == inf else within_s}
        return read(CaughtUp, self._job(name, "catch-up", given))

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
        """Build a projection anew, and put it in place."""
        given = {
            "page": check_count("page", page, MOST_PAGE),
            "throttle": throttle,
            "compare": compare,
            "accept": accept,
            "restart": restart,
        }
        return read(Rebuilt, self._job(name, "rebuild", given, _telling(on_progress)))

    def verify(
        self,
        name: str,
        *,
        page: int = PAGE,
        throttle: float = 1.0,
        on_progress: OnRebuild | None = None,
    ) -> Verified:
        """Fold the whole log anew beside the live table, and compare."""
        given = {"page": check_count("page", page, MOST_PAGE), "throttle": throttle}
        return read(Verified, self._job(name, "verify", given, _telling(on_progress)))

    def drop(self, name: str, version: int | None = None) -> tuple[str, ...]:
        """Drop former builds, and rebuilds that were broken off; the names of the tables that are
        gone."""
        given = {"version": version}
        found = self._asked(name, lambda path: self._http.post(f"{path}/drop", given))
        return tuple(found["tables"])

    def retry(self, name: str, stream_id: str | None = None) -> Refolded:
        """Fold parked streams, or one of them, after the fold was mended."""
        return read(Refolded, self._job(name, "retry", {"streamId": stream_id}))

    def refold(
        self, name: str, *, run_id: str | None = None, contact_id: str | None = None
    ) -> Refolded:
        """Make the rows of one run anew, or those of a contact and all its runs."""
        given = {
            "runId": None if run_id is None else check_id("run_id", run_id),
            "contactId": None if contact_id is None else check_id("contact_id", contact_id),
        }
        return read(Refolded, self._job(name, "refold", given))

    def _job(
        self, name: str, verb: str, given: Mapping[str, Any], on_job: OnJob | None = None
    ) -> Any:
        return self._asked(
            name, lambda path: done(self._http, f"{path}/{verb}", given, on_job=on_job)["result"]
        )

    def _asked(self, name: str, ask: Callable[[str], _Answer]) -> _Answer:
        """What is answered about a projection; raises `InvalidInput` for one that is not there."""
        if not _NAME.match(str(name)):
            raise _unknown(name, self.names)
        try:
            return ask(f"/projections/{name}")
        except ApiRefused as error:
            if error.error != "ProjectionNotFound":
                raise
        raise _unknown(name, self.names)


def _unknown(name: object, known: Any) -> InvalidInput:
    there = ", ".join(known)
    return InvalidInput("name", f"there is no projection {str(name)[:64]!r}; there are {there}")


def _telling(on_progress: OnRebuild | None) -> OnJob | None:
    """Tells how far it is, as the job's result so far says it."""

    def told(job: Mapping[str, Any]) -> None:
        so_far = job["result"]
        if on_progress is not None and so_far is not None and "phase" in so_far:
            on_progress(read(RebuildProgress, so_far))

    return None if on_progress is None else told
