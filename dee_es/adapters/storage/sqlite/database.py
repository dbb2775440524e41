"""Connections to an SQLite file: the library's pool with the settings durability asks for."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import lru_cache
from operator import itemgetter
from typing import Any, Final

import msgspec
from eventsourcing.persistence import (
    ConnectionPoolClosedError,
    InterfaceError,
    OperationalError,
)
from eventsourcing.sqlite import SQLiteConnection, SQLiteConnectionPool, SQLiteDatastore

from dee_es.adapters.sqlite_files import OpenedFile, is_busy, make_own, told_of_file, write_ahead
from dee_es.adapters.storage.relational.session import Answer, Relation, Session, Values, quoted
from dee_es.adapters.storage.rules import claimed
from dee_es.errors import IntegrityViolation, StoreUnavailable, TableGone

_READERS: Final = 8
_UNDECODED: Final = "Could not decode to UTF-8"
_BUSY: Final = "database is locked"
_BYTES: Final = """
SELECT coalesce(sum(pgsize), 0) FROM dbstat
WHERE name IN (SELECT name FROM sqlite_master WHERE tbl_name IN ??)
"""

_FILE_BYTES: Final = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"
_SMALL: Final = 32 * 1024 * 1024
"""Bytes of a database whose pages are soon looked at."""


class SqliteDatabase(SQLiteDatastore):
    """Implements `Database` on the library's datastore. Do not fork while it is open."""

    now_ms: Final = "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"

    def __init__(self, path: str, *, lock_timeout_s: float) -> None:
        super().__init__(path, originator_id_type="text")
        self.pool.close()
        self._path = path
        self._opened = OpenedFile(path)
        self.pool = _Pool(self._opened, lock_timeout_s)
        # Whatever links lead to the database, what claims a name lies beside the database itself.
        self._file = os.path.realpath(path)
        self._lock_timeout_s = lock_timeout_s
        # SQLite lets one connection write and makes others poll; queueing here is fair and quicker.
        self._writer = threading.Lock()

    @contextmanager
    def get_connection(self, *, commit: bool = False) -> Iterator[SQLiteConnection]:
        """A pooled connection; the pool's own interlock of readers and writers is not used, since
        a writer that waits would hold up every reader."""
        self._opened.require()
        connection = self.pool.get_connection()
        try:
            yield connection
        finally:
            try:
                self.pool.put_connection(connection)
            except ConnectionPoolClosedError:
                connection.close()

    @contextmanager
    def appending(self, small: bool = False, makes_tables: bool = False) -> Iterator[Session]:
        """See `Database.appending`; neither makes a difference here."""
        with self._unavailable(), self._turn(), self.get_connection() as connection:
            cursor = _cursor(connection)
            # Whoever is interrupted while waiting for the lock hears of it when it has the lock.
            try:
                # A deferred transaction that reads before it writes fails at once when another
                # process has committed in between, whatever the timeout: take the write lock first.
                cursor.execute("BEGIN IMMEDIATE")
                yield SqliteSession(connection)
                cursor.execute("COMMIT")
            except BaseException:
                connection.rollback()
                raise

    @contextmanager
    def lasting(self, kept: bool = False) -> Iterator[Session]:
        """See `Database.lasting`: here one transaction writes at a time, whatever it is for, and
        all of them are kept."""
        with self.appending() as session:
            yield session

    @contextmanager
    def claim(self, name: str) -> Iterator[None]:
        """See `Database.claim`: a lock on a small file beside the database."""
        beside = f"{self._file}.{name}.claim"
        with ExitStack() as stack:
            try:
                make_own(beside)
                own = sqlite3.connect(beside, timeout=0, isolation_level=None)
                stack.enter_context(closing(own)).execute("BEGIN EXCLUSIVE")
            except sqlite3.OperationalError as error:
                if not is_busy(error):
                    raise StoreUnavailable(f"{beside}: {_told(beside, error)}") from error
                raise claimed(name) from None
            yield

    def settle(self, tables: Sequence[str]) -> None:
        """See `Database.settle`; statements here depend on no statistics."""

    def bytes_of(self, tables: Sequence[str], cheaply: bool = False) -> int | None:
        """See `Database.bytes_of`: every page of the tables is looked at."""
        if cheaply and self.query(_FILE_BYTES)[0][0] > _SMALL:
            return None
        try:
            return int(self.query(_BYTES, (list(tables),))[0][0])
        except TableGone:
            # Not every build of SQLite has this table of statistics.
            return None

    @contextmanager
    def snapshot(self, lasting: bool = False, lenient: bool = False) -> Iterator[Session]:
        """See `Database.snapshot`."""
        session = _LenientSession if lasting or lenient else SqliteSession
        with self._unavailable(), self.get_connection() as connection:
            try:
                _cursor(connection).execute("BEGIN")
                yield session(connection)
            finally:
                connection.rollback()

    def query(self, sql: str, params: Sequence[object] = ()) -> list[Any]:
        """See `Database.query`."""
        with self._unavailable(), self.get_connection() as connection:
            return _LenientSession(connection).ask(sql, params).fetchall()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._writer.acquire(timeout=self._lock_timeout_s):
            raise StoreUnavailable(
                f"{self._path}: another thread held the write lock for more than "
                f"{self._lock_timeout_s:g} s; try again"
            )
        try:
            yield
        finally:
            self._writer.release()

    @contextmanager
    def _unavailable(self) -> Iterator[None]:
        """Turn errors of the database into errors of ours; messages never hold values."""
        try:
            yield
        except (sqlite3.OperationalError, OperationalError, InterfaceError) as error:
            if str(error).startswith("no such table"):
                raise TableGone(f"{self._path}: {error}; see `dee projections status`") from error
            if str(error).startswith(_UNDECODED):
                # SQLite goes on with the value, and so would a traceback.
                told = str(error).partition(" with text")[0]
                raise StoreUnavailable(f"{self._path}: {told}; nothing was written") from None
            told = _told(self._path, error)
            raise StoreUnavailable(f"{self._path}: {told}; nothing was written") from error
        except ConnectionPoolClosedError as error:
            raise StoreUnavailable(f"{self._path}: the store is closed") from error
        except sqlite3.IntegrityError as error:
            raise IntegrityViolation(
                f"{self._path}: {error}; a table contradicts the log, nothing was written"
            ) from error
        except sqlite3.DatabaseError as error:
            if type(error) is not sqlite3.DatabaseError:
                raise
            # What SQLite says of a file that is damaged or none of its own.
            raise StoreUnavailable(f"{self._path}: {error}; restore it from a backup") from error


