"""Places for files that people name, which are never those that the settings name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from operator import attrgetter
from pathlib import Path
from typing import Final

from dee_es.bootstrap.channels import calls_path
from dee_es.bootstrap.databases import sqlite_path
from dee_es.bootstrap.evidence import signing_key_path
from dee_es.bootstrap.keys import keys_url, master_key_path
from dee_es.bootstrap.people import users_path
from dee_es.config import SETTINGS_FILE, EngineConfig
from dee_es.errors import InvalidInput
from dee_es.ports import Place, PlaceSource

_NAMED: Final[tuple[Callable[[EngineConfig], Path | str | None], ...]] = (
    lambda config: sqlite_path(config.database),
    lambda config: sqlite_path(keys_url(config)),
    calls_path,
    master_key_path,
    signing_key_path,
    users_path,
    *(attrgetter(each.name) for each in fields(EngineConfig) if each.name.endswith("_file")),
    lambda _: SETTINGS_FILE,
)
_BESIDE: Final = ("", "-wal", "-shm", "-journal", ".next", ".pub")
"""What lies beside some of them under the same name: SQLite's own files, a master key that is about
to replace the former one, and the public half of the key that signs."""


def own_files(config: EngineConfig) -> frozenset[Path]:
    """The files that the settings name, with those beside them, whether they are there or not."""
    found = [Path(path).absolute() for of in _NAMED if (path := _path(of, config)) is not None]
    return frozenset(path.with_name(path.name + more) for path in found for more in _BESIDE)


def _path(
    of: Callable[[EngineConfig], Path | str | None], config: EngineConfig
) -> Path | str | None:
    try:
        return of(config)
    except InvalidInput:
        return None  # the settings name none, and whoever needs one says so


def places_of(config: EngineConfig) -> PlaceSource:
    """The places behind folders and URLs; nothing there is written over a file of the settings."""
    kept = own_files(config)

    def place_at(url: str) -> Place:
        from dee_es.adapters.places import FilePlace

        return FilePlace(url, kept)

    return place_at
