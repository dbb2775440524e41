"""Questions across runs, over HTTP: a contact as of any date, and the funnel of a plan."""

from __future__ import annotations

from datetime import datetime

from dee_es.client.reading import read, read_all
from dee_es.client.transport import Transport, part
from dee_es.engine.insights import ContactAt, FunnelStep


class InsightsClient:
    """Reads of the server's projections."""

    _http: Transport

    def contact_at(
        self, contact_id: str, *, time: datetime | None = None, tick: int | None = None
    ) -> ContactAt:
        """A contact as of a tick or a time, by default as of now; of nobody it is empty and not
        `known`."""
        return read(
            ContactAt,
            self._http.get(f"/contacts/{part('contact_id', contact_id)}", time=time, tick=tick),
        )

    def step_funnel(self, plan_id: str, version: int | None = None) -> list[FunnelStep]:
        """What became of every visit of every step of a plan."""
        path = f"/plans/{part('plan_id', plan_id)}/funnel"
        return read_all(FunnelStep, self._http.get(path, version=version))
