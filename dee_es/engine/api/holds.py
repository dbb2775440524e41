"""Legal holds: what is under one can be neither erased nor archived."""

from __future__ import annotations

from dee_es.core.values import check_id
from dee_es.engine.api.base import ApiBase, checked_reason, checked_run_id
from dee_es.engine.retention.models import Hold
from dee_es.errors import InvalidInput


class HoldsApi(ApiBase):
    """Placing, lifting and listing legal holds."""

    def place_hold(
        self,
        *,
        run_id: str | None = None,
        contact_id: str | None = None,
        reason: str,
        actor: str | None = None,
        command_id: str | None = None,
    ) -> Hold:
        """Keep a run, or a contact with all its runs, from being erased or archived.

        Raises `InvalidInput` unless exactly one of the two is given, and for a contact that nobody
        knows or that was erased; `RunNotFound`.
        """
        if (run_id is None) == (contact_id is None):
            raise InvalidInput("run_id", "give either a run or a contact")
        meta = self._meta("hold", command_id, actor, checked_reason(reason))
        if run_id is not None:
            return self._holds.place(checked_run_id(run_id), None, meta)
        return self._holds.place(None, check_id("contact_id", contact_id), meta)

    def lift_hold(
        self, hold_id: str, reason: str, actor: str | None = None, *, command_id: str | None = None
    ) -> None:
        """End a hold; raises `InvalidInput` if none of this id is in force."""
        meta = self._meta("lift_hold", command_id, actor, checked_reason(reason))
        self._holds.lift(check_id("hold_id", hold_id), meta)

    def holds(self) -> list[Hold]:
        """The holds in force, in the order in which they were placed."""
        return list(self._holds.standing().holds)
