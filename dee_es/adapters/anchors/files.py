"""Checkpoints as files, one for each size, in a folder or in any store that fsspec reaches."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import fsspec

from dee_es.errors import AnchorUnavailable, IntegrityViolation

_NAME: Final = re.compile(r"checkpoint-(\d{20})\.txt")
_CREDENTIALS: Final = re.compile(r"(?<=//)[^/@]*@")


def file_name(size: int) -> str:
    """The name of a checkpoint's file; names sort by size."""
    return f"checkpoint-{size:020d}.txt"


class FileAnchor:
    """An `Anchor` in a folder, or under a URL such as `s3://bucket/path`."""

    def __init__(self, url: str) -> None:
        self.place = _CREDENTIALS.sub("", url)
        with self._bounded():
            # Typed by nobody: fsspec has no annotations.
            filesystem, path = fsspec.core.url_to_fs(url)
            self._files: Any = filesystem
            self._folder = str(path).rstrip("/")
            self._local = "file" in _protocols(filesystem)

    def put(self, size: int, note: str) -> None:
        """See `Anchor.put`."""
        with self._bounded():
            self._files.makedirs(self._folder, exist_ok=True)
            path = f"{self._folder}/{file_name(size)}"
            if self._files.exists(path):
                if self._read(path) != note:
                    raise IntegrityViolation(
                        f"{self.place} holds another checkpoint of {size:,} entries; "
                        "one of the two logs is a fork"
                    )
                return
            if self._local:
                _write_durably(self._folder, path, note.encode())
            else:
                # Object stores show a file only when all of it is there.
                self._files.pipe_file(path, note.encode())

    def notes(self) -> Iterator[tuple[int, str]]:
        """See `Anchor.notes`."""
        with self._bounded():
            if not self._files.exists(self._folder):
                return
            self._files.invalidate_cache(self._folder)
            paths = self._files.ls(self._folder, detail=False)
        sizes = (_NAME.fullmatch(str(path).rsplit("/", 1)[-1]) for path in paths)
        for size in sorted((int(found[1]) for found in sizes if found), reverse=True):
            with self._bounded():
                note = self._read(f"{self._folder}/{file_name(size)}")
            yield size, note

    def _read(self, path: str) -> str:
        return bytes(self._files.cat_file(path)).decode("utf-8", "replace")

    @contextmanager
    def _bounded(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError, ImportError) as error:
            kind = type(error).__name__
            said = error.strerror if isinstance(error, OSError) and error.strerror else kind
            raise AnchorUnavailable(f"{self.place}: {said}") from error


def _protocols(filesystem: Any) -> tuple[str, ...]:
    names = filesystem.protocol
    return (names,) if isinstance(names, str) else tuple(names)


def _write_durably(folder: str, path: str, content: bytes) -> None:
    """Write aside and rename, so that nobody ever reads half a file, and not even a power cut
    leaves one."""
    aside = f"{folder}/.{os.path.basename(path)}.{os.getpid()}"
    with open(aside, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, path)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
