"""Workers that are killed at a chosen step of a checkpoint, each a process of its own.

    python -m tests.support.processes.checkpoint
        (then a line "URL FOLDER STEP" for each worker)

Steps are all that reaches beyond the process: a file made durable or renamed, a call of git, a
commit to the database, each before and after; whoever gets to step STEP is dead. For each worker a
line is printed: "killed", or the number of steps it made.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dee_es import Engine, EngineConfig
from dee_es.adapters.keys import open_sqlite_keys
from dee_es.engine.scheduling import leases
from tests.support.engines import EPOCH, master_of


def config_of(url: str, folder: Path) -> EngineConfig:
    """What all processes of a test open."""
    return EngineConfig(
        url,
        clock="manual",
        epoch=EPOCH,
        checkpoints=f"{folder / 'places'} git:{folder / 'repository'}",
        checkpoint_every_events=1,
        audit_key_file=str(folder / "audit.key"),
        outbox=str(folder / "outbox"),
    )


def open_case(url: str, folder: Path) -> Engine:
    """An engine with keys that other processes may open as well."""
    keys = folder / "keys.db"
    return Engine(config_of(url, folder), keys=open_sqlite_keys(str(keys), master_of(keys)))


def work(url: str, folder: Path, last: int) -> int:
    """Work until a checkpoint was signed or step `last` is reached; returns the number of steps."""
    steps = 0
    # Whoever comes after a killed worker does not have to wait for its lease.
    leases.LEASE_MS = 100  # type: ignore[misc]

    def step() -> None:
        nonlocal steps
        steps += 1
        if steps == last:
            os.kill(os.getpid(), signal.SIGKILL)

    def stepped(call: Callable[..., Any]) -> Callable[..., Any]:
        def around(*args: Any, **keywords: Any) -> Any:
            step()
            result = call(*args, **keywords)
            step()
            return result

        return around

    with open_case(url, folder) as engine:
        store: Any = engine._parts.store
        store.commit = stepped(store.commit)
        system: Any = os
        system.replace, system.fsync = stepped(os.replace), stepped(os.fsync)
        programs: Any = subprocess
        programs.run = stepped(subprocess.run)
        stop = threading.Event()
        engine.worker(stop, on_checkpoint=lambda _: stop.set())
    return steps


def main() -> None:
    """Start a worker for each line; imports are made once, for all of them."""
    for line in sys.stdin:
        url, folder, last = line.split()
        child = os.fork()
        if child == 0:
            print(work(url, Path(folder), int(last)), flush=True)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            print("killed" if os.WTERMSIG(status) == signal.SIGKILL else "broken", flush=True)
        elif status:
            print("failed", flush=True)


if __name__ == "__main__":
    main()
