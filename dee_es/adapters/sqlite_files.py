"""What every SQLite file of ours has in common."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from contextlib import suppress
from typing import Final

from dee_es.errors import StoreUnavailable

_PAUSE_S: Final = 0.01
_IO: Final = "disk I/O error"
_FULL: Final = "database or disk is full"
_NO_ENTRY: Final = ("unable to open database file", "attempt to write a readonly database")


def whole_path(path: str) -> str:
    """The path from the root on. Its dots stay: what `..` behind a link means the system knows."""
    # Whoever names it in full does not need the folder to be there that he stands in.
    return path if os.path.isabs(path) else os.path.join(os.getcwd(), path)


def make_own(path: str | os.PathLike[str]) -> None:
    """Make the file for its owner only, if it is not there, before SQLite makes it for everybody;
    those that SQLite lays beside it are as it is. Where it cannot be made, SQLite says so."""
    with suppress(OSError):
        # At the end of a link, as SQLite does it.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        os.close(os.open(os.path.realpath(path), flags, 0o600))


class OpenedFile:
    """A file by its name, and whether that still means the file that was opened first.

    What is written to a file that was deleted or replaced meanwhile is lost when the process ends,
    and SQLite does not say so of one with a write-ahead log.
    """

    def __init__(self, path: str) -> None:
        self._given = path
        self.path = whole_path(path)
        """Means the same file after the process has gone to another folder."""
        self._opened: os.stat_result | None = None

    def make(self) -> None:
        """Make it if it is not there; in the place of one that was opened nothing is made."""
        if self._opened is None:
            make_own(self.path)

    def note(self) -> None:
        """Remember which file it is, once somebody has opened it."""
        if self._opened is None:
            try:
                self._opened = os.stat(self.path)
            except OSError as error:
                raise StoreUnavailable(f"{self._given}: {error.strerror}") from error

    def require(self) -> None:
        """Raises `StoreUnavailable` if the name has come to mean another file, or none."""
        if self._opened is None:
            return
        try:
            same = os.path.samestat(os.stat(self.path), self._opened)
        except OSError:
            same = False
        if not same:
            raise StoreUnavailable(
                f"{self._given}: the file was deleted or replaced while it was open here; put it "
                "back, and start this process again"
            )


def told_of_file(path: str | os.PathLike[str], error: Exception) -> str:
    """What SQLite says; of what the file system has refused, with the cause and the remedy that it
    keeps to itself."""
    told = str(error)
    if told in (_IO, _FULL):
        return _of_disk(path, told)
    return _of_entry(path, told) if told.startswith(_NO_ENTRY) else told


def _of_entry(path: str | os.PathLike[str], told: str) -> str:
    """Why a file cannot be opened, or not be written."""
    folder = os.path.dirname(os.path.realpath(path))
    if os.path.isdir(path):
        return f"{told}, since it is a folder: name a file"
    if not os.path.isdir(folder):
        return f"{told}, since there is no folder {os.path.dirname(path)}: make it first"
    if os.access(folder, os.W_OK) and (not os.path.exists(path) or os.access(path, os.W_OK)):
        return told
    return (
        f"{told}, since it or its folder cannot be written, which SQLite needs to read it, too: "
        "copy it, with the files beside it, to a folder of your own"
    )


def _of_disk(path: str | os.PathLike[str], told: str) -> str:
    """What is wrong with the disk, with the room that there is.

    A full disk is told in two ways: of the file itself as such, and of the small ones that SQLite
    lays beside it, also in order to read it, as an error of the disk.
    """
    try:
        left = shutil.disk_usage(os.path.dirname(os.path.realpath(path))).free
        free = f", with {_size(left)} free on its disk"
    except OSError:
        free = ""
    if told == _FULL:
        return f"{told}{free}: make room there, or raise the quota, then try again"
    return (
        f"{told}{free}: make room if that is too little, since SQLite writes beside a file even to "
        "read it; else see what the system says of the disk"
    )


def _size(size: float) -> str:
    for unit in ("KiB", "MiB", "GiB"):
        size /= 1024
        if size < 1024:
            return f"{size:.1f} {unit}"
    return f"{size / 1024:.1f} TiB"


def is_busy(error: sqlite3.OperationalError) -> bool:
    """Whether another connection is in the way."""
    # The lowest byte of a code says what it is about, the rest why.
    return error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY


def write_ahead(connection: sqlite3.Connection, timeout_s: float) -> None:
    """Switch the file to a write-ahead log, waiting for others that open it as well.

    SQLite itself gives up at once, whatever its busy timeout, when several connections switch
    a new file at the same moment. Raises `sqlite3.OperationalError` after `timeout_s` seconds.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if not is_busy(error) or time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE_S)
