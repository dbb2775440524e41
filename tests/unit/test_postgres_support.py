"""The test server itself: a real PostgreSQL 18, and databases that know nothing of each other."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from tests.support.storage.postgres import FreshPostgres, server_folder
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]


@pytest.fixture
def left_open() -> Iterator[ExitStack]:
    """Closes what a test left open; asked for first, it does so after the databases are dropped."""
    with ExitStack() as stack:
        yield stack


def test_server_is_postgresql_18(postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as connection:
        assert connection.info.server_version // 10_000 == 18


def test_a_lock_of_another_user_of_the_machine_keeps_nobody_out(tmp_path: Path) -> None:
    """A folder stands for it, which nobody can open as a file: to root, all files are open."""
    with server_folder() as folder:
        (folder / ".lockfile").mkdir()
        start = (
            "import sys; from pathlib import Path\n"
            "from tests.support.storage.postgres import start_server\n"
            "server = start_server(Path(sys.argv[1])); print(server.get_uri()); server.cleanup()"
        )
        done = subprocess.run(
            [sys.executable, "-c", start, folder],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": str(folder)},
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
    assert done.stderr == ""
    assert done.stdout.startswith("postgresql://")


def test_each_call_gives_another_empty_database(fresh_postgres: FreshPostgres) -> None:
    first, second = fresh_postgres(), fresh_postgres()
    with psycopg.connect(first) as connection:
        connection.execute("CREATE TABLE here (a integer)")
    with psycopg.connect(second) as connection:
        assert connection.execute("SELECT to_regclass('here')").fetchone() == (None,)


def test_database_is_dropped_while_somebody_is_connected(
    left_open: ExitStack, fresh_postgres: FreshPostgres
) -> None:
    connection = psycopg.connect(fresh_postgres())
    left_open.callback(connection.close)
    assert connection.execute("SELECT 1").fetchone() == (1,)


def _has_ended(pid: int) -> bool:
    """Whether the process is gone, or at least nothing but a number that nobody asked for yet."""
    try:
        return "State:\tZ" in Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except FileNotFoundError:
        return True


def test_a_killed_process_leaves_no_server_and_no_folder() -> None:
    starts_one = (
        "import time\n"
        "from tests.support.storage.postgres import server_folder, start_server\n"
        "with server_folder() as folder:\n"
        "    server = start_server(folder)\n"
        "    print(folder, flush=True)\n"
        "    time.sleep(3600)\n"
    )
    command = [sys.executable, "-c", starts_one]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        server = int((folder / "data" / "postmaster.pid").read_text().split()[0])
        assert not _has_ended(server)
        process.kill()
    eventually(lambda: not folder.exists(), "the folder is still there")
    eventually(lambda: _has_ended(server), "the server is still there")
