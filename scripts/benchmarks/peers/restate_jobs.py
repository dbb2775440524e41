"""Restate: accepting invocations in bulk, and running them, in processes of their own.

What was chosen, after its documentation:

* One node with its defaults, which force the write-ahead log to disk; telemetry and the web page
  off. Its partitions are the default 24 or, as it has them work in parallel, 4 on a machine of a
  few cores; the better of both counts.
* The service runs under hypercorn with the configuration that the SDK's documentation recommends
  for production (unlimited streams and keep-alive), with as many workers as there are cores, or
  with one; the better counts. (It names 8 workers as its example; on two cores that is slower.)
* There is no call that takes many invocations at once: every invocation is a POST to the ingress.
  They are made over 100 kept-alive connections by a client that does nothing but write and read,
  and are one-way (`/send`, with a delay so that nothing runs meanwhile) to measure accepting, and
  request and response to measure running, which tells of each end without polling.
* The service's four steps are `ctx.run_typed`, one journal entry each, as its guide has them.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from scripts.benchmarks.harness import person
from scripts.benchmarks.peers.restate_server import served

CONNECTIONS = 100
WARM_UP = 200
PATHS = {"enqueue": "/Outreach/run/send?delay=1h", "run": "/Outreach/run"}


async def _caller(port: int, path: str, numbers: Iterator[int]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    try:
        for n in numbers:
            body = json.dumps(person(n))
            writer.write(f"{head}content-length: {len(body)}\r\n\r\n{body}".encode())
            answer = (await reader.readuntil(b"\r\n\r\n")).lower()
            if answer.split(b" ", 2)[1] not in (b"200", b"202"):
                raise RuntimeError(f"the ingress answered {answer.splitlines()[0].decode()}")
            length = answer.partition(b"content-length:")[2].split(b"\r\n", 1)[0]
            await reader.readexactly(int(length))
    finally:
        writer.close()


async def _call(port: int, path: str, first: int, count: int) -> None:
    numbers = iter(range(first, first + count))
    callers = min(CONNECTIONS, count)
    await asyncio.gather(*(_caller(port, path, numbers) for _ in range(callers)))


def measure(job: str, count: int, partitions: int, workers: int) -> float:
    """Invocations a second, accepted or run to their end."""
    with (
        tempfile.TemporaryDirectory(prefix="dee-bench-restate-") as folder,
        served(Path(folder), partitions, workers) as place,
    ):
        asyncio.run(_call(place.port, PATHS[job], 0, min(WARM_UP, count)))
        start = time.perf_counter()
        asyncio.run(_call(place.port, PATHS[job], WARM_UP, count))
        return count / (time.perf_counter() - start)


def main() -> None:
    """`JOB COUNT VARIANT`, a variant being `PARTITIONS/WORKERS`; prints the rate as JSON."""
    job, count, variant = sys.argv[1:]
    partitions, _, workers = variant.partition("/")
    number = (os.cpu_count() or 1) if workers == "cores" else int(workers)
    print(json.dumps({"rate": measure(job, int(count), int(partitions), number)}), flush=True)


if __name__ == "__main__":
    main()
