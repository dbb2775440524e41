"""Backups of a key store: an SQLite file of mode 0600 with the wrapped keys as of one moment."""

from __future__ import annotations

import fcntl
import hashlib
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote

import msgspec

from dee_es.adapters.keys.cipher import KEY_ID_BYTES, Wrapper
from dee_es.adapters.keys.key_table import KeyTable, Row, Snapshot, TableState
from dee_es.adapters.keys.master import sync_directory
from dee_es.adapters.keys.sqlite import COUNTS, INSERT, SCHEMA, SET_META, meta, pages, state
from dee_es.adapters.sqlite_files import told_of_file, whole_path
from dee_es.errors import ConcurrencyConflict, IntegrityViolation, InvalidInput, StoreUnavailable
from dee_es.ports.keys import LastBackup, OnKeys

FORMAT: Final = "dee-keys/1"
NOTE: Final = "last_backup"
# The file is written once, by one process, and counts only after it was read back.
_PRAGMAS: Final = "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;"
_TABLES: Final = """
SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name IN ('keys', 'key_meta')
"""
_WHOLE: Final = "PRAGMA integrity_check(1)"


class Label(msgspec.Struct, frozen=True):
    """What a backup says about itself."""

    format: str
    taken_ms: int
    of: str
    rows: bytes | None = None
    """Digest of all rows in order of their ids; backups of former versions have none."""


def write_backup(
    table: KeyTable, wrapper: Wrapper, path: Path, now_ms: int, on_progress: OnKeys | None
) -> LastBackup:
    """Copy the store as of now to the file, which replaces an earlier backup there at once.

    Raises `InvalidInput` if something else is there or the file cannot be written, and
    `ConcurrencyConflict` while another backup is written there or if the master key is replaced
    meanwhile; the file is then as it was.
    """
    if os.path.exists(path) and _label(path) is None:
        raise InvalidInput("backup file", f"{path} is there and is no backup of keys; name another")
    with _part_of(path) as part:
        with table.snapshot() as snapshot:
            label = Label(FORMAT, now_ms, table.where)
            written = _write(part, snapshot, label, on_progress)
            taken = snapshot.opening.state
        _read_back(part, wrapper, written)
        if table.state().generation != taken.generation:
            raise ConcurrencyConflict(
                f"{table.where}: the master key was rotated meanwhile; make the backup again"
            )
        os.replace(part, path)
        sync_directory(path.parent)
    with closing(_connect(path)) as connection:
        held, destroyed = connection.execute(COUNTS).fetchone()
    made = LastBackup(now_ms, str(path), held, destroyed, taken.generation)
    table.set_note(NOTE, msgspec.json.encode(made))
    return made


@contextmanager
def _part_of(path: Path) -> Iterator[Path]:
    """A file beside, empty and only for this process; what a process that died left is reused."""
    part = path.with_name(f".{path.name}.part")
    try:
        while True:
            descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is(part, descriptor):
                    break
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)  # another backup has just been finished under this name
    except BlockingIOError:
        raise ConcurrencyConflict(f"another backup is being written to {path}") from None
    except OSError as error:
        raise InvalidInput("backup file", f"{path} cannot be written: {error.strerror}") from error
    try:
        os.fchmod(descriptor, 0o600)
        os.ftruncate(descriptor, 0)
        yield part
    except BaseException:
        if _is(part, descriptor):
            part.unlink()
        raise
    finally:
        os.close(descriptor)


