"""Wrapped keys in PostgreSQL, at a URL of their own.

An emptied row leaves its old version behind until VACUUM, and in write-ahead logs and backups; what
stays there is wrapped by the master key of its time. A rotation leaves none in the tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from threading import Lock
from typing import Any, LiteralString, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict

from dee_es.adapters.keys import postgres_sql as sql
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
from dee_es.adapters.postgres_connections import (
    HANDED_ON,
    LEFT_OPEN,
    OURS,
    is_direct,
    is_handed_on,
    named,
    refusal,
    seconds_for,
)
from dee_es.adapters.postgres_waits import PatientConnection, Unanswered
from dee_es.errors import InvalidInput, StoreUnavailable

ResultT = TypeVar("ResultT")
Connection = psycopg.Connection[tuple[Any, ...]]


class PostgresKeyTable:
    """A `KeyTable` behind a URL; one connection, used by one thread at a time, opened again when
    the server has dropped it."""

    def __init__(self, url: str) -> None:
        given = _parsed(url)
        self.where = _describe(given)
        self._placed = "search_path" in str(given.get("options") or "")
        each_s, _ = seconds_for(given, sql.CONNECT_S)
        self._connect_with = {
            **sql.CONNECT,
            **LEFT_OPEN,
            **given,
            **OURS,
            "connect_timeout": each_s,
        }
        self._lock = Lock()
        self._connection: Connection | None = None
        self._open = True
        try:
            self._run(_prepare)
            self._require_session()
        except BaseException:
            self.close()
            raise

    def opening(self, make: Callable[[], bytes] | None) -> Opening:
        """See `KeyTable.opening`; of several processes that open a new store, one makes it."""

        def read_or_make(connection: Connection) -> Opening:
            # Behind a lock which a rotation takes as well.
            _lock(connection, alone=False)
            secret = _meta(connection, "store")
            if secret is None and make is not None:
                # Only who makes it needs the row's lock, and with it the right to write.
                row = connection.execute(sql.SECRET).fetchone()
                secret = None if row is None or row[0] is None else bytes(row[0])
                if secret is None:
                    secret = make()
                    connection.execute(sql.SET_SECRET, (secret,))
            return Opening(secret, _state(connection))

        return self._run(read_or_make)

    def state(self) -> TableState:
        """See `KeyTable.state`."""
        return self._run(_state)

    def insert(self, rows: Sequence[tuple[bytes, bytes]], generation: int) -> bool:
        """See `KeyTable.insert`."""

        def copy(connection: Connection) -> None:
            _lock(connection, alone=False)
            _require(connection, generation)
            _copy(connection, "keys", rows)

        try:
            self._run(copy)
        except psycopg.errors.UniqueViolation:
            # Also what a second try meets when only the reply to the first one was lost; those keys
            # are then left unused.
            return False
        return True

    def add(self, rows: Sequence[Row], generation: int) -> int:
        """See `KeyTable.add`."""

        def add(connection: Connection) -> int:
            _lock(connection, alone=False)
            _require(connection, generation)
            ids, wrapped = [key_id for key_id, _ in rows], [key for _, key in rows]
            return connection.execute(sql.ADD, (ids, wrapped)).rowcount

        return self._run(add)

    def fetch(self, key_ids: Sequence[bytes]) -> Mapping[bytes, bytes | None]:
        """See `KeyTable.fetch`."""
        wanted = list(key_ids)

        def select(connection: Connection) -> dict[bytes, bytes | None]:
            cursor = connection.cursor(binary=True)
            return dict(cursor.execute(sql.FETCH, (wanted,)).fetchall())

        return self._run(select)

    def destroy(self, key_id: bytes) -> bool:
        """See `KeyTable.destroy`."""

        def empty(connection: Connection) -> bool:
            _lock(connection, alone=True)
            known = connection.execute(sql.DESTROY, (key_id,)).rowcount == 1
            if known:
                connection.execute(sql.EMPTY_STAGED, ([key_id],))
                connection.execute(sql.COUNT, (1,))
            return known

        return self._run(empty)

    def bury(self, key_ids: Sequence[bytes]) -> int:
        """See `KeyTable.bury`."""
        ids = list(dict.fromkeys(key_ids))

        def bury(connection: Connection) -> int:
            _lock(connection, alone=True)
            changed = connection.execute(sql.BURY, (ids,)).rowcount
            connection.execute(sql.EMPTY_STAGED, (ids,))
            connection.execute(sql.COUNT, (changed,))
            return changed

        return self._run(bury)

    def counts(self) -> tuple[int, int]:
        """See `KeyTable.counts`."""
        held, destroyed = self._run(lambda connection: _one(connection, sql.COUNTS))
        return held, destroyed

    def set_note(self, name: str, value: bytes) -> None:
        """See `KeyTable.set_note`."""
        self._run(lambda connection: connection.execute(sql.SET_META, (f"note:{name}", value)))

    def note(self, name: str) -> bytes | None:
        """See `KeyTable.note`."""
        return self._run(lambda connection: _meta(connection, f"note:{name}"))

    def retired(self, fingerprint: bytes) -> bool:
        """See `KeyTable.retired`."""
        return self._run(lambda connection: _meta(connection, _retired(fingerprint)) is not None)

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """See `KeyTable.snapshot`; on a connection of its own, since it may take long."""
        with self._bounded(), self._connect() as connection:
            connection.execute(sql.PATIENT)
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            with connection.transaction():
                opening = Opening(_meta(connection, "store"), _state(connection))
                total = sum(_one(connection, sql.COUNTS))
                with connection.cursor("all", binary=True) as cursor:
                    cursor.execute(sql.ALL)
                    yield Snapshot(opening, total, iter(lambda: cursor.fetchmany(PAGE), []))

    def begin(self, target: bytes, generation: int) -> bytes:
        """See `KeyTable.begin`."""

        def begin(connection: Connection) -> bytes:
            _lock(connection, alone=True)
            _require(connection, generation)
            if _meta(connection, "target") != target:
                connection.execute("TRUNCATE key_stage")
                connection.execute(sql.SET_META, ("target", target))
            row = connection.execute(sql.LAST_STAGED).fetchone()
            return b"" if row is None else bytes(row[0])

        return self._run(begin)

    def rotating(self) -> bool:
        """See `KeyTable.rotating`."""
        return self._run(lambda connection: _meta(connection, "target") is not None)

    def stage(
        self, after: bytes | None, rewrap: Rewrap, target: bytes, generation: int
    ) -> list[Row]:
        """See `KeyTable.stage`."""

        def stage(connection: Connection) -> list[Row]:
            _lock(connection, alone=True)
            _require(connection, generation, target)
            return _stage(connection, after, rewrap)

        return self._run(stage)

    def swap(
        self, rewrap: Rewrap, secret: bytes, target: bytes, retiring: bytes, generation: int
    ) -> None:
        """See `KeyTable.swap`."""

        def swap(connection: Connection) -> None:
            _lock(connection, alone=True)
            _require(connection, generation, target)
            while _stage(connection, None, rewrap):
                pass
            connection.execute(sql.SET_SECRET, (secret,))
            connection.execute(sql.NEXT_GENERATION)
            connection.execute(sql.SET_META, (_retired(retiring), b""))
            connection.execute(sql.FORGET_META, ("target",))
            connection.execute(sql.SWAP)

        self._run(swap)

    def clear(self) -> None:
        """See `KeyTable.clear`: the table of the former rows was dropped with its file."""

    def close(self) -> None:
        """See `KeyTable.close`."""
        with self._lock:
            self._open = False
            self._drop()

    def _run(self, work: Callable[[Connection], ResultT]) -> ResultT:
        """Do the work in one transaction; once more if the connection turns out to be lost.

        All work here may be done twice: what it adds has ids of its own, and a key that is
        destroyed twice is destroyed.
        """
        with self._lock, self._bounded():
            if not self._open:
                raise StoreUnavailable(f"{self.where} was closed; open it again")
            reused = self._connection is not None
            try:
                return self._attempt(work)
            except Unanswered:
                raise
            except psycopg.OperationalError:
                lost = self._connection is None or self._connection.closed
                if not (reused and lost):
                    raise
                self._drop()
                return self._attempt(work)

    def _attempt(self, work: Callable[[Connection], ResultT]) -> ResultT:
        if self._connection is None:
            self._connection = self._connect()
        with self._connection.transaction():
            return work(self._connection)

    def _require_session(self) -> None:
        """Raises `StoreUnavailable` if what is set for the connection counts for others."""
        with self._lock, self._bounded():
            mine = self._connection
            if mine is None or is_direct(mine):
                return
            try:
                second = self._connect()
            except psycopg.OperationalError:
                return  # of a pooler that has no other, nobody else can have had this one
            with second as other:
                if is_handed_on(mine, other):
                    raise StoreUnavailable(f"{self.where}: {HANDED_ON}")

    def _connect(self) -> Connection:
        connection: PatientConnection[tuple[Any, ...]] = PatientConnection.connect(
            **self._connect_with, autocommit=True
        )
        connection.patience_s = sql.PATIENCE_S
        connection.execute(sql.SETTINGS)
        if not self._placed:
            connection.execute(sql.PLACE)
        return connection

    def _drop(self) -> None:
        if self._connection is not None:
            with suppress(psycopg.Error):
                self._connection.close()
            self._connection = None

    @contextmanager
    def _bounded(self) -> Iterator[None]:
        """Turn what PostgreSQL refuses into `StoreUnavailable`."""
        try:
            yield
        except psycopg.errors.UniqueViolation:
            raise
        except psycopg.Error as error:
            if self._connection is not None and self._connection.closed:
                self._drop()
            raise StoreUnavailable(f"{self.where}: {_reason(error)}") from error


def _prepare(connection: Connection) -> None:
    # Two processes that make the same table at once would clash in the catalogue.
    connection.execute(f"SELECT pg_advisory_xact_lock({sql.LOCK})")
    _lock(connection, alone=False)
    # What is there is only looked at: a role that may not make tables can work with it.
    if not (_one(connection, sql.HAS_TABLES)[0] and _one(connection, sql.HAS_ROWS)[0]):
        connection.execute(sql.SCHEMA)


def _lock(connection: Connection, *, alone: bool) -> None:
    # A statement of its own: the next one then sees what was committed while this one waited.
    shared = "" if alone else "_shared"
    connection.execute(f"SELECT pg_advisory_xact_lock{shared}({sql.ROWS_LOCK})")


def _require(connection: Connection, generation: int, target: bytes | None = None) -> None:
    if _state(connection).generation != generation:
        raise GenerationMoved
    if target is not None and _meta(connection, "target") != target:
        raise RotationReplaced


def _one(connection: Connection, query: LiteralString) -> tuple[Any, ...]:
    row = connection.execute(query).fetchone()
    assert row is not None, "an aggregate has one row"
    return row


def _state(connection: Connection) -> TableState:
    found: dict[str, int] = dict(connection.execute(sql.STATE).fetchall())
    return TableState(found.get("store", 0), found.get("generation", 0))


def _meta(connection: Connection, name: str) -> bytes | None:
    row = connection.execute(sql.META, (name,)).fetchone()
    return None if row is None or row[0] is None else bytes(row[0])


def _copy(connection: Connection, table: LiteralString, rows: Sequence[Row]) -> None:
    with connection.cursor().copy(sql.COPY.format(table)) as stream:
        stream.set_types(("bytea", "bytea"))
        for row in rows:
            stream.write_row(row)


def _stage(connection: Connection, after: bytes | None, rewrap: Rewrap) -> list[Row]:
    cursor = connection.cursor(binary=True)
    page: list[Row]
    if after is None:
        page = cursor.execute(sql.UNSTAGED, (CATCH_UP,)).fetchall()
        known: set[bytes] = set()
    else:
        page = cursor.execute(sql.NEXT, (after, PAGE)).fetchall()
        ids = [key_id for key_id, _ in page]
        known = {row[0] for row in cursor.execute(sql.STAGED, (ids,)).fetchall()}
    _copy(connection, "key_stage", rewrap([row for row in page if row[0] not in known]))
    return page


def _retired(fingerprint: bytes) -> str:
    return f"retired:{fingerprint.hex()}"


def _parsed(url: str) -> dict[str, Any]:
    try:
        return conninfo_to_dict(url)
    except psycopg.Error:
        # `from None`: libpq quotes what it could not read, a password for example.
        raise InvalidInput("key store URL", "is not a PostgreSQL URL") from None


def _describe(given: Mapping[str, Any]) -> str:
    """Name the store without its password."""
    if given.get("service"):
        return f"key store on PostgreSQL, {named(given)}"
    host, name = given.get("host") or "localhost", given.get("dbname") or ""
    return f"key store {name} on PostgreSQL at {host}"


def _reason(error: psycopg.Error) -> str:
    # The first line only: PostgreSQL puts values of the row into the details.
    return refusal(error)
