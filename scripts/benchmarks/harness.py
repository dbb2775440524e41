"""What every measurement shares: a server, databases on it, engines on those, plans and people."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar

import psycopg

from dee_es import Contact, Engine, EngineConfig, ExecutionPlan, create_plan, steps
from dee_es.ports import Channel
from scripts.benchmarks.figures import Figure, latency, percentile, spread_of
from scripts.embedded_postgres import server_on

__all__ = [
    "Figure",
    "alone",
    "beside",
    "config_of",
    "contact",
    "drop_databases",
    "engine_in_memory",
    "engine_on",
    "is_sqlite",
    "latency",
    "new_database",
    "people",
    "percentile",
    "plan",
    "prepare",
    "settle",
    "spread_of",
    "workplace",
]

P = ParamSpec("P")
T = TypeVar("T")

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
_made: list[str] = []


@contextmanager
def workplace(url: str | None, keep: Path | None = None) -> Iterator[tuple[str, Path]]:
    """A database URL and a folder for the rest; without a URL, an embedded PostgreSQL is started.

    The server runs with its default settings: fsync on. What is in the folder `keep` stays there.
    """
    folder = Path(tempfile.mkdtemp(prefix="dee-bench-")) if keep is None else keep.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    server = None
    try:
        if url is None:
            server = server_on(folder / "pg")
            server.start()
            url = server.get_uri()
        yield url, folder
    except BaseException:
        _tell_log(folder / "pg" / "log")
        raise
    finally:
        if server is not None:
            server.cleanup()
        if keep is None:
            shutil.rmtree(folder, ignore_errors=True)


def _tell_log(log: Path) -> None:
    """What the server said last: if it went away, it may say why."""
    if log.exists():
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        told = [line for line in lines if "checkpoint" not in line][-12:]
        print("The server's log ends with:", *told, sep="\n  ", file=sys.stderr)


def is_sqlite(url: str) -> bool:
    """Whether this is measured on SQLite, where peers and limits that need a server stay away."""
    return url.startswith("sqlite")


def new_database(url: str, name: str) -> str:
    """Make an empty database beside the one given; returns its URL."""
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(f'CREATE DATABASE "{name}"'.encode())
    _made.append(name)
    return beside(url, name)


def drop_databases(url: str) -> None:
    """Give back the room of the databases that were made here; others are left alone."""
    if is_sqlite(url) or not _made:
        return
    with psycopg.connect(url, autocommit=True) as admin:
        while _made:
            admin.execute(f'DROP DATABASE IF EXISTS "{_made.pop()}" WITH (FORCE)'.encode())


def config_of(
    url: str,
    folder: Path,
    name: str,
    *,
    personal_data: Literal["encrypted", "off"] = "encrypted",
    create: bool = False,
    partition: tuple[int, int] = (0, 1),
) -> EngineConfig:
    """The settings of an engine on the database of this name."""
    return EngineConfig(
        f"sqlite:///{folder / name}.db" if is_sqlite(url) else beside(url, name),
        keys=f"sqlite:///{folder / name}.keys.db",
        clock="manual",
        epoch=EPOCH,
        outbox=str(folder / f"{name}.outbox"),
        personal_data=personal_data,
        create=create,
        partition=partition,
    )


@contextmanager
def engine_on(
    url: str,
    folder: Path,
    name: str,
    personal_data: Literal["encrypted", "off"] = "encrypted",
    channels: Mapping[str, Channel] | None = None,
) -> Iterator[Engine]:
    """An engine on a new, empty database beside the one given."""
    if not is_sqlite(url):
        new_database(url, name)
    config = config_of(url, folder, name, personal_data=personal_data, create=True)
    with Engine(config, channels=channels) as engine:
        _furnish(engine)
        yield engine


@contextmanager
def engine_in_memory() -> Iterator[Engine]:
    """An engine on no database, to see what the rest of it takes."""
    with Engine(EngineConfig(":memory:", clock="manual", epoch=EPOCH)) as engine:
        _furnish(engine)
        yield engine


def _furnish(engine: Engine) -> None:
    engine.publish_template("hello", text="Hello {{contact.firstName}}")
    engine.publish_sender(address="team@example.com")


def prepare(url: str, folder: Path, name: str) -> None:
    """A new database as `engine_on` has it, for an engine of another process."""
    with engine_on(url, folder, name):
        pass


def alone(work: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
    """What a function of a module comes to in a process of its own, as peers have one: where much
    was done before, memory is in pieces, and whatever takes new one is slower."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(work, *args, **options).result()


def beside(url: str, name: str) -> str:
    """URL of another database on the same server."""
    base, _, query = url.partition("?")
    return base.rpartition("/")[0] + f"/{name}" + (f"?{query}" if query else "")


def settle(url: str, name: str) -> None:
    """Let a PostgreSQL database that was just filled do its housekeeping now, not while something
    is measured on it."""
    if is_sqlite(url):
        return
    with psycopg.connect(beside(url, name), autocommit=True) as admin:
        admin.execute("VACUUM (ANALYZE)")
        admin.execute("CHECKPOINT")


def plan(name: str) -> ExecutionPlan:
    """Send, wait, branch, send, end."""
    return create_plan(
        id=name,
        name=name,
        steps=[
            steps.send_email("first", "hello", "Hello"),
            steps.wait("rest", {"days": 3}),
            steps.branch(
                "answer",
                [
                    {"when": 'events.hasReply("first")', "goto": "won"},
                    {"when": "default", "goto": "second"},
                ],
            ),
            steps.end("won", "replied"),
            steps.send_email("second", "hello", "Hello again"),
            steps.end("lost", "silent"),
        ],
    )


def people(count: int, first: int = 0) -> Iterator[dict[str, str]]:
    """Contacts with an address and a telephone number of their own, and two attributes."""
    for n in range(first, first + count):
        yield person(n)


def person(n: int) -> dict[str, str]:
    """One of them."""
    return {
        "id": f"contact_{n}",
        "email": f"contact_{n}@example.com",
        "phone": f"+1555{n:07d}",
        "firstName": f"Name{n}",
        "company": "Example Ltd",
    }


def contact(n: int) -> Contact:
    """The same as `execute` takes it."""
    values: dict[str, Any] = person(n)
    return Contact(**values)
