"""Which database a URL means, and whether there is one."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from msgspec import Struct

from dee_es.config import EngineConfig
from dee_es.core.ids import SYSTEM_STREAM
from dee_es.errors import IntegrityViolation, InvalidInput, StoreUnavailable
from dee_es.ports import EventStore, ServerClock, StoredRow, Views

SQLITE: Final = "sqlite:///"
POSTGRES: Final = ("postgresql://", "postgres://")
MEMORY: Final = ":memory:"


def sqlite_path(url: str) -> Path | None:
    """The file of an `sqlite:///` URL; None for another kind of database."""
    return Path(url.removeprefix(SQLITE)) if url.startswith(SQLITE) else None


class OpenStore(Struct, frozen=True):
    """An open database: its kind, what it holds, and the clock of its server, if it has one."""

    kind: str
    store: EventStore
    views: Views
    clock: ServerClock | None = None


def open_store(config: EngineConfig) -> OpenStore:
    """Open the database; raises `InvalidInput` and `StoreUnavailable`."""
    url = config.database
    if url == MEMORY:
        from dee_es.adapters.storage.memory import open_memory

        return OpenStore("memory", *open_memory())
    if url.startswith(POSTGRES):
        from dee_es.adapters.storage.postgres import PostgresClock, open_postgres

        postgres, views = open_postgres(url)
        try:
            return OpenStore("postgresql", postgres, views, PostgresClock(postgres.database))
        except BaseException:
            postgres.close()
            raise
    path = sqlite_path(url)
    if path is None or not path.name or str(path) == MEMORY:
        raise bad_url()
    if not path.exists() and not config.create:
        raise StoreUnavailable(f"there is no database at {path}; make one with `dee init`")
    from dee_es.adapters.storage.sqlite import open_sqlite

    return OpenStore("sqlite", *open_sqlite(str(path)))


def bad_url() -> InvalidInput:
    """The error for a URL that means no database."""
    return InvalidInput("database", "must be sqlite:///FILE, postgresql://HOST/NAME or :memory:")


def first_entry(store: EventStore) -> list[StoredRow]:
    """The first entry of a log, if it has any; raises `IntegrityViolation` if only that is gone."""
    first = store.read_stream(SYSTEM_STREAM, 0, 1)
    if not first and store.log_head().position:
        # A head of the log without one: it may have been made between the two reads.
        first = store.read_stream(SYSTEM_STREAM, 0, 1)
        if not first:
            raise IntegrityViolation(
                f"{SYSTEM_STREAM} entry 1 (position 1) is missing: the log has lost its beginning"
            )
    return first


def is_initialised(config: EngineConfig) -> bool:
    """Whether there is a database that is ready for use; no file is made to find out."""
    path = sqlite_path(config.database)
    if path is not None and not path.exists():
        return False
    store = open_store(config).store
    try:
        return bool(first_entry(store))
    finally:
        store.close()
