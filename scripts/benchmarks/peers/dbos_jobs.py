"""DBOS Transact: enqueueing workflows in bulk, and running them, each in a process of its own.

What was chosen, after its reference and its source:

* A database of its own on the same PostgreSQL server, migrated before anything is timed; logging
  at WARNING, no tracing; `sys_db_pool_size` and `max_executor_threads` as large as the concurrency,
  so that no workflow waits for a connection or a thread.
* There is no call that enqueues many workflows at once (`send_bulk` sends messages). Three ways are
  documented and the fastest counts: `DBOSClient.enqueue_in_transaction`, 1,000 to a transaction
  that the caller owns, so that a thousand rows share one commit (`transaction`); the same by four
  threads at once (`transactions`); and `DBOSClient.enqueue` from eight threads, a commit each but
  shared by the server (`threads`).
* Workflows are four trivial steps, `@DBOS.step` inside `@DBOS.workflow`, timed from the first one's
  beginning to the last one's end. They are enqueued before, for a queue with `worker_concurrency`
  and a polling interval of 50 ms instead of a second (`queue`), or the same as coroutines
  (`async-queue`), or they are called directly by as many threads (`direct`) or coroutines
  (`async-direct`), which needs no queue. The fastest counts.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from dbos import DBOS, DBOSClient

from scripts.benchmarks.harness import person

NAME = "bench"
QUEUE = "outreach"
CONCURRENCY = 32
POLLING_S = 0.05
_BATCH = 1_000


class Countdown:
    """Times workflows from the first one's beginning to the last one's end; they report both."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._left = 0
        self._began: float | None = None
        self._ended = 0.0
        self._over = threading.Event()

    def expect(self, count: int) -> None:
        """So many will run."""
        self._left = count

    def begun(self) -> None:
        """Another one begins."""
        with self._lock:
            if self._began is None:
                self._began = time.perf_counter()

    def done(self) -> None:
        """Another one has taken its last step."""
        with self._lock:
            self._left -= 1
            if self._left == 0:
                self._ended = time.perf_counter()
                self._over.set()

    def seconds(self, patience: float) -> float:
        """How long all took; raises `TimeoutError` if they have not ended in so many seconds."""
        if not self._over.wait(patience) or self._began is None:
            raise TimeoutError(f"{self._left} workflows have not ended after {patience:.0f} s")
        return self._ended - self._began


watch = Countdown()


@DBOS.step()
def send(contact: dict[str, str], template: str) -> str:
    """A send that costs nothing."""
    return f"{contact['id']}:{template}"


@DBOS.step()
def branch(contact: dict[str, str]) -> str:
    """A branch that costs nothing."""
    return "second"


@DBOS.workflow()
def outreach(contact: dict[str, str]) -> str:
    """Four trivial steps."""
    watch.begun()
    send(contact, "first")
    branch(contact)
    send(contact, "second")
    send(contact, "last")
    watch.done()
    return "silent"


@DBOS.step()
async def send_async(contact: dict[str, str], template: str) -> str:
    """The same, as a coroutine."""
    return f"{contact['id']}:{template}"


@DBOS.step()
async def branch_async(contact: dict[str, str]) -> str:
    """The same, as a coroutine."""
    return "second"


@DBOS.workflow()
async def outreach_async(contact: dict[str, str]) -> str:
    """The same, as a coroutine."""
    watch.begun()
    await send_async(contact, "first")
    await branch_async(contact)
    await send_async(contact, "second")
    await send_async(contact, "last")
    watch.done()
    return "silent"


@contextmanager
def launched(url: str) -> Iterator[DBOSClient]:
    """DBOS on its database, with a client for the same."""
    DBOS(
        config={
            "name": NAME,
            "system_database_url": url,
            "application_version": "1",
            "log_level": "WARNING",
            "sys_db_pool_size": CONCURRENCY,
            "max_executor_threads": CONCURRENCY,
        }
    )
    DBOS.launch()
    client = DBOSClient(system_database_url=url, application_name=NAME)
    try:
        yield client
    finally:
        client.destroy()
        DBOS.destroy()


# --- enqueueing -----------------------------------------------------------------------------------


def enqueue(client: DBOSClient, url: str, count: int, variant: str, workflow: str) -> None:
    """Enqueue so many workflows, each with a contact."""

    def options(n: int) -> Any:
        return {"workflow_name": workflow, "queue_name": QUEUE, "workflow_id": f"run_{n}"}

    if variant == "threads":
        with ThreadPoolExecutor(8) as pool:
            for _ in pool.map(lambda n: client.enqueue(options(n), person(n)), range(count)):
                pass
        return
    engine = sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:", 1), pool_size=4)

    def batch(first: int) -> None:
        with engine.begin() as connection:
            for n in range(first, min(first + _BATCH, count)):
                client.enqueue_in_transaction(connection, options(n), person(n))

    with ThreadPoolExecutor(4 if variant == "transactions" else 1) as pool:
        for _ in pool.map(batch, range(0, count, _BATCH)):
            pass
    engine.dispose()


def measure_enqueue(url: str, count: int, variant: str) -> float:
    """Workflows a second; nobody listens to the queue."""
    with launched(url) as client:
        start = time.perf_counter()
        enqueue(client, url, count, variant, "outreach")
        return count / (time.perf_counter() - start)


# --- running --------------------------------------------------------------------------------------


def measure_run(url: str, count: int, variant: str) -> float:
    """Workflows of four steps a second, from the first one's beginning to the last one's end."""
    with launched(url) as client:
        watch.expect(count)
        if variant == "direct":
            with ThreadPoolExecutor(CONCURRENCY) as pool:
                for _ in pool.map(lambda n: outreach(person(n)), range(count)):
                    pass
        elif variant == "async-direct":
            asyncio.run(_directly(count))
        else:
            workflow = outreach_async if variant == "async-queue" else outreach
            enqueue(client, url, count, "transaction", workflow.__qualname__)
            DBOS.register_queue(
                QUEUE, worker_concurrency=CONCURRENCY, polling_interval_sec=POLLING_S
            )
        return count / watch.seconds(60 + count)


async def _directly(count: int) -> None:
    numbers = iter(range(count))

    async def caller() -> None:
        for n in numbers:
            await outreach_async(person(n))

    await asyncio.gather(*(caller() for _ in range(CONCURRENCY)))


JOBS: dict[str, Callable[[str, int, str], float]] = {
    "enqueue": measure_enqueue,
    "run": measure_run,
}


def main() -> None:
    """`JOB URL COUNT VARIANT`; prints the rate as JSON."""
    job, url, count, variant = sys.argv[1:]
    rate = JOBS[job](url, int(count), variant)
    print(json.dumps({"rate": rate}), flush=True)
    # Its background threads would keep the process for seconds.
    os._exit(0)


if __name__ == "__main__":
    main()
