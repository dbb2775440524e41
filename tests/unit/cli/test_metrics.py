"""The worker's numbers: what they are before, during and without a database."""

from __future__ import annotations

from typing import Any, cast

from prometheus_client import generate_latest

from dee_es.cli.metrics import WorkerMetrics
from dee_es.engine.models import Metrics, TickReport
from dee_es.errors import StoreUnavailable


class Engine:
    """Answers with fixed numbers while it is up."""

    up = True
    asked = 0

    def metrics(self) -> Metrics:
        self.asked += 1
        if not self.up:
            raise StoreUnavailable("the database is away")
        return Metrics(tick=7, position=40, runs={"active": 3, "failed": 0}, due=2, lease_held=True)


def numbers(metrics: WorkerMetrics) -> dict[str, str]:
    lines = generate_latest(metrics.registry).decode().splitlines()
    pairs = [line.rpartition(" ") for line in lines if not line.startswith("#")]
    return {name: value for name, _, value in pairs}


def test_numbers_are_read_when_they_are_asked_for() -> None:
    engine = Engine()
    metrics = WorkerMetrics(cast(Any, engine))
    assert engine.asked == 0
    found = numbers(metrics)
    assert engine.asked == 1
    assert found['dee_runs{status="active"}'] == "3.0"
    assert (found["dee_due_runs"], found["dee_lease_held"], found["dee_tick"]) == (
        "2.0", "1.0", "7.0",
    )  # fmt: skip
    assert found['dee_sends_total{outcome="delivered"}'] == "0.0"
    assert found["dee_tick_duration_seconds_count"] == "0.0"


def test_ticks_and_sends_are_counted() -> None:
    metrics = WorkerMetrics(cast(Any, Engine()))
    for delivered in (1, 3):
        metrics.begin()
        metrics.end(TickReport(5, events=9, delivered=delivered, unknown=1))
    found = numbers(metrics)
    assert found["dee_tick_duration_seconds_count"] == "2.0"
    assert found['dee_sends_total{outcome="delivered"}'] == "3.0"
    assert found['dee_sends_total{outcome="unknown"}'] == "1.0"


def test_without_a_database_the_worker_still_answers() -> None:
    engine = Engine()
    engine.up = False
    found = numbers(WorkerMetrics(cast(Any, engine)))
    assert found["dee_database_up"] == "0.0"
    assert "dee_due_runs" not in found
    assert found['dee_sends_total{outcome="failed"}'] == "0.0"
