"""Whether the log is what was written, and how everything stands, over HTTP."""

from __future__ import annotations

from dee_es.client.audit import AuditClient
from dee_es.client.reading import read
from dee_es.client.transport import Transport, part
from dee_es.engine.auditing.verdicts import ChainVerdict, LogVerdict
from dee_es.engine.auditing.verification import OnVerified
from dee_es.engine.models import Health, Metrics


class EvidenceClient:
    """Verification, health and numbers."""

    _http: Transport
    audit: AuditClient

    def verify_audit_chain(self, run_id: str) -> ChainVerdict:
        """Check a run's chain of checksums."""
        return read(ChainVerdict, self._http.get(f"/runs/{part('run_id', run_id)}/verify"))

    def verify_log(self, on_progress: OnVerified | None = None, *, workers: int = 1) -> LogVerdict:
        """Check every chain and the order of the whole log; see `audit.verify_log`."""
        return self.audit.verify_log(on_progress, workers=workers)

    def health(self) -> Health:
        """How the database, its scheduler and its projections stand."""
        return read(Health, self._http.get("/health"))

    def metrics(self) -> Metrics:
        """Numbers to watch."""
        return read(Metrics, self._http.get("/metrics"))
