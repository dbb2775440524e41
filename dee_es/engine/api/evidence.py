"""What happened and whether it can be believed: timelines, verification, health."""

from __future__ import annotations

from dee_es.core.views import RunFilter, RunStatus
from dee_es.engine.api.base import ApiBase, checked_run_id
from dee_es.engine.auditing.verdicts import ChainVerdict, LogVerdict
from dee_es.engine.auditing.verification import OnVerified
from dee_es.engine.models import Health, Metrics


class EvidenceApi(ApiBase):
    """Reads that change nothing."""

    def verify_audit_chain(self, run_id: str) -> ChainVerdict:
        """Check a run's chain of checksums; raises `RunNotFound`."""
        return self.audit.verify_run(checked_run_id(run_id))

    def verify_log(self, on_progress: OnVerified | None = None, *, workers: int = 1) -> LogVerdict:
        """Check every chain and the order of the whole log; see `Audit.verify_log`."""
        return self.audit.verify_log(on_progress, workers=workers)

    def metrics(self) -> Metrics:
        """Numbers to watch, as they are now; raises `StoreUnavailable`."""
        store, tick = self._parts.store, self.clock.now()
        return Metrics(
            tick=tick,
            position=store.log_head().position,
            runs={s.value: self._queries.count(RunFilter((s.value,))) for s in RunStatus},
            due=store.due_lag(tick, self._parts.partition),
            lease_held=self._leases.held,
            checkpoints=self._periodic_signing.signed,
            checkpoint_failures=self._periodic_signing.failures,
            unanchored=self._periodic_signing.unsigned(),
        )

    def health(self) -> Health:
        """How the database, its scheduler and its projections stand, with every problem."""
        return self._health.look()
