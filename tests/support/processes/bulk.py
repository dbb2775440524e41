"""A process of its own that enrols contacts, to be raced against others and killed.

    python -m tests.support.processes.bulk URL KEYS COUNT BATCH [backwards] [meeting]

Prints `ready`, waits for a line, then prints `done N` after each batch and the result at the end.
Who is `meeting` somebody waits for another line after the first batch, so that no rival has done
everything before the other one came to anything.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dee_es import BulkResult
from tests.support.engines import open_engine, outreach


def people(count: int, *, backwards: bool = False) -> Iterator[dict[str, Any]]:
    """The contacts every process is given; backwards, so that two processes meet in the middle."""
    for n in reversed(range(count)) if backwards else range(count):
        yield {"id": f"contact_{n}", "email": f"contact_{n}@example.com", "firstName": f"N{n}"}


def main() -> None:
    """Enroll, telling the parent how far it has come."""
    url, keys, count, batch = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    meeting = "meeting" in sys.argv

    def tell(so_far: BulkResult) -> None:
        nonlocal meeting
        print("done", so_far.created, flush=True)
        if meeting and so_far.created:
            meeting = False
            sys.stdin.readline()

    with open_engine(url, keys=keys) as engine:
        print("ready", flush=True)
        sys.stdin.readline()
        result = engine.bulk_execute(
            outreach(),
            people(count, backwards="backwards" in sys.argv),
            batch_size=batch,
            on_progress=tell,
        )
    print(json.dumps([result.created, result.skipped, result.errors]), flush=True)


if __name__ == "__main__":
    main()
