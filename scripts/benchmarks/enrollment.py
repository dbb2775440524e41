"""How fast a contact list is enrolled, beside DBOS, Restate and the limits of both databases."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Final

from dee_es import Engine
from scripts.benchmarks.figures import Finding, LeftOut, measured, ratio
from scripts.benchmarks.harness import (
    alone,
    beside,
    config_of,
    is_sqlite,
    people,
    plan,
    prepare,
)
from scripts.benchmarks.limits import copying, inserting
from scripts.benchmarks.peers import dbos, restate

BARS: Final = {1_000: 15_000, 100: 8_000}
"""Contacts a second by batch size, on PostgreSQL and two cores, personal data encrypted."""
DBOS_BAR: Final = 10
"""Times as fast as DBOS enqueues workflows."""
COPY_BAR: Final = 60
"""Per cent of a COPY of the same rows, at batches of 1,000."""
PEERS_AT_MOST: Final = 20_000
"""Workflows that peers enqueue: their rate does not grow with the number."""
WORTH_SHARING: Final = 50_000
"""Contacts from which on a second process has more to do than to start."""
ENOUGH: Final = 100_000
"""Contacts up to which all is measured; of more only what is enrolled in large batches."""


def measure(url: str, folder: Path, contacts: int, repeats: int) -> Iterator[Finding]:
    """Contacts a second of `bulk_execute`, each repetition on a database of its own."""
    ours: list[float] = []
    if not is_sqlite(url):
        for batch in BARS if contacts <= ENOUGH else (1_000,):
            rates = yield from _on_postgres(url, folder, contacts, batch, repeats)
            ours = ours or rates
        yield from _peers(url, contacts, repeats, ours)
    if contacts <= ENOUGH:
        yield from _on_sqlite(folder, contacts, repeats)
    else:
        what = "batches of 100, the COPY of the same rows, SQLite"
        yield LeftOut(what, f"measured up to {ENOUGH:,} contacts alone")


def _on_postgres(
    url: str, folder: Path, contacts: int, batch: int, repeats: int
) -> Generator[Finding, None, list[float]]:
    rates, limits, whole = [], [], ""
    for repetition in range(repeats):
        name = f"enroll_{batch}_{repetition}"
        prepare(url, folder, name)
        since = copying.transaction_now(beside(url, name))
        rates.append(alone(_enrolled, url, folder, name, contacts, batch))
        if contacts > ENOUGH:
            continue
        copied = copying.copy_again(beside(url, name), since)
        limits.append(contacts / copied.seconds)
        whole = f"{copied.rows:,} rows, {copied.size / 2**20:,.1f} MiB, {copied.commits:,} commits"
    work = f"batches of {batch:,}"
    yield measured(f"bulk_execute, {work}", rates, "contacts/s", BARS[batch])
    if not limits:
        return rates
    yield measured(
        f"limit: COPY of the same rows, {work} ({whole})",
        limits,
        "contacts/s",
        key=f"limit: COPY of the same rows, {work}",
    )
    bar = COPY_BAR if batch == 1_000 else None
    yield ratio(f"bulk_execute to the COPY, {work}", rates, limits, bar, unit="%")
    if contacts >= WORTH_SHARING:
        names = [f"shared_{batch}_{repetition}" for repetition in range(repeats)]
        shared = [_enroll_shared(url, folder, name, contacts, batch) for name in names]
        yield measured(f"bulk_execute, {work}, 2 processes", shared, "contacts/s", BARS[batch])
        yield ratio(f"2 processes to the COPY, {work}", shared, limits, bar, unit="%")
    return rates


def _enrolled(url: str, folder: Path, name: str, contacts: int, batch: int) -> float:
    with Engine(config_of(url, folder, name)) as engine:
        start = time.perf_counter()
        result = engine.bulk_execute(plan("bench"), people(contacts), batch_size=batch)
        rate = contacts / (time.perf_counter() - start)
    if result.created != contacts:
        raise SystemExit(f"enrolled {result.created} of {contacts} contacts")
    return rate


def _enroll_shared(url: str, folder: Path, name: str, contacts: int, batch: int) -> float:
    """Shared with another process, from a process of its own: whoever helps one begins with what
    stands in its file, and from here would take in all of the benchmarks first."""
    prepare(url, folder, name)
    script = folder / "enroll_shared.py"
    script.write_text(_SHARED, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(script), url, str(folder), name, str(contacts), str(batch)],
        check=True,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    return float(done.stdout)


_SHARED = """
import sys, time
from pathlib import Path

def main():
    from dee_es import Engine
    from scripts.benchmarks.harness import config_of, people, plan

    url, folder, name, contacts, batch = sys.argv[1:]
    count = int(contacts)
    with Engine(config_of(url, Path(folder), name)) as engine:
        start = time.perf_counter()
        done = engine.bulk_execute(plan("bench"), people(count), batch_size=int(batch), workers=2)
        took = time.perf_counter() - start
    assert done.created == count, done
    print(count / took)

if __name__ == "__main__":
    main()
"""


def _peers(url: str, contacts: int, repeats: int, ours: list[float]) -> Iterator[Finding]:
    size = min(contacts, PEERS_AT_MOST)
    beside_us: dict[str, Callable[[], tuple[str, list[float]] | LeftOut]] = {
        "dbos": lambda: dbos.rates(url, "enqueue", dbos.ENQUEUE, size, repeats),
        "restate": lambda: restate.rates("enqueue", size, repeats),
    }
    for name, measure_peer in beside_us.items():
        found = measure_peer()
        if isinstance(found, LeftOut):
            yield found
            continue
        variant, rates = found
        yield measured(
            f"{name} enqueues {size:,} workflows ({variant})",
            rates,
            "workflows/s",
            key=f"{name} enqueues workflows",
        )
        bar = DBOS_BAR if name == "dbos" else None
        yield ratio(f"bulk_execute, batches of 1,000, to {name}", ours, rates, bar)


def _on_sqlite(folder: Path, contacts: int, repeats: int) -> Iterator[Finding]:
    batch = 1_000
    rates, limits = [], []
    for repetition in range(repeats):
        name = f"enroll_sqlite_{repetition}"
        prepare("sqlite", folder, name)
        rates.append(alone(_enrolled, "sqlite", folder, name, contacts, batch))
        source, target = folder / f"{name}.db", folder / f"{name}.limit.db"
        limits.append(contacts / inserting.insert_again(source, target, -(-contacts // batch)))
        for each in (source, target):
            each.unlink()
    work = f"batches of {batch:,}, SQLite"
    yield measured(f"bulk_execute, {work}", rates, "contacts/s")
    yield measured(f"limit: executemany of the same rows, {work}", limits, "contacts/s")
    yield ratio("bulk_execute to executemany, SQLite", rates, limits, unit="%")
