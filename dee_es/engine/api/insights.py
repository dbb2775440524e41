"""Questions across runs: a contact as of any date, and the funnel of a plan."""

from __future__ import annotations

from datetime import datetime

from dee_es.core.clock import require_utc
from dee_es.core.values import check_count, check_id, check_plan_id
from dee_es.engine.api.base import ApiBase
from dee_es.engine.insights import ContactAt, FunnelStep
from dee_es.errors import InvalidInput


class InsightsApi(ApiBase):
    """Reads of projections that reflect every event committed before."""

    def contact_at(
        self, contact_id: str, *, time: datetime | None = None, tick: int | None = None
    ) -> ContactAt:
        """A contact's runs, sends, waits, refusals, suppressions and consents as of a tick or
        a time, by default as of now; of nobody it is empty and not `known`. Raises `InvalidInput`
        for a moment before the epoch, or one that is yet to come: nobody knows what will be on
        record by then."""
        check_id("contact_id", contact_id)
        if time is not None and tick is not None:
            raise InvalidInput("time, tick", "give one of them")
        if tick is not None:
            check_count("tick", tick, least=0)
        elif time is None:
            tick = self.clock.now()
        else:
            tick = self._parts.scale.tick_at(require_utc("time", time))
            if tick < 0:
                raise InvalidInput("time", "lies before the database's epoch")
        if not self._parts.scale.dated(tick):
            raise InvalidInput("tick", "lies beyond the year 9999")
        if tick > self.clock.now() and tick > self.clock.refresh():
            raise InvalidInput("tick" if time is None else "time", "lies in the future")
        return self._insights.contact_at(contact_id, tick)

    def step_funnel(self, plan_id: str, version: int | None = None) -> list[FunnelStep]:
        """What became of every visit of every step of a plan, of one version or of all.

        Steps that no run has entered are not there. Raises `PlanNotFound`.
        """
        if version is not None:
            check_count("version", version)
        self._definitions.plan(check_plan_id("plan_id", plan_id, "version"), version)
        return self._insights.funnel(plan_id, version)
