"""The worker's numbers in the text format of Prometheus, gathered when they are asked for."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Histogram, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from dee_es.errors import DeeError

if TYPE_CHECKING:
    from dee_es.bootstrap import Engine
    from dee_es.engine.models import TickReport

_BUCKETS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_OUTCOMES: Final = ("delivered", "pending", "failed", "unknown")


class WorkerMetrics(Collector):
    """Counts what a worker does, and reads how the database stands at each scrape."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._total: TickReport | None = None
        self._began = time.monotonic()
        self._lock = threading.Lock()
        self.registry = CollectorRegistry()
        self._durations = Histogram(
            "dee_tick_duration_seconds",
            "How long the worker's ticks took.",
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.registry.register(self)

    def begin(self) -> None:
        """Take note that a tick begins."""
        self._began = time.monotonic()

    def end(self, total: TickReport) -> None:
        """Take note that a tick has ended, with all that was done so far."""
        self._durations.observe(time.monotonic() - self._began)
        self._total = total

    def describe(self) -> list[Metric]:
        """Nothing beforehand: registering is not to ask the database."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All numbers as of now; without a database only those of the worker itself."""
        yield from self._worked()
        with self._lock:
            try:
                now = self._engine.metrics()
            except (DeeError, OSError):
                now = None
        up = GaugeMetricFamily("dee_database_up", "Whether the database answers.")
        up.add_metric([], float(now is not None))
        yield up
        if now is None:
            return
        runs = GaugeMetricFamily("dee_runs", "Runs by status.", labels=["status"])
        for status, count in now.runs.items():
            runs.add_metric([status], count)
        yield runs
        for name, text, value in (
            ("dee_due_runs", "Runs of this worker's share that are due.", now.due),
            ("dee_lease_held", "Whether this worker is the one at work.", now.lease_held),
            ("dee_tick", "The present tick.", now.tick),
            ("dee_log_position", "Events in the log.", now.position),
        ):
            gauge = GaugeMetricFamily(name, text)
            gauge.add_metric([], float(value))
            yield gauge
        if now.unanchored is not None:
            yield from self._evidence(now.checkpoints, now.checkpoint_failures, now.unanchored)

    def _evidence(self, signed: int, failures: int, unanchored: int) -> Iterator[Metric]:
        for name, text, count in (
            ("dee_checkpoints", "Checkpoints that the worker signed.", signed),
            ("dee_checkpoint_failures", "Checkpoints or places that failed.", failures),
        ):
            counter = CounterMetricFamily(name, text)
            counter.add_metric([], count)
            yield counter
        gauge = GaugeMetricFamily("dee_unanchored_events", "Events that are not signed yet.")
        gauge.add_metric([], unanchored)
        yield gauge

    def _worked(self) -> Iterator[Metric]:
        total = self._total
        sends = CounterMetricFamily(
            "dee_sends", "Attempts to send, by outcome.", labels=["outcome"]
        )
        for outcome in _OUTCOMES:
            sends.add_metric([outcome], getattr(total, outcome) if total is not None else 0)
        yield sends
        events = CounterMetricFamily("dee_worker_events", "Events that the worker recorded.")
        events.add_metric([], total.events if total is not None else 0)
        yield events


@contextmanager
def serving(metrics: WorkerMetrics, host: str, port: int) -> Iterator[int]:
    """Serve the numbers over HTTP for as long as the block takes; gives the port."""
    server, thread = start_http_server(port, host, metrics.registry)
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
