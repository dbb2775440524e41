"""Key stores under a master key in a file, whose pages are small."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dee_es.adapters.keys import (
    FileHolder,
    ManagedKeys,
    create_master_key,
    memory,
    postgres,
    rotation,
    sqlite,
)
from tests.support.storage.keys import KeyPlace
from tests.support.storage.postgres import FreshPostgres


@pytest.fixture(autouse=True)
def _pages_of_three(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (memory, postgres, rotation, sqlite):
        monkeypatch.setattr(module, "PAGE", 3)
    for module in (postgres, sqlite):
        monkeypatch.setattr(module, "CATCH_UP", 5)


@pytest.fixture
def holder(tmp_path: Path) -> FileHolder:
    """A master key in a file."""
    create_master_key(tmp_path / "master")
    return FileHolder(tmp_path / "master")


@pytest.fixture
def keys(place: KeyPlace, holder: FileHolder) -> ManagedKeys:
    """A new key store; on disk under a master key in a file."""
    place.master = holder
    return place.open()


@pytest.fixture
def another(disk_place: KeyPlace, tmp_path: Path, fresh_postgres: FreshPostgres) -> KeyPlace:
    """Another, empty place of the same kind, under the same master key."""
    kind = disk_place.backend.kind
    address = str(tmp_path / "again.db") if kind == "sqlite" else fresh_postgres()
    return KeyPlace(replace(disk_place.backend, address=address), disk_place.master)
