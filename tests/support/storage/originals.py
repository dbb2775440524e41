"""Databases that take long to make: made once for each backend on disk, copied for each test."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Generic, TypeVar

from tests.support.engines import database_url
from tests.support.storage.postgres import new_database

Told = TypeVar("Told")


class Originals(Generic[Told]):
    """The databases that `make` fills, of which it may tell something; it leaves none open.

    It is given a database's URL and a folder for all that belongs to it, such as keys.
    """

    def __init__(self, folder: Path, postgres_url: str, make: Callable[[str, Path], Told]) -> None:
        self._folder = folder
        self._server = postgres_url
        self._make = make
        self._made: dict[str, tuple[str, Path, Told]] = {}
        self._stack = ExitStack()

    @contextmanager
    def copied(self, kind: str, folder: Path) -> Iterator[tuple[str, Told]]:
        """A copy, with what belongs to it in `folder`: its URL, and what was told."""
        url, original, told = self._made.get(kind) or self._new(kind)
        shutil.copytree(original, folder, dirs_exist_ok=True)
        with ExitStack() as stack:
            yield (
                database_url(
                    kind,
                    folder,
                    lambda: stack.enter_context(new_database(self._server, like=url)),
                ),
                told,
            )

    def _new(self, kind: str) -> tuple[str, Path, Told]:
        folder = self._folder / kind
        folder.mkdir()
        url = database_url(
            kind, folder, lambda: self._stack.enter_context(new_database(self._server))
        )
        self._made[kind] = url, folder, self._make(url, folder)
        return self._made[kind]

    def close(self) -> None:
        """Drop them."""
        self._stack.close()
