"""Stops a server and removes its folder once whoever had it made has ended, however that came.

    python janitor.py FOLDER      (waits until its input ends, which a killed process's does, too)

A process that was killed cleans up nothing, and a server goes on without it, in memory.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def janitor(folder: Path) -> Iterator[None]:
    """One for this folder, which is gone at the end."""
    # In a session of its own: a Ctrl-C for the tests is none for it.
    command = [sys.executable, "-S", "-E", __file__, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True):
        yield


def _main(folder: Path) -> None:
    sys.stdin.read()
    pid_file = folder / "data" / "postmaster.pid"
    # Whoever comes late finds neither the file nor the process.
    with suppress(FileNotFoundError, ProcessLookupError):
        os.kill(int(pid_file.read_text(encoding="utf-8").split()[0]), signal.SIGQUIT)
        while pid_file.exists():
            time.sleep(0.01)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
