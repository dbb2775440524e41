"""The filters of runs as requests hold them: in a query, and in a body.

They are written out twice: the schemas differ, and so does the order in which they are told.
"""

from __future__ import annotations

from pydantic import Field

from dee_es.core.views import RunStatus
from dee_es.web.api.models import Given, GivenId, UtcTime


class CountQuery(Given):
    """The filters of `countRuns`: all but the status, by which it counts."""

    plan_id: GivenId | None = None
    contact_id: GivenId | None = None
    started_after: UtcTime | None = Field(None, description="Inclusive; ISO 8601 with a zone.")
    started_before: UtcTime | None = Field(None, description="Exclusive; ISO 8601 with a zone.")


class RunQuery(CountQuery):
    """The filters of `listRuns`, and the page."""

    status: list[RunStatus] = Field(
        default_factory=list, description="Runs that stand so; may be given several times."
    )
    limit: int = Field(50, ge=1, le=1_000)
    offset: int = Field(0, ge=0, le=2**53)
    cursor: str | None = Field(
        None, max_length=1_000, description="`nextCursor` of the page before; excludes `offset`."
    )


class RunFilters(Given):
    """The filters of `listRuns`; at least one has to be given."""

    status: RunStatus | list[RunStatus] | None = None
    plan_id: GivenId | None = None
    contact_id: GivenId | None = None
    started_after: UtcTime | None = None
    started_before: UtcTime | None = None
