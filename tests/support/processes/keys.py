"""A process that looks after a key store and is killed at one step after another.

    python -m tests.support.processes.keys STRIDE KIND ADDRESS MASTER ACTION FILE

Forks a child for each step, or each so manieth: a call that changes something durably, right
before it and right after it. The child carries the action out and kills itself (SIGKILL) at its
step. After each death the process prints `killed STEP` and waits for a line; when a child gets to
the end, it prints `done`. Fewer rows a page make more steps.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any, Final

from dee_es.adapters.keys import (
    FileHolder,
    ManagedKeys,
    MasterHolder,
    TriedHolder,
    care,
    cipher,
    holders,
    master,
    memory,
    open_postgres_keys,
    open_sqlite_keys,
    parse_master_key,
    postgres,
    rotation,
    sqlite,
)
from dee_es.adapters.keys import backup as backups
from dee_es.adapters.keys.holders import MemoryHolder

ROWS_A_PAGE: Final = 3
_CALLS: Final = ("begin", "stage", "swap", "clear", "add", "bury", "set_note")


def small_pages() -> None:
    """Make pages of a few rows in this process."""
    for module in (sqlite, postgres, memory, backups, rotation):
        if hasattr(module, "PAGE"):
            module.PAGE = ROWS_A_PAGE  # type: ignore[attr-defined]


def holder_of(given: str, tried: str | None = None) -> MasterHolder:
    """The master key in a file, or the text of one; with a file or text that is tried as well."""
    if given.startswith("text:"):
        held: MasterHolder = MemoryHolder(parse_master_key(given[5:]), "DEE_MASTER_KEY")
    else:
        held = FileHolder(given)
    if tried is None:
        return held
    if tried.startswith("text:"):
        return TriedHolder(held, parse_master_key(tried[5:]), None)
    return TriedHolder(held, None, tried)


def open_at(kind: str, address: str, holder: MasterHolder) -> ManagedKeys:
    """The key store at an address; it must be there."""
    opener = open_sqlite_keys if kind == "sqlite" else open_postgres_keys
    return opener(address, holder, create=False)


def _act(kind: str, address: str, given: str, action: str, file: str) -> None:
    into = file if action.startswith("rotate-") else None
    keys = open_at(kind, address, holder_of(given, into))
    if action == "rotate":
        keys.rotate()
    elif action == "rotate-into":
        keys.rotate(None, file)
    elif action == "rotate-to":
        keys.rotate(file.removeprefix("text:"))
    elif action == "backup":
        keys.backup(file, 1)
    else:
        erased = [bytes.fromhex(each) for each in action.split(":")[1].split(",")]
        keys.restore(file, lambda: [erased[:1], erased[1:]])
    keys.close()


def _armed(step: int) -> None:
    """Let this process die at the step of this number."""
    passed = 0

    def at_step() -> None:
        nonlocal passed
        passed += 1
        if passed == step:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(call: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: Any, **named: Any) -> Any:
            at_step()
            answer = call(*args, **named)
            at_step()
            return answer

        return called

    for table in (sqlite.SqliteKeyTable, postgres.PostgresKeyTable):
        for name in _CALLS:
            setattr(table, name, around(getattr(table, name)))
    # Inside transactions, too.
    for module in (rotation, care):
        module.Wrapper = cipher.Wrapper  # type: ignore[attr-defined]
    cipher.Wrapper.wrap = around(cipher.Wrapper.wrap)  # type: ignore[method-assign]
    for name in ("replace", "link", "fsync", "ftruncate"):
        setattr(os, name, around(getattr(os, name)))
    synced = around(master.sync_directory)
    for module in (holders, master, backups):
        module.sync_directory = synced  # type: ignore[attr-defined]


def _child(step: int, arguments: list[str]) -> None:
    try:
        _armed(step)
        _act(*arguments)  # type: ignore[arg-type]
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def main() -> None:
    """Kill at each step in turn, until the action comes to its end."""
    small_pages()
    step, stride = 1 - int(sys.argv[1]), int(sys.argv[1])
    while True:
        step += stride
        child = os.fork()
        if child == 0:
            _child(step, sys.argv[2:])
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            print("killed", step, flush=True)
            if not sys.stdin.readline():
                return
            continue
        print("done" if status == 0 else "failed", step, flush=True)
        return


if __name__ == "__main__":
    main()
