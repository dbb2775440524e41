"""Starts `dee` quickly: one process that has everything imported forks another for each command.

What is run is a process of its own all the same, with its own folder, environment, input, output
and exit code; only Python's start and the imports, most of the time of a short command, are shared.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import pkgutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NoReturn

ROOT: Final = Path(__file__).parents[3]
FIXED: Final = ("PYTHON", "LC_", "LANG")
"""Beginnings of variables that count when Python starts, so that they need a start of their own."""
_MOST: Final = 1 << 20


class CliServer:
    """Runs commands in forks of a process that is ready."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.cli.fork_server", str(theirs.fileno())],
                cwd=ROOT, env=dict(environment), pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )  # fmt: skip
        self._socket = ours
        self._lock = threading.Lock()
        atexit.register(self.close)

    def run(
        self, arguments: Sequence[str], folder: Path, environment: Mapping[str, str], given: str
    ) -> subprocess.CompletedProcess[str]:
        """Run `dee` with these arguments, as `subprocess.run` does."""
        new = tempfile.TemporaryFile
        with new() as stdin, new() as stdout, new() as stderr:
            stdin.write(given.encode())
            stdin.seek(0)
            reading, writing = os.pipe()
            fds = [stdin.fileno(), stdout.fileno(), stderr.fileno(), writing]
            order = json.dumps([list(arguments), str(folder), dict(environment)]).encode()
            with self._lock:
                self._socket.sendall(len(order).to_bytes(4, "big"))
                socket.send_fds(self._socket, [order[:1]], fds)
                self._socket.sendall(order[1:])
            os.close(writing)
            with open(reading, encoding="ascii") as status:
                code = int(status.read())
            told = []
            for file in (stdout, stderr):
                file.seek(0)
                told.append(file.read().decode("utf-8"))
        return subprocess.CompletedProcess(["dee", *arguments], code, *told)

    def close(self) -> None:
        """End the process that is ready."""
        self._socket.close()
        self._process.wait(60)


def _serve(orders: socket.socket) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while size := orders.recv(4, socket.MSG_WAITALL):
        order, fds, _, _ = socket.recv_fds(orders, 1, 4)
        while len(order) < int.from_bytes(size, "big"):
            order += orders.recv(_MOST)
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            orders.close()
            _wait_for(order, fds)
        for fd in fds:
            os.close(fd)


def _wait_for(order: bytes, fds: Sequence[int]) -> NoReturn:
    child = os.fork()
    if child == 0:
        os.close(fds[3])
        _become(*json.loads(order), fds)
    _, status = os.waitpid(child, 0)
    os.write(fds[3], str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def _become(
    arguments: list[str], folder: str, environment: dict[str, str], fds: Sequence[int]
) -> NoReturn:
    from dee_es.cli import main

    for number, fd in enumerate(fds[:3]):
        os.dup2(fd, number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    sys.argv = ["dee", *arguments]
    code: object = 0
    try:
        main()
    except SystemExit as ended:
        code = ended.code
    except BaseException:
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
        code = 1
    if isinstance(code, str):
        sys.stderr.write(f"{code}\n")
        code = 1
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    # What was registered for the end belongs to this process as well.
    atexit._run_exitfuncs()
    os._exit(code if isinstance(code, int) else 0)


def prepare() -> None:
    """Import all that a command may need."""
    import dee_es.bootstrap
    import dee_es.cli.commands as commands

    for module in pkgutil.iter_modules(commands.__path__):
        importlib.import_module(f"dee_es.cli.commands.{module.name}")
    for name in ("sqlite", "postgres"):
        importlib.import_module(f"dee_es.adapters.storage.{name}")
    assert dee_es.bootstrap.Engine


def main() -> None:
    """Get ready, then serve."""
    prepare()
    with socket.socket(fileno=int(sys.argv[1])) as orders:
        _serve(orders)


if __name__ == "__main__":
    main()