def _told(path: str, error: Exception) -> str:
    """What SQLite says, with the cause and the remedy that it keeps to itself."""
    if str(error) == _BUSY:
        return f"{error} by another process, which writes or hangs: let it go on, or end it"
    return told_of_file(path, error)


class _Pool(SQLiteConnectionPool):
    """Connections that wait a bounded time, and whose commits reach the disk."""

    def __init__(self, file: OpenedFile, lock_timeout_s: float) -> None:
        super().__init__(
            db_name=file.path,
            pool_size=_READERS,
            max_overflow=_READERS,
            pool_timeout=lock_timeout_s,
        )
        self._file = file
        self._lock_timeout_s = lock_timeout_s

    @staticmethod
    def detect_memory_mode(db_name: str) -> bool:
        """Never: whatever its name looks like, it is that of a file."""
        return False

    def _create_connection(self) -> SQLiteConnection:
        """As the library does it; but one that comes to nothing is closed, and others that make the
        file at this moment are waited for."""
        self._file.make()
        with ExitStack() as undo:
            raw = sqlite3.connect(
                self.db_name,
                timeout=self._lock_timeout_s,
                uri=True,
                check_same_thread=False,
                isolation_level=None,
            )
            undo.callback(raw.close)
            write_ahead(raw, self._lock_timeout_s)
            self._file.note()
            # The build's default may be NORMAL, which loses acknowledged commits with the power.
            raw.execute("PRAGMA synchronous = FULL")
            raw.execute("PRAGMA cache_size = -65536")  # KiB
            # Run ids are random, so a batch touches pages all over the file; writing each back
            # once for several batches makes bulk enrolment a quarter quicker. The log may grow to
            # 64 MiB.
            raw.execute("PRAGMA wal_autocheckpoint = 16384")
            raw.row_factory = sqlite3.Row
            undo.pop_all()
        return SQLiteConnection(raw, None)


@contextmanager
def _lenient(connection: SQLiteConnection) -> Iterator[None]:
    """Texts that are not UTF-8 are read with surrogates in them."""
    raw = _cursor(connection).connection
    raw.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
    try:
        yield
    finally:
        raw.text_factory = str


