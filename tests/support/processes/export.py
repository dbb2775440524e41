"""Runs `dee` in processes that kill themselves (SIGKILL) at a chosen step of giving something out.

    python -m tests.support.processes.export      (then a line for each: a JSON object)

The object has `arguments`, `environment`, `stdout` (a file) and `step` (0: never). Steps are what
reaches beyond the process: commits, files opened, written, closed, made durable, renamed, linked
and removed, places written to and read from, and each chunk of what is given out; each is two,
right before it and right after it. For each process a line is printed: a JSON object with `ended`,
which is the exit code or `killed`, and `steps`, the names of those it came to.
"""

from __future__ import annotations

import builtins
import importlib
import io
import json
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NoReturn

from dee_es.adapters.places import FilePlace
from dee_es.adapters.storage.postgres.store import PostgresStore
from dee_es.adapters.storage.sqlite.store import SqliteStore
from dee_es.cli import main as dee
from dee_es.engine.exporting import bundle, delivery
from tests.support.cli.fork_server import prepare

LATE: Final = (
    "cryptography.hazmat.primitives.asymmetric.ed25519",
    "dee_es.adapters.anchors",
    "dee_es.adapters.channels.outbox",
    "dee_es.adapters.documents.html",
    "dee_es.adapters.documents.markdown",
    "dee_es.adapters.documents.pdf",
    "dee_es.cli.root",
    "dee_es.engine.compliance.manager",
    "dee_es.verifier",
    "fsspec.implementations.local",
    "reportlab.pdfgen.canvas",
)
"""What commands import only when they need it."""
GATHERED: Final = 2_000
"""Bytes that are written at once, so that a small export is many writes."""


class _Steps:
    """Counts steps, and ends the process at the one of this number."""

    def __init__(self, last: int, told: int) -> None:
        self._last = last
        self._told = told
        self._seen = 0

    def at(self, name: str) -> None:
        """One step."""
        self._seen += 1
        os.write(self._told, f"{name}\n".encode())
        if self._seen == self._last:
            os.kill(os.getpid(), signal.SIGKILL)

    def of(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """The same, with a step before and one after it."""

        def stepped(*given: Any, **named: Any) -> Any:
            self.at(f"before {name}")
            answer = call(*given, **named)
            self.at(f"after {name}")
            return answer

        return stepped

    def chunks(self, content: Iterable[bytes]) -> Iterator[bytes]:
        """The same, with a step before and one after each of them is handed on."""
        for chunk in content:
            self.at("before chunk")
            yield chunk
            self.at("after chunk")


class _File:
    """A file open for writing, whose writes and end are steps."""

    def __init__(self, file: Any, steps: _Steps) -> None:
        self._file = file
        self._steps = steps
        for name in ("write", "flush", "truncate", "close"):
            if hasattr(file, name):
                setattr(self, name, steps.of(name, getattr(file, name)))

    @property
    def buffer(self) -> Any:
        """The bytes below a file of text."""
        return _File(self._file.buffer, self._steps)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _armed(steps: _Steps) -> None:
    """Make steps of everything that matters."""
    any_os: Any = os
    for name in ("replace", "link", "unlink", "fsync", "open"):
        setattr(any_os, name, steps.of(name, getattr(os, name)))
    for store in (SqliteStore, PostgresStore):
        store.commit = steps.of("commit", store.commit)  # type: ignore[method-assign]
    for name in ("write", "read"):
        setattr(FilePlace, name, steps.of(f"place {name}", getattr(FilePlace, name)))
    opened = io.open

    def opening(file: Any, mode: str = "r", *given: Any, **named: Any) -> Any:
        made = opened(file, mode, *given, **named)
        return _File(made, steps) if set(mode) & set("wax+") else made

    any_io: Any = io
    any_builtins: Any = builtins
    any_io.open = any_builtins.open = opening
    any_delivery: Any = delivery
    any_delivery._GATHERED = GATHERED
    recorded = delivery._recorded
    any_delivery._recorded = lambda pieces, *rest: recorded(steps.chunks(pieces), *rest)
    add = bundle.Bundle.add

    def added(self: bundle.Bundle, name: str, content: Iterable[bytes]) -> None:
        add(self, name, steps.chunks(content))

    bundle.Bundle.add = added  # type: ignore[method-assign]


def _become(order: dict[str, Any], told: int) -> NoReturn:
    os.environ.update(order["environment"])
    tempfile.tempdir = None
    steps = _Steps(order["step"], told)
    _armed(steps)
    code: object = 0
    output = open(order["stdout"], "w", encoding="utf-8")  # noqa: SIM115 - this process's own
    sys.stdout = sys.stderr = output
    sys.argv = ["dee", *order["arguments"]]
    try:
        dee()
    except SystemExit as ended:
        code = ended.code
    output.flush()
    os._exit(code if isinstance(code, int) else 1)


def main() -> None:
    """Start a process for each line; imports are made once, for all of them."""
    prepare()
    for name in LATE:
        importlib.import_module(name)
    for line in sys.stdin:
        reading, told = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            try:
                _become(json.loads(line), told)
            except BaseException:
                traceback.print_exc(file=sys.__stderr__)
                os._exit(99)
        os.close(told)
        with open(reading, encoding="utf-8") as steps:
            names = steps.read().splitlines()
        _, status = os.waitpid(child, 0)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        ended = "killed" if killed else os.waitstatus_to_exitcode(status)
        print(json.dumps({"ended": ended, "steps": names}), flush=True)


if __name__ == "__main__":
    main()
