"""What happened and whether it can be believed: timelines, verification, health."""

from __future__ import annotations

from dee_es.engine.api.base import ApiBase, checked_run_id
from dee_es.engine.audit import OnVerified
from dee_es.engine.models import ChainVerdict, Health, LogVerdict, TimelineEntry


class EvidenceApi(ApiBase):
    """Reads that change nothing."""

    def get_timeline(self, run_id: str) -> list[TimelineEntry]:
        """What happened in a run, in order; raises `RunNotFound`."""
        return self._history.timeline(checked_run_id(run_id))

    def verify_audit_chain(self, run_id: str) -> ChainVerdict:
        """Check a run's chain of checksums; raises `RunNotFound`."""
        return self.audit.verify_run(checked_run_id(run_id))

    def verify_log(self, on_progress: OnVerified | None = None) -> LogVerdict:
        """Check every chain and the order of the whole log."""
        return self.audit.verify_log(on_progress)

    def health(self) -> Health:
        """How the database, its scheduler and its projections stand, with every problem."""
        return self._health.look()
