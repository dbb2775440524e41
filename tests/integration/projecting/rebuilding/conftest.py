"""Databases for rebuilds: an empty one, and one whose log has something of everything."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from dee_es import Engine
from dee_es.adapters.channels.memory import MemoryChannel
from tests.support.engines import database_url, fickle
from tests.support.runs.busy import keep_busy, prepare
from tests.support.storage.originals import Originals
from tests.support.versions.code import engine_with
from tests.support.versions.rebuilding import DISK, Place


@pytest.fixture(params=DISK)
def place(
    request: pytest.FixtureRequest, tmp_path: Path, fresh_postgres: Callable[[], str]
) -> Iterator[Place]:
    url = database_url(request.param, tmp_path, fresh_postgres)
    place = Place(request.param, url, tmp_path)
    yield place
    place.close()


def _fill(url: str, folder: Path) -> None:
    with engine_with(url, folder / "keys.db", channel=MemoryChannel(fickle)) as engine:
        prepare(engine)
        keep_busy(engine, 600, seed=1)


@pytest.fixture(scope="session")
def busy(tmp_path_factory: pytest.TempPathFactory, postgres_url: str) -> Iterator[Originals[None]]:
    with closing(Originals(tmp_path_factory.mktemp("busy"), postgres_url, _fill)) as originals:
        yield originals


@pytest.fixture
def engine(place: Place, busy: Originals[None]) -> Iterator[Engine]:
    """An engine whose log has something of everything."""
    with busy.copied(place.kind, place.folder) as (place.url, _):
        yield place.open()
        place.close()
