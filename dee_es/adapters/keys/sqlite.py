"""Wrapped keys in an SQLite file of their own, which several processes may open."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from itertools import chain
from pathlib import Path
from threading import Lock
from typing import Final

from dee_es.adapters.keys.key_table import (
    CATCH_UP,
    PAGE,
    GenerationMoved,
    Opening,
    Rewrap,
    RotationReplaced,
    Row,
    Snapshot,
    TableState,
)
from dee_es.adapters.sqlite_files import OpenedFile, told_of_file, write_ahead
from dee_es.errors import InvalidInput, StoreUnavailable

BUSY_TIMEOUT_S: Final = 10.0
_VARIABLES: Final = 900
"""SQLite builds allow at least 999 parameters in a statement."""

# secure_delete: a destroyed key is overwritten, not merely unlinked.
_PRAGMAS: Final = """
PRAGMA synchronous = FULL;
PRAGMA secure_delete = ON;
"""

_STAGE_TABLE: Final = """
CREATE TABLE IF NOT EXISTS key_stage (
    key_id BLOB PRIMARY KEY,
    wrapped BLOB
) WITHOUT ROWID
"""
# The meta table holds: destroyed, secret, generation, target (of a rotation under way),
# retired:<fingerprint> of former master keys, note:<name>, and in a backup `backup`.
SCHEMA: Final = """
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS keys (
    key_id BLOB PRIMARY KEY,
    wrapped BLOB
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS key_stage (
    key_id BLOB PRIMARY KEY,
    wrapped BLOB
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS key_meta (
    name TEXT PRIMARY KEY,
    value NOT NULL
) WITHOUT ROWID;
INSERT OR IGNORE INTO key_meta (name, value) VALUES ('destroyed', 0), ('generation', 0);
COMMIT;
"""

META: Final = "SELECT value FROM key_meta WHERE name = ?"
SET_META: Final = "INSERT OR REPLACE INTO key_meta (name, value) VALUES (?, ?)"
_FORGET_META: Final = "DELETE FROM key_meta WHERE name = ?"
INSERT: Final = "INSERT INTO keys (key_id, wrapped) VALUES (?, ?)"
_TOGETHER: Final = 128
"""Rows that are inserted by one statement, which takes half as long as one for each."""
_INSERT_MANY: Final = INSERT + ", (?, ?)" * (_TOGETHER - 1)
_ADD: Final = "INSERT OR IGNORE INTO keys (key_id, wrapped) VALUES (?, ?)"
_FETCH: Final = "SELECT key_id, wrapped FROM keys WHERE key_id IN ({})"
ALL: Final = "SELECT key_id, wrapped FROM keys ORDER BY key_id"
COUNTS: Final = "SELECT count(wrapped), count(*) - count(wrapped) FROM keys"
_DESTROY: Final = "UPDATE keys SET wrapped = NULL WHERE key_id = ?"
_BURY: Final = """
INSERT INTO keys (key_id, wrapped) VALUES (?, NULL)
ON CONFLICT (key_id) DO UPDATE SET wrapped = NULL WHERE wrapped IS NOT NULL
"""
_EMPTY_STAGED: Final = "UPDATE key_stage SET wrapped = NULL WHERE key_id = ?"
_COUNT: Final = "UPDATE key_meta SET value = value + ? WHERE name = 'destroyed'"
_STATE: Final = "SELECT name, value FROM key_meta WHERE name IN ('destroyed', 'generation')"
_LAST_STAGED: Final = "SELECT max(key_id) FROM key_stage"
_NEXT: Final = "SELECT key_id, wrapped FROM keys WHERE key_id > ? ORDER BY key_id LIMIT ?"
_UNSTAGED: Final = """
SELECT key_id, wrapped FROM keys
WHERE NOT EXISTS (SELECT 1 FROM key_stage WHERE key_stage.key_id = keys.key_id) LIMIT ?
"""
_STAGE: Final = "INSERT OR IGNORE INTO key_stage (key_id, wrapped) VALUES (?, ?)"
_SWAP: Final = ("DROP TABLE keys", "ALTER TABLE key_stage RENAME TO keys")


class SqliteKeyTable:
    """A `KeyTable` in a file; one connection, used by one thread at a time."""

    def __init__(self, path: str | Path, create: bool = True) -> None:
        self.where = f"key store {path}"
        self._path = Path(path)
        self._file = OpenedFile(str(path))
        self._lock = Lock()
        if not create and not self._path.exists():
            raise StoreUnavailable(
                f"there is no key store at {path}; bring a backup back with `dee keys restore`"
            )
        with self._bounded():
            # Made before SQLite opens it: the file, and those beside it, are for the owner only.
            with suppress(FileExistsError):
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            self._connection = self._connect()
            try:
                _refuse_backup(self._connection, self._path)
                write_ahead(self._connection, BUSY_TIMEOUT_S)
                self._connection.executescript(_PRAGMAS)
                self._connection.executescript(SCHEMA)
                self._file.note()
            except BaseException:
                self._connection.close()
                raise

    def opening(self, make: Callable[[], bytes] | None) -> Opening:
        """See `KeyTable.opening`; of several processes that open a new store, one makes it."""
        with self._transaction() as connection:
            secret = meta(connection, "secret")
            if secret is None and make is not None:
                secret = make()
                connection.execute(SET_META, ("secret", secret))
            return Opening(secret, state(connection))

    def state(self) -> TableState:
        """See `KeyTable.state`."""
        with self._lock, self._bounded():
            return state(self._connection)

    def insert(self, rows: Sequence[tuple[bytes, bytes]], generation: int) -> bool:
        """See `KeyTable.insert`."""
        try:
            with self._transaction() as connection:
                _require(connection, generation)
                _insert(connection, rows)
        except sqlite3.IntegrityError:
            return False
        return True

    def add(self, rows: Sequence[Row], generation: int) -> int:
        """See `KeyTable.add`."""
        with self._transaction() as connection:
            _require(connection, generation)
            return connection.executemany(_ADD, rows).rowcount

    def fetch(self, key_ids: Sequence[bytes]) -> Mapping[bytes, bytes | None]:
        """See `KeyTable.fetch`."""
        found: dict[bytes, bytes | None] = {}
        with self._lock, self._bounded():
            for start in range(0, len(key_ids), _VARIABLES):
                part = key_ids[start : start + _VARIABLES]
                query = _FETCH.format(",".join("?" * len(part)))
                found.update(self._connection.execute(query, part).fetchall())
        return found

    def destroy(self, key_id: bytes) -> bool:
        """See `KeyTable.destroy`. `StoreUnavailable` may also mean that the key is gone but its
        old row is still in the write-ahead log; destroying it again clears that too."""
        with self._transaction() as connection:
            if connection.execute(_DESTROY, (key_id,)).rowcount == 0:
                return False
            connection.execute(_EMPTY_STAGED, (key_id,))
            connection.execute(_COUNT, (1,))
        self._truncate("the key was destroyed", "destroy it again")
        return True

    def bury(self, key_ids: Sequence[bytes]) -> int:
        """See `KeyTable.bury`."""
        ids = [(key_id,) for key_id in dict.fromkeys(key_ids)]
        with self._transaction() as connection:
            changed = connection.executemany(_BURY, ids).rowcount
            connection.executemany(_EMPTY_STAGED, ids)
            connection.execute(_COUNT, (changed,))
        self._truncate("the keys were destroyed", "do it again")
        return changed

    def counts(self) -> tuple[int, int]:
        """See `KeyTable.counts`."""
        with self._lock, self._bounded():
            held, destroyed = self._connection.execute(COUNTS).fetchone()
        return held, destroyed

    def set_note(self, name: str, value: bytes) -> None:
        """See `KeyTable.set_note`."""
        with self._transaction() as connection:
            connection.execute(SET_META, (f"note:{name}", value))

    def note(self, name: str) -> bytes | None:
        """See `KeyTable.note`."""
        with self._lock, self._bounded():
            return meta(self._connection, f"note:{name}")

    def retired(self, fingerprint: bytes) -> bool:
        """See `KeyTable.retired`."""
        with self._lock, self._bounded():
            return self._connection.execute(META, (_retired(fingerprint),)).fetchone() is not None

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """See `KeyTable.snapshot`; on a connection of its own, since it may take long."""
        with self._bounded(), closing(self._connect()) as connection:
            connection.execute("BEGIN")
            opening = Opening(meta(connection, "secret"), state(connection))
            total = sum(connection.execute(COUNTS).fetchone())
            yield Snapshot(opening, total, pages(connection))
            connection.execute("COMMIT")

    def begin(self, target: bytes, generation: int) -> bytes:
        """See `KeyTable.begin`."""
        with self._transaction() as connection:
            _require(connection, generation)
            if meta(connection, "target") != target:
                connection.execute("DROP TABLE key_stage")
                connection.execute(_STAGE_TABLE)
                connection.execute(SET_META, ("target", target))
            return connection.execute(_LAST_STAGED).fetchone()[0] or b""

    def rotating(self) -> bool:
        """See `KeyTable.rotating`."""
        with self._lock, self._bounded():
            return meta(self._connection, "target") is not None

    def stage(
        self, after: bytes | None, rewrap: Rewrap, target: bytes, generation: int
    ) -> list[Row]:
        """See `KeyTable.stage`."""
        with self._transaction() as connection:
            _require(connection, generation, target)
            return _stage(connection, after, rewrap)

    def swap(
        self, rewrap: Rewrap, secret: bytes, target: bytes, retiring: bytes, generation: int
    ) -> None:
        """See `KeyTable.swap`."""
        with self._transaction() as connection:
            _require(connection, generation, target)
            while _stage(connection, None, rewrap):
                pass
            for statement in (*_SWAP, _STAGE_TABLE):
                connection.execute(statement)
            connection.execute(SET_META, ("secret", secret))
            connection.execute(SET_META, ("generation", generation + 1))
            connection.execute(SET_META, (_retired(retiring), generation))
            connection.execute(_FORGET_META, ("target",))

    def clear(self) -> None:
        """See `KeyTable.clear`; raises `StoreUnavailable` while others keep reading."""
        self._truncate("the master key was replaced", "rotate again to finish")

    def close(self) -> None:
        """See `KeyTable.close`."""
        with self._lock:
            self._connection.close()

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(
            self._file.path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )

    def _truncate(self, done: str, remedy: str) -> None:
        # The write-ahead log still holds rows as they were before, and so does the file until what
        # is in the log has been brought there.
        with self._lock, self._bounded():
            busy, *_ = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise StoreUnavailable(
                f"{self.where}: {done}, but others kept reading and its wrapped form "
                f"could not be cleared from the write-ahead log; {remedy}"
            )

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        connection = self._connection
        with self._lock, self._bounded():
            # Whoever is interrupted while waiting for the lock hears of it when it has the lock.
            try:
                # IMMEDIATE: a deferred transaction that reads and then writes fails at once when
                # another process has committed between the two, whatever the timeout.
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _bounded(self) -> Iterator[None]:
        """Turn what SQLite and the file system refuse into `StoreUnavailable`."""
        self._file.require()
        try:
            yield
        except sqlite3.IntegrityError:
            raise
        except sqlite3.Error as error:
            told = told_of_file(self._path, error)
            if type(error) is sqlite3.DatabaseError:
                # What SQLite says of a file that is damaged or none of its own.
                told += "; move it aside, and bring a backup back with `dee keys restore`"
            raise StoreUnavailable(f"{self.where}: {told}") from error
        except OSError as error:
            raise StoreUnavailable(f"{self.where}: {error.strerror}") from error


def meta(connection: sqlite3.Connection, name: str) -> bytes | None:
    """A binary entry of the meta table."""
    row = connection.execute(META, (name,)).fetchone()
    if row is None:
        return None
    # A damaged file may say anything, such as a number, of which `bytes` would make so many zeros.
    return row[0] if isinstance(row[0], bytes) else b""


def state(connection: sqlite3.Connection) -> TableState:
    """The counts that tell of changes by others."""
    found = dict(connection.execute(_STATE).fetchall())
    return TableState(int(found.get("destroyed", 0)), int(found.get("generation", 0)))


def pages(connection: sqlite3.Connection) -> Iterator[list[Row]]:
    """All rows in order of their ids."""
    with closing(connection.execute(ALL)) as cursor:
        while page := cursor.fetchmany(PAGE):
            yield page


def _require(connection: sqlite3.Connection, generation: int, target: bytes | None = None) -> None:
    if state(connection).generation != generation:
        raise GenerationMoved
    if target is not None and meta(connection, "target") != target:
        raise RotationReplaced


def _insert(connection: sqlite3.Connection, rows: Sequence[tuple[bytes, bytes]]) -> None:
    rest = len(rows) % _TOGETHER
    whole = len(rows) - rest
    for start in range(0, whole, _TOGETHER):
        values = chain.from_iterable(rows[start : start + _TOGETHER])
        connection.execute(_INSERT_MANY, tuple(values))
    connection.executemany(INSERT, rows[whole:])


def _stage(connection: sqlite3.Connection, after: bytes | None, rewrap: Rewrap) -> list[Row]:
    page: list[Row]
    if after is None:
        page = connection.execute(_UNSTAGED, (CATCH_UP,)).fetchall()
    else:
        page = connection.execute(_NEXT, (after, PAGE)).fetchall()
    connection.executemany(_STAGE, rewrap(page))
    return page


def _retired(fingerprint: bytes) -> str:
    return f"retired:{fingerprint.hex()}"


def _refuse_backup(connection: sqlite3.Connection, path: Path) -> None:
    # Opened as it is, a backup would bring back keys that were destroyed since.
    found = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'key_meta'").fetchone()
    if found is not None and meta(connection, "backup") is not None:
        raise InvalidInput(
            "keys",
            f"{path} is a backup and is not opened as it is, since it may hold keys that were "
            "destroyed; bring it back with `dee keys restore`",
        )