def _cursor(connection: SQLiteConnection) -> sqlite3.Cursor:
    cursor = connection.cursor().sqlite_cursor
    cursor.row_factory = None
    return cursor


class SqliteSession:
    """Implements `Session` on a connection with an open transaction."""

    def __init__(self, connection: SQLiteConnection) -> None:
        self._connection = connection

    def ask(self, sql: str, params: Sequence[object] = ()) -> Answer:
        """See `Session.ask`; the statement has run when this returns.

        Its rows are fetched at once: one that is not read to its end holds the moment it saw, and
        with it its connection, for as long as an error keeps it that came before its rows were.
        """
        bound = [_json(p) if isinstance(p, list) else p for p in params]
        return _Rows(_cursor(self._connection).execute(_translated(sql), bound).fetchall())

    def change(self, table: str, sql: str, params: Sequence[object]) -> None:
        """See `Session.change`."""
        self.ask(sql, params)

    def insert(self, relation: Relation, rows: Sequence[Values]) -> None:
        """See `Session.insert`."""
        self._many(_insert(relation), rows)

    def update(self, relation: Relation, rows: Sequence[Values]) -> None:
        """See `Session.update`."""
        self._many(_update(relation), map(_keys_last(relation), rows))

    def upsert(self, relation: Relation, rows: Sequence[Values]) -> None:
        """See `Session.upsert`."""
        self._many(_upsert(relation), rows)

    def add(self, relation: Relation, rows: Sequence[Values]) -> None:
        """See `Session.add`."""
        self._many(_add(relation), rows)

    def _many(self, sql: str, rows: Iterable[Values]) -> None:
        _cursor(self._connection).executemany(sql, rows)


class _LenientSession(SqliteSession):
    """Reads texts that somebody edited into what is none with surrogates in them.

    As long as they can be read at all, whoever checks them can say which ones they are.
    """

    def ask(self, sql: str, params: Sequence[object] = ()) -> Answer:
        """See `Session.ask`."""
        try:
            return super().ask(sql, params)
        except sqlite3.OperationalError as error:
            if not str(error).startswith(_UNDECODED):
                raise
        with _lenient(self._connection):
            return super().ask(sql, params)


class _Rows:
    """Implements `Answer`."""

    def __init__(self, rows: list[Any]) -> None:
        self._rows = rows

    def fetchall(self) -> list[Any]:
        """See `Answer.fetchall`."""
        return self._rows


# The statements below are built from declared identifiers alone; no value is ever part of a text.


def _json(values: list[Any]) -> str:
    """A list bound as one value: no limit on its length, and one statement for all lengths."""
    return msgspec.json.encode(values).decode()


@lru_cache(maxsize=512)
def _translated(sql: str) -> str:
    return sql.replace("IN ??", "IN (SELECT value FROM json_each(?))")


@lru_cache(maxsize=256)
def _insert(relation: Relation) -> str:
    marks = ", ".join("?" * len(relation.columns))
    return f"INSERT INTO {quoted(relation.name)} ({relation.listed}) VALUES ({marks})"  # noqa: S608


@lru_cache(maxsize=256)
def _update(relation: Relation) -> str:
    changes = ", ".join(f"{quoted(name)} = ?" for name in relation.rest)
    key = " AND ".join(f"{quoted(name)} = ?" for name in relation.key)
    return f"UPDATE {quoted(relation.name)} SET {changes} WHERE {key}"  # noqa: S608


@lru_cache(maxsize=256)
def _keys_last(relation: Relation) -> Callable[[Values], Values]:
    """Puts a row's values in the order in which `_update` names them."""
    return itemgetter(*map(relation.names.index, (*relation.rest, *relation.key)))


@lru_cache(maxsize=256)
def _upsert(relation: Relation) -> str:
    changes = ", ".join(f"{quoted(name)} = excluded.{quoted(name)}" for name in relation.rest)
    key = ", ".join(map(quoted, relation.key))
    return f"{_insert(relation)} ON CONFLICT ({key}) DO UPDATE SET {changes}"


@lru_cache(maxsize=256)
def _add(relation: Relation) -> str:
    (value,) = map(quoted, relation.rest)
    key = ", ".join(map(quoted, relation.key))
    sum_of = f"{value} + excluded.{value}"
    return f"{_insert(relation)} ON CONFLICT ({key}) DO UPDATE SET {value} = {sum_of}"
