"""Every contract test runs on every backend. One that cannot be had fails; none is skipped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dee_es.ports import EventStore, Views
from tests.support.storage.backends import Backend, Kind, Opened
from tests.support.storage.keys import KeyPlace


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    """An empty database of each kind."""
    yield from _backend(request.param, request, tmp_path)


@pytest.fixture(params=["sqlite", "postgres"])
def disk_backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    """An empty database of each kind that several may open."""
    yield from _backend(request.param, request, tmp_path)


@pytest.fixture(params=["sqlite", "postgres"])
def bare_backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    """The same before anybody has opened it: there are no tables yet."""
    yield from _backend(request.param, request, tmp_path, "empty_postgres")


def _backend(
    kind: Kind,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    postgres: str = "fresh_postgres",
) -> Iterator[Backend]:
    address = ""
    if kind == "sqlite":
        address = str(tmp_path / "dee.db")
    elif kind == "postgres":
        address = request.getfixturevalue(postgres)()
    backend = Backend(kind, address)
    yield backend
    backend.close()


@pytest.fixture
def opened(backend: Backend) -> Opened:
    """The store and the views of one database."""
    return backend.open()


@pytest.fixture
def store(opened: Opened) -> EventStore:
    """An empty event store."""
    return opened[0]


@pytest.fixture
def views(opened: Opened) -> Views:
    """Views beside the event store, without any table yet."""
    return opened[1]


@pytest.fixture
def place(backend: Backend) -> Iterator[KeyPlace]:
    """A place for keys of each kind."""
    place = KeyPlace(backend)
    yield place
    place.close()


@pytest.fixture
def disk_place(disk_backend: Backend) -> Iterator[KeyPlace]:
    """A place for keys of each kind that outlives the process."""
    place = KeyPlace(disk_backend)
    yield place
    place.close()