def _is(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _write(part: Path, snapshot: Snapshot, label: Label, on_progress: OnKeys | None) -> bytes:
    """Fill the file; returns the digest of all rows."""
    opening = snapshot.opening
    assert opening.secret is not None, "an open store has its secret"
    digest, done = hashlib.sha256(), 0
    with _bounded(part), closing(sqlite3.connect(part, isolation_level=None)) as connection:
        connection.executescript(_PRAGMAS)
        connection.executescript(SCHEMA)
        connection.execute("BEGIN")
        for page in snapshot.pages:
            connection.executemany(INSERT, page)
            _digest(digest, page)
            done += len(page)
            if on_progress is not None:
                on_progress(done, snapshot.total)
        connection.execute(SET_META, ("secret", opening.secret))
        connection.execute(SET_META, ("destroyed", opening.state.destroyed))
        connection.execute(SET_META, ("generation", opening.state.generation))
        label = msgspec.structs.replace(label, rows=digest.digest())
        connection.execute(SET_META, ("backup", msgspec.json.encode(label)))
        connection.execute("COMMIT")
    with _bounded(part), open(part, "rb") as file:
        os.fsync(file.fileno())
    return digest.digest()


def _read_back(part: Path, wrapper: Wrapper, written: bytes) -> None:
    digest = hashlib.sha256()
    with _bounded(part):
        backup = BackupFile(part, wrapper)
        with closing(backup):
            for page in backup.verified():
                _digest(digest, page)
    if digest.digest() != written:
        raise IntegrityViolation(f"{part}: what was read back is not what was written")


def _digest(digest: hashlib._Hash, rows: Iterable[Row]) -> None:
    for key_id, wrapped in rows:
        digest.update(key_id)
        digest.update(wrapped if wrapped is not None else b"-")
        digest.update(b"\n")


class BackupFile:
    """A backup, opened for reading; a plain copy of a key store's file will do, too."""

    def __init__(self, path: Path, *wrappers: Wrapper) -> None:
        """Raises `InvalidInput` if it is no backup, or if none of the master keys opens it."""
        self._path = path
        # Unlike the method of paths, this takes a name that cannot be for one that is not there.
        if not os.path.exists(path):
            raise InvalidInput("backup file", f"there is no {path}")
        with ExitStack() as undo:
            try:
                self._connection = undo.enter_context(closing(_connect(path)))
                if self._connection.execute(_TABLES).fetchone() != (2,):
                    raise ValueError("something else stands in the place of its tables")
                secret = meta(self._connection, "secret")
                self.state: TableState = state(self._connection)
                held, destroyed = self._connection.execute(COUNTS).fetchone()
                text = meta(self._connection, "backup")
                label = None if text is None else msgspec.json.decode(text, type=Label)
            except (sqlite3.Error, msgspec.DecodeError, TypeError, ValueError, OverflowError):
                # What SQLite says of a damaged file may quote what it could not read.
                raise InvalidInput("backup file", f"{path} is no backup of keys") from None
            self._written: bytes | None = None if label is None else label.rows
            self.total: int = held + destroyed
            for wrapper in wrappers:
                opened = None if secret is None else wrapper.unwrap_secret(secret)
                if opened is not None:
                    self.wrapper, self.secret = wrapper, opened
                    undo.pop_all()
                    return
            raise InvalidInput(
                "backup file",
                f"{path} was made under another master key: name the file that holds that one",
            )

    def verified(self) -> Iterator[list[Row]]:
        """All rows, in pages, each of which must open; at the end they must be all that there were.

        Raises `IntegrityViolation` naming the first key that does not open.
        """
        digest = hashlib.sha256()
        if self._written is None:
            self._require_whole()
        for page in self._pages():
            for key_id, wrapped in page:
                if not _is_id(key_id):
                    raise IntegrityViolation(f"{self._path}: a row has no key's id; it is damaged")
                if wrapped is not None and not self._opens(key_id, wrapped):
                    raise IntegrityViolation(
                        f"{self._path}: key {key_id.hex()} is not what was stored there"
                    )
            _digest(digest, page)
            yield page
        if self._written is not None and digest.digest() != self._written:
            raise IntegrityViolation(
                f"{self._path}: its rows are not those that were written; it is damaged"
            )

    def _opens(self, key_id: bytes, wrapped: object) -> bool:
        return isinstance(wrapped, bytes) and self.wrapper.unwrap(key_id, wrapped) is not None

    def _require_whole(self) -> None:
        """Of a file without a digest nothing but its pages says whether rows are missing."""
        try:
            found = self._connection.execute(_WHOLE).fetchone()
        except sqlite3.Error:
            found = None
        if found != ("ok",):
            raise IntegrityViolation(f"{self._path}: its pages do not add up; it is damaged")

    def _pages(self) -> Iterator[list[Row]]:
        try:
            yield from pages(self._connection)
        except sqlite3.Error:
            raise IntegrityViolation(f"{self._path}: cannot be read; it is damaged") from None

    def close(self) -> None:
        """Release the file."""
        self._connection.close()


def _is_id(key_id: object) -> bool:
    # A column of SQLite may hold whatever a damaged file says.
    return isinstance(key_id, bytes) and len(key_id) == KEY_ID_BYTES


def _connect(path: Path) -> sqlite3.Connection:
    # In full, since what follows two slashes is taken for the name of a host.
    name = f"file://{quote(whole_path(str(path)))}?mode=ro"
    return sqlite3.connect(name, uri=True, isolation_level=None)


def _label(path: Path) -> Label | None:
    """What the file says about itself; None if it is no backup."""
    try:
        with closing(_connect(path)) as connection:
            text = meta(connection, "backup")
        return None if text is None else msgspec.json.decode(text, type=Label)
    except (sqlite3.Error, msgspec.DecodeError):
        return None


@contextmanager
def _bounded(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StoreUnavailable(f"backup {path}: {told_of_file(path, error)}") from error
    except OSError as error:
        raise StoreUnavailable(f"backup {path}: {error.strerror}") from error
