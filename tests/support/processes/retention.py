"""Processes that kill themselves (SIGKILL) at one step of an archiving or an erasure.

    python -m tests.support.processes.retention
        (then a line "URL KEYS FOLDER ACTION TURN WHEN" for each)

Steps are what reaches the outside: commits, archivings, files written and read, keys destroyed;
WHEN is `before` or `after` the one of number TURN. For each process a line is printed: `killed`, or
`survived` if there were fewer steps.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dee_es import Engine
from dee_es.adapters.places import FilePlace
from tests.support.engines import open_engine

ACTIONS = ("archive", "erase")
VICTIM = "c1"


def act(engine: Engine, action: str, folder: Path) -> None:
    """Do what is to be killed, or to be done again afterwards."""
    if action == "archive":
        engine.audit.archive(engine.now().now, place=str(folder / "archives"), reason="old")
    else:
        engine.erase_contact(VICTIM, "asked", certificate=str(folder / "certificates"))


class _Steps:
    """Counts steps, and ends the process before or after the one of this number."""

    def __init__(self, turn: int, after: bool) -> None:
        self._turn = turn
        self._after = after
        self._seen = 0

    def of(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """The same, counted."""

        def counted(*args: Any, **kwargs: Any) -> Any:
            self._seen += 1
            mine = self._seen == self._turn
            if mine and not self._after:
                os.kill(os.getpid(), signal.SIGKILL)
            done = original(*args, **kwargs)
            if mine:
                os.kill(os.getpid(), signal.SIGKILL)
            return done

        return counted


def run(url: str, keys: str, folder: str, action: str, turn: str, when: str) -> None:
    """Act until killed."""
    steps = _Steps(int(turn), when == "after")
    with open_engine(url, keys=Path(keys)) as engine:
        store, vault = engine._parts.store, engine._parts.keys
        for owner, name in (
            (store, "commit"),
            (store, "archive"),
            (vault, "destroy"),
            (FilePlace, "write"),
            (FilePlace, "read"),
            (os, "replace"),
        ):
            setattr(owner, name, steps.of(getattr(owner, name)))
        act(engine, action, Path(folder))


def main() -> None:
    """Start a process for each line; imports are made once, for all of them."""
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            run(*line.split())
            print("survived", flush=True)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
            print("killed", flush=True)
        elif status:
            print("failed", flush=True)


if __name__ == "__main__":
    main()
