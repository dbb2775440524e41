"""How fast the whole log is verified, by one process and by two, and in how much memory.

Beside it stands what hashing alone takes in the same run: a bare SHA-256 chain over as many bytes,
in memory. For the memory the log is made five times as long, by entries that are written to its
table directly, sealed as the engine does it; on SQLite the log is taken as it is.
"""

from __future__ import annotations

import hashlib
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import psycopg

from dee_es import Engine
from dee_es.core.evidence import chain
from dee_es.core.ids import run_id
from scripts.benchmarks.figures import Figure
from scripts.benchmarks.harness import beside, config_of, engine_on, is_sqlite, settle
from scripts.benchmarks.rebuilding import EVENTS_OF_A_RUN, fill

RATE_BAR = 300_000
"""Entries a second, by two processes on PostgreSQL."""
MEMORY_BAR = 150
LONGER = 5
_AT_ONCE = 2_000
"""Runs that are at work between each other's entries, as in a tick."""
_HASHED = 200_000


def measure(url: str, folder: Path, events: int, repeats: int) -> Iterator[Figure]:
    """Rates, their ratio to bare hashing, and memory, on a log of about so many events."""
    with engine_on(url, folder, "verified") as engine:
        yield fill(engine, events)
    settle(url, "verified")
    with Engine(config_of(url, folder, "verified")) as engine:
        bare = _bare(engine, repeats)
    yield Figure("a bare SHA-256 chain over the same bytes", bare, "entries/s")
    for workers in (1, 2):
        rates = [_verify(url, folder, workers).rate for _ in range(repeats)]
        rate = statistics.median(rates)
        shared = f"{workers} process{'es' if workers > 1 else ''}"
        barred = workers == 2 and not is_sqlite(url)
        yield Figure(
            f"the log verified by {shared}",
            rate,
            "entries/s",
            (min(rates), max(rates)),
            RATE_BAR if barred else None,
        )
        yield Figure(f"ratio to the bare chain, {shared}", 100 * rate / bare, "%")
    if not is_sqlite(url):
        _lengthen(beside(url, "verified"), (LONGER - 1) * events)
        settle(url, "verified")
    yield from _memory(url, folder)


def _bare(engine: Engine, repeats: int) -> float:
    states = [state for *_, state in engine._parts.store.read_entries(0, _HASHED)]
    rates = []
    for _ in range(repeats):
        start, previous = time.perf_counter(), chain.GENESIS
        for state in states:
            previous = hashlib.sha256(previous + state).digest()
        rates.append(len(states) / (time.perf_counter() - start))
    return statistics.median(rates)


def _lengthen(database: str, events: int) -> None:
    """Append the entries of many runs to the log's table, with heads and the log's head."""
    payload = bytes(240)
    with closing(psycopg.connect(database)) as own, own.transaction():
        (position,) = own.execute("SELECT position FROM log_head").fetchone() or (0,)
        end = position + events // EVENTS_OF_A_RUN * EVENTS_OF_A_RUN
        entries = "COPY stored_events (notification_id, originator_id, originator_version, topic, "
        with own.cursor().copy((entries + "state) FROM STDIN (FORMAT BINARY)").encode()) as copy:
            copy.set_types(["int8", "text", "int8", "text", "bytea"])
            heads = []
            for first in range(position, end, _AT_ONCE * EVENTS_OF_A_RUN):
                count = min(_AT_ONCE, (end - first) // EVENTS_OF_A_RUN)
                runs = {
                    run_id("lengthened", str(first + n), 1): chain.GENESIS for n in range(count)
                }
                for version in range(1, EVENTS_OF_A_RUN + 1):
                    for run, previous in runs.items():
                        position += 1
                        own_sum, state = chain.seal(run, version, "StepEntered", previous, payload)
                        runs[run] = own_sum
                        copy.write_row((position, run, version, "StepEntered", state))
                heads += runs.items()
        columns = "stream_id, version, checksum, ended, slice, ordinal"
        with own.cursor().copy(
            f"COPY heads ({columns}) FROM STDIN (FORMAT BINARY)".encode()
        ) as copy:
            copy.set_types(["text", "int8", "bytea", "bool", "int8", "int8"])
            for run, own_sum in heads:
                copy.write_row((run, EVENTS_OF_A_RUN, own_sum, True, 0, 0))
        own.execute("UPDATE log_head SET position = %s", (position,))


_CHILD = """
import multiprocessing, sys, time
from pathlib import Path

def peak(pid):
    # What getrusage tells would include the process that started this one.
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024

def main():
    from scripts.benchmarks.harness import config_of
    from dee_es import Engine

    url, folder, workers = sys.argv[1:]
    helpers = {}
    def look(_):
        for each in multiprocessing.active_children():
            helpers[each.pid] = peak(each.pid)
    with Engine(config_of(url, Path(folder), "verified")) as engine:
        start = time.perf_counter()
        verdict = engine.verify_log(look, workers=int(workers))
        took = time.perf_counter() - start
    assert verdict.valid, verdict.problems
    print(verdict.entries, verdict.streams, took, peak("self"), *helpers.values())

if __name__ == "__main__":
    main()
"""


@dataclass(frozen=True, slots=True)
class _Verified:
    """One verification of the whole log: how much, how long, and the peaks of memory in MiB."""

    entries: int
    streams: int
    seconds: float
    peaks: tuple[float, ...]

    @property
    def rate(self) -> float:
        """Entries a second."""
        return self.entries / self.seconds


def _verify(url: str, folder: Path, workers: int) -> _Verified:
    """Verify in a process of its own, as whoever gives the command does.

    In a file, because the processes that help begin with what stands in one: from here they would
    take in all of the benchmarks first.
    """
    script = folder / "verify_once.py"
    script.write_text(_CHILD, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(script), url, str(folder), str(workers)],
        check=True,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    entries, streams, seconds, *peaks = done.stdout.split()
    return _Verified(int(entries), int(streams), float(seconds), tuple(map(float, peaks)))


def _memory(url: str, folder: Path) -> Iterator[Figure]:
    found = _verify(url, folder, 2)
    own, *helpers = found.peaks
    what = f"of {found.entries:,} entries in {found.streams:,} streams"
    for whose, peak in (("", own), *((", a helper", each) for each in helpers)):
        work, key = f"peak memory {what}{whose}", f"peak memory{whose}"
        yield Figure(work, peak, "MiB", None, MEMORY_BAR, False, key)
