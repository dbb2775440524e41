"""Folders, and whatever else fsspec has a name for, as places for files about the log."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Final

import fsspec

from dee_es.errors import AnchorUnavailable, InvalidInput, OutputExists

_CREDENTIALS: Final = re.compile(r"(?<=//)[^/]*@")
_PIECE: Final = 1 << 20
_PATIENCE_S: Final = 2.0
"""How long somebody else may write the same file: a checkpoint takes no time, an export may."""
_PAUSE_S: Final = 0.02


class FilePlace:
    """A `Place` in a folder, or under a URL such as `s3://bucket/path`; the files that are `kept`
    from it are never written over, nor made. Errors name it with `kind` before its address."""

    def __init__(self, url: str, kept: Collection[Path] = (), kind: str = "") -> None:
        self._kept = kept
        self.address = kind + _CREDENTIALS.sub("", url)
        with self._bounded():
            # Typed by nobody: fsspec has no annotations.
            filesystem, path = fsspec.core.url_to_fs(url)
            self._files: Any = filesystem
            self._folder = str(path).rstrip("/") or "/"
            self.local = "file" in _protocols(filesystem)

    def write(self, name: str, content: Iterable[bytes], *, replace: bool = True) -> None:
        """See `Place.write`."""
        # In a folder, whether it is there is asked once nobody else writes it.
        self.require_free(name, replace=replace or self.local)
        with self._bounded():
            self._files.makedirs(self._folder, exist_ok=True)
            if self.local:
                try:
                    _write_durably(self._folder, name, content, replace)
                except FileExistsError:
                    raise self._there(name) from None
                return
            # Object stores show a file only when all of it is there; without a transaction, closing
            # one after a failure would count as that.
            with self._files.transaction, self._files.open(self._path(name), "wb") as file:
                for piece in content:
                    file.write(piece)

    def require_free(self, name: str, *, replace: bool) -> None:
        """See `Place.require_free`."""
        path = f"{self._folder}/{name}"
        if self.local and any(_same(path, each) for each in self._kept):
            raise InvalidInput(path, "the settings name this file for something else; name another")
        if not replace and (os.path.lexists(path) if self.local else self.exists(name)):
            if self.local:
                _forget(f"{self._folder}/.{name}.part")
            raise self._there(name)

    def read(self, name: str) -> Iterator[bytes]:
        """See `Place.read`."""
        with self._bounded(), self._files.open(self._path(name), "rb") as file:
            while piece := file.read(_PIECE):
                yield bytes(piece)

    def exists(self, name: str) -> bool:
        """See `Place.exists`."""
        with self._bounded():
            self._files.invalidate_cache(self._folder)
            return bool(self._files.exists(self._path(name)))

    def names(self) -> list[str]:
        """See `Place.names`."""
        with self._bounded():
            self._files.invalidate_cache(self._folder)
            if not self._files.exists(self._folder):
                return []
            paths = self._files.ls(self._folder, detail=False)
        return sorted(str(path).rsplit("/", 1)[-1] for path in paths)

    def _there(self, name: str) -> OutputExists:
        return OutputExists(f"{self.address.rstrip('/')}/{name}: is there already")

    def _path(self, name: str) -> str:
        if not name or "/" in name or name.startswith("."):
            raise ValueError(f"not a plain file name: {name!r}")
        return f"{self._folder.rstrip('/')}/{name}"

    @contextmanager
    def _bounded(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ImportError) as error:
            said = error.strerror if isinstance(error, OSError) else str(error)
            said = said or type(error).__name__
            # Of a package that is missing, fsspec says which one.
            raise AnchorUnavailable(f"{self.address}: {said}") from error
        except ValueError as error:
            # What fsspec raises for a protocol that it does not know, among others.
            raise AnchorUnavailable(f"{self.address}: is not a place for files") from error


def _protocols(filesystem: Any) -> tuple[str, ...]:
    names = filesystem.protocol
    return (names,) if isinstance(names, str) else tuple(names)


def _same(path: str, other: Path) -> bool:
    """Whether both mean one file, by whatever links, even if it is not there yet."""
    try:
        return os.path.samefile(path, other)
    except OSError:
        return os.path.realpath(path) == os.path.realpath(other)


def _write_durably(folder: str, name: str, content: Iterable[bytes], replace: bool) -> None:
    """Write aside and rename, so that nobody ever reads half a file, and not even a power cut
    leaves one. What a killed process left aside is written over."""
    aside, path = f"{folder}/.{name}.part", f"{folder}/{name}"
    with _alone(aside) as file:
        try:
            if not replace and os.path.lexists(path):
                raise FileExistsError
            file.truncate()
            for piece in content:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
            if replace:
                os.replace(aside, path)
            else:
                # Unlike a renaming, this fails if somebody has made one in the meantime.
                os.link(aside, path)
                os.unlink(aside)
        except BaseException:
            with suppress(OSError):
                os.unlink(aside)
            raise
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _alone(path: str) -> Iterator[BinaryIO]:
    """The file, made for its owner only, while nobody else writes it; raises `OSError`, also for a
    link, which would say what is written over."""
    name = os.path.basename(path).removeprefix(".").removesuffix(".part")
    while True:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600), "wb") as file:
            if not locked(file.fileno(), _PATIENCE_S):
                raise BlockingIOError(errno.EAGAIN, f"{name} is being written by another process")
            if _is_there_alone(file.fileno(), path):
                yield file
                return


def _forget(aside: str) -> None:
    """Take away the other name of a finished file, which whoever was killed just then has left; not
    while somebody writes under it."""
    with suppress(OSError), open(os.open(aside, os.O_WRONLY | os.O_NOFOLLOW), "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _is_there_alone(file.fileno(), aside)


def locked(descriptor: int, patience_s: float) -> bool:
    """Have what is open to ourselves until it is closed; false if others keep it for that long."""
    until = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                return False
            time.sleep(_PAUSE_S)
        else:
            return True


def _is_there_alone(descriptor: int, path: str) -> bool:
    """Whether the open file, which is locked, is the one under this name, and under no other."""
    found = os.fstat(descriptor)
    try:
        # Whoever had it before may have put it in its place since it was opened here.
        if not os.path.samestat(found, os.stat(path)):
            return False
    except FileNotFoundError:
        return False
    if found.st_nlink > 1:
        # Somebody was killed between giving it its name and taking this one: it is a finished file.
        os.unlink(path)
        return False
    os.fchmod(descriptor, 0o600)
    return True
