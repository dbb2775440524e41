"""Legal holds over HTTP."""

from __future__ import annotations

from dee_es.client.reading import read, read_all
from dee_es.client.transport import Transport, part
from dee_es.core.values import check_id
from dee_es.engine.api.base import checked_reason, checked_run_id
from dee_es.engine.retention.models import Hold
from dee_es.errors import InvalidInput


class HoldsClient:
    """Placing, lifting and listing legal holds."""

    _http: Transport

    def place_hold(
        self,
        *,
        run_id: str | None = None,
        contact_id: str | None = None,
        reason: str,
        command_id: str | None = None,
    ) -> Hold:
        """Keep a run, or a contact with all its runs, from being erased or archived."""
        if (run_id is None) == (contact_id is None):
            raise InvalidInput("run_id", "give either a run or a contact")
        given = {"reason": checked_reason(reason)}
        if run_id is not None:
            given["runId"] = checked_run_id(run_id)
        else:
            given["contactId"] = check_id("contact_id", contact_id)
        return read(Hold, self._http.post("/holds", given, key=command_id))

    def lift_hold(self, hold_id: str, reason: str, *, command_id: str | None = None) -> None:
        """End a hold; raises `InvalidInput` if none of this id is in force."""
        given = {"reason": checked_reason(reason)}
        self._http.post(f"/holds/{part('hold_id', hold_id)}/lift", given, key=command_id)

    def holds(self) -> list[Hold]:
        """The holds in force, in the order in which they were placed."""
        return read_all(Hold, self._http.get("/holds"))
